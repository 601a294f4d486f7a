#include "progress.hpp"

#include "conversions.hpp"
#include "exceptions.hpp"

namespace hybridstitch {
namespace {

using Held = std::shared_ptr<ProgressCallback>;

constexpr const char* kCapsule = "hybridstitch.progress";

Held* held_by(PyObject* capsule) { return static_cast<Held*>(PyCapsule_GetPointer(capsule, kCapsule)); }

// Without the lock. Nothing of C++ may cross Python, so what it throws is returned.
std::exception_ptr call_without_lock(const OnProgress& call, const Progress& progress) {
    std::exception_ptr thrown;
    PyThreadState* python = PyEval_SaveThread();
    try {
        call(progress);
    } catch (...) {
        thrown = std::current_exception();
    }
    PyEval_RestoreThread(python);
    return thrown;
}

// What the callback throws is kept for Ticket::wait; the exception of Python that is raised instead ends the request.
PyObject* call_back(PyObject* capsule, PyObject* arguments) {
    const Held callback = *held_by(capsule);
    Progress progress;
    const char* stage = nullptr;
    PyObject* preview = nullptr;
    if (PyArg_ParseTuple(arguments, "iisO", &progress.step, &progress.steps, &stage, &preview) == 0) {
        return nullptr;
    }
    std::exception_ptr thrown;
    try {
        progress.stage = stage;
        if (preview != Py_None) {
            progress.preview = to_image(preview);
        }
        thrown = call_without_lock(callback->call, progress);
    } catch (...) {
        thrown = std::current_exception();
    }
    if (thrown != nullptr) {
        callback->thrown = thrown;
        PyErr_SetString(PyExc_RuntimeError, "the progress callback threw");
        return nullptr;
    }
    Py_RETURN_NONE;
}

}  // namespace

Ref to_python(const std::shared_ptr<ProgressCallback>& callback) {
    static PyMethodDef method = {"on_progress", call_back, METH_VARARGS, nullptr};
    if (!callback->call) {
        return none();
    }
    auto held = std::make_unique<Held>(callback);
    const Ref capsule = checked(PyCapsule_New(held.get(), kCapsule, [](PyObject* self) { delete held_by(self); }));
    held.release();
    return checked(PyCFunction_New(&method, capsule.get()));
}

}  // namespace hybridstitch
