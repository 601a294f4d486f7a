// The options of a service, as Python takes them.
#pragma once

#include "hybridstitch/runtime.hpp"
#include "python.hpp"

namespace hybridstitch {

// A dict of those that are set, by their names in Python's ServiceOptions, which has the default of every other one
// and checks all of them. Options::venv is none of them. The caller holds the lock. Throws InvalidRequest where a text
// is not UTF-8.
Ref to_python(const Options& options);

}  // namespace hybridstitch
