// What Python raises, thrown as the types of hybridstitch/runtime.hpp.
#pragma once

#include "python.hpp"

namespace hybridstitch {

// A new reference that a call into Python gave; null: throws what it raised (throw_raised).
Ref checked(PyObject* object);

// Throws the exception that Python has raised: one of ours by its name, else Error.
[[noreturn]] void throw_raised();

}  // namespace hybridstitch
