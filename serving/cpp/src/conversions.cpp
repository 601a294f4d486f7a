#include "conversions.hpp"

#include "exceptions.hpp"

namespace hybridstitch {

Ref to_python(const std::string& what, const std::string& text) {
    Ref object(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "strict"));
    if (!object) {
        PyErr_Clear();
        throw InvalidRequest(what + " is not UTF-8 text");
    }
    return object;
}

Ref to_python(const std::map<std::string, std::string>& settings) {
    Ref found = checked(PyDict_New());
    for (const auto& [name, text] : settings) {
        const Ref key = to_python("a setting's name", name);
        const Ref value = to_python(name, text);
        if (PyDict_SetItem(found.get(), key.get(), value.get()) != 0) {
            throw_raised();
        }
    }
    return found;
}

std::string to_string(PyObject* text) {
    if (text == Py_None) {
        return {};
    }
    Py_ssize_t length = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(text, &length);
    if (bytes == nullptr) {
        PyErr_Clear();
        return "?";
    }
    return {bytes, static_cast<std::size_t>(length)};
}

int to_int(PyObject* number) { return static_cast<int>(PyLong_AsLong(number)); }

std::string to_bytes(PyObject* bytes) {
    return {PyBytes_AsString(bytes), static_cast<std::size_t>(PyBytes_Size(bytes))};
}

Image to_image(PyObject* pixels) {
    Image image;
    const char* bytes = nullptr;
    Py_ssize_t length = 0;
    if (PyArg_ParseTuple(pixels, "iiy#", &image.width, &image.height, &bytes, &length) == 0) {
        throw_raised();
    }
    image.rgb.assign(bytes, bytes + length);
    return image;
}

}  // namespace hybridstitch
