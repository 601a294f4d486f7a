// The embedded Python: started once, entered from any thread, its exceptions turned into ours.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <memory>
#include <string>

namespace hybridstitch {

// Starts Python in an environment (empty: as Options::venv says), unless this process runs it already.
// Throws StartError: no environment, one of another Python, or another than the one that runs.
void start_python(const std::string& venv);

// Holds Python's lock (GIL) for as long as it lives. Every use of a PyObject needs one.
class Gil {
public:
    Gil() : state_(PyGILState_Ensure()) {}
    ~Gil() { PyGILState_Release(state_); }
    Gil(const Gil&) = delete;
    Gil& operator=(const Gil&) = delete;

private:
    PyGILState_STATE state_;
};

struct DropReference {
    void operator()(PyObject* object) const { Py_DECREF(object); }
};
// A reference that is ours to drop.
using Ref = std::unique_ptr<PyObject, DropReference>;

// A new reference that a call into Python gave; null: throws what it raised (throw_raised).
Ref checked(PyObject* object);

// Throws the exception that Python has raised: one of ours by its name, else Error.
[[noreturn]] void throw_raised();

// What to add to a failed start: that the loader found the libpython of another build than this library's; else empty.
std::string another_python();

// str as UTF-8; None: empty.
std::string to_string(PyObject* text);

}  // namespace hybridstitch
