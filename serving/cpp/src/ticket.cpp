#include "ticket.hpp"

#include <utility>

#include "conversions.hpp"
#include "exceptions.hpp"

namespace hybridstitch {

Ref Ticket::State::result() const {
    Ref picture(PyObject_CallMethod(ticket.get(), "result", nullptr));
    if (!picture && callback->thrown != nullptr) {
        PyErr_Clear();
        std::rethrow_exception(callback->thrown);
    }
    return checked(picture.release());
}

Ticket::Ticket(std::shared_ptr<State> state) : state_(std::move(state)) {}

Image Ticket::wait() const {
    const Gil gil;
    const Ref picture = state_->result();
    return to_image(checked(PyObject_CallMethod(state_->bridge->get(), "pixels", "O", picture.get())).get());
}

std::string Ticket::wait_png() const {
    const Gil gil;
    const Ref picture = state_->result();
    return to_bytes(checked(PyObject_CallMethod(state_->bridge->get(), "png", "O", picture.get())).get());
}

void Ticket::cancel() const {
    const Gil gil;
    checked(PyObject_CallMethod(state_->ticket.get(), "cancel", nullptr));
}

bool Ticket::done() const {
    const Gil gil;
    return checked(PyObject_GetAttrString(state_->ticket.get(), "done")).get() == Py_True;
}

}  // namespace hybridstitch
