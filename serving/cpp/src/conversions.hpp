// Plain values, from C++ to Python and back. The caller holds the lock.
#pragma once

#include <map>
#include <string>

#include "hybridstitch/runtime.hpp"
#include "python.hpp"

namespace hybridstitch {

// A str; what: names the text in the message. Throws InvalidRequest where it is not UTF-8.
Ref to_python(const std::string& what, const std::string& text);

// A dict of the settings of a request. Throws InvalidRequest where one is not UTF-8.
Ref to_python(const std::map<std::string, std::string>& settings);

// A str as UTF-8; None: empty.
std::string to_string(PyObject* text);

int to_int(PyObject* number);

// bytes, as they are.
std::string to_bytes(PyObject* bytes);

// From (width, height, rows of RGB), as bridge.py gives them.
Image to_image(PyObject* pixels);

}  // namespace hybridstitch
