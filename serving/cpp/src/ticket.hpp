// What a hybridstitch::Ticket holds.
#pragma once

#include <memory>

#include "hybridstitch/runtime.hpp"
#include "progress.hpp"
#include "python.hpp"

namespace hybridstitch {

struct Ticket::State {
    std::shared_ptr<Shared> bridge;  // serving/cpp/bridge.py's, which makes pixels and files of pictures
    std::shared_ptr<ProgressCallback> callback;
    Shared ticket;  // the service's own

    // The picture. The caller holds the lock, which Python gives up while it waits.
    Ref result() const;
};

}  // namespace hybridstitch
