// The progress callback of a request, as a function that Python calls.
#pragma once

#include <exception>
#include <memory>

#include "hybridstitch/runtime.hpp"
#include "python.hpp"

namespace hybridstitch {

struct ProgressCallback {
    OnProgress call;
    std::exception_ptr thrown;  // by call: Ticket::wait throws it on
};

// A function that takes (step, steps, stage, preview) as bridge.py gives them, or None where there is nothing to call.
// It holds the callback for as long as Python holds it. The caller holds the lock.
Ref to_python(const std::shared_ptr<ProgressCallback>& callback);

}  // namespace hybridstitch
