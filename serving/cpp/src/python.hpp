// Python's lock, and references to its objects that drop themselves.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <memory>
#include <utility>

namespace hybridstitch {

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
// A reference that is ours to drop, under the lock.
using Ref = std::unique_ptr<PyObject, DropReference>;

inline Ref none() { return Ref(Py_NewRef(Py_None)); }

// An object of Python that may be shared, and dropped without its lock.
class Shared {
public:
    explicit Shared(Ref object) : object_(std::move(object)) {}
    ~Shared() {
        const Gil gil;
        object_.reset();
    }
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    PyObject* get() const { return object_.get(); }

private:
    Ref object_;
};

}  // namespace hybridstitch
