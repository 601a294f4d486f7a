#include "exceptions.hpp"

#include <string>

#include "conversions.hpp"
#include "hybridstitch/runtime.hpp"

namespace hybridstitch {
namespace {

Ref take_raised() {
#if PY_VERSION_HEX >= 0x030c0000
    return Ref(PyErr_GetRaisedException());
#else
    PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return Ref(value);
#endif
}

}  // namespace

Ref checked(PyObject* object) {
    if (object == nullptr) {
        throw_raised();
    }
    return Ref(object);
}

void throw_raised() {
    const Ref raised = take_raised();
    const std::string name = raised ? Py_TYPE(raised.get())->tp_name : "";
    const Ref text(raised ? PyObject_Str(raised.get()) : nullptr);
    PyErr_Clear();
    const std::string message = text ? to_string(text.get()) : "";
    if (name == "HybridStitchError") throw InvalidRequest(message);
    if (name == "QueueFull") throw QueueFull(message);
    if (name == "Closed") throw Closed(message);
    if (name == "TimedOut") throw TimedOut(message);
    if (name == "Cancelled") throw Cancelled(message);
    if (name == "NotDrawn") throw NotDrawn(message);
    throw Error(name + ": " + message);
}

}  // namespace hybridstitch
