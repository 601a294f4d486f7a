#include <utility>

#include "conversions.hpp"
#include "exceptions.hpp"
#include "hybridstitch/runtime.hpp"
#include "interpreter.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "python.hpp"
#include "ticket.hpp"

namespace hybridstitch {

struct Service::State {
    std::shared_ptr<Shared> bridge;  // serving/cpp/bridge.py's

    // The caller holds the lock.
    Ref service() const { return checked(PyObject_GetAttrString(bridge->get(), "service")); }
    Ref read(const char* name) const { return checked(PyObject_GetAttrString(service().get(), name)); }
};

Service::Service(const Options& options) : state_(std::make_unique<State>()) {
    start_python(options.venv);
    const Gil gil;
    try {
        const Ref module = checked(PyImport_ImportModule("hybridstitch.serving.cpp.bridge"));
        const Ref type = checked(PyObject_GetAttrString(module.get(), "Bridge"));
        const Ref given = to_python(options);
        state_->bridge = std::make_shared<Shared>(checked(PyObject_CallMethod(type.get(), "load", "O", given.get())));
    } catch (const Error& error) {
        throw StartError(error.what() + another_python());
    }
}

Service::~Service() {
    try {
        close(false);
    } catch (const Error&) {
        // A destructor has nobody to tell.
    }
}

Ticket Service::submit(const Request& request, OnProgress on_progress) {
    const Gil gil;
    auto callback = std::make_shared<ProgressCallback>(ProgressCallback{std::move(on_progress), nullptr});
    const Ref prompt = to_python("the prompt", request.prompt);
    const Ref negative = request.negative_prompt ? to_python("the negative prompt", *request.negative_prompt) : none();
    const Ref size = to_python("the size", request.size);
    const Ref method = to_python("the method", request.method);
    const Ref settings = to_python(request.settings);
    const Ref progress = to_python(callback);
    Ref ticket =
        checked(PyObject_CallMethod(state_->bridge->get(), "submit", "OOLOOOdiO", prompt.get(), negative.get(),
                                    static_cast<long long>(request.seed), size.get(), method.get(), settings.get(),
                                    request.timeout.count(), request.previews, progress.get()));
    return Ticket(std::shared_ptr<Ticket::State>(
        new Ticket::State{state_->bridge, std::move(callback), Shared(std::move(ticket))}));
}

Image Service::generate(const Request& request, OnProgress on_progress) {
    return submit(request, std::move(on_progress)).wait();
}

std::string Service::generate_png(const Request& request, OnProgress on_progress) {
    return submit(request, std::move(on_progress)).wait_png();
}

void Service::close(bool drain) {
    const Gil gil;
    checked(PyObject_CallMethod(state_->service().get(), "close", "O", drain ? Py_True : Py_False));
}

int Service::max_queue() const {
    const Gil gil;
    const Ref options = checked(PyObject_GetAttrString(state_->bridge->get(), "options"));
    return to_int(checked(PyObject_GetAttrString(options.get(), "max_queue")).get());
}

bool Service::ready() const {
    const Gil gil;
    return state_->read("ready").get() == Py_True;
}

std::string Service::problem() const {
    const Gil gil;
    return to_string(state_->read("problem").get());
}

int Service::waiting() const {
    const Gil gil;
    return to_int(state_->read("waiting").get());
}

int Service::running() const {
    const Gil gil;
    return to_int(state_->read("running").get());
}

}  // namespace hybridstitch
