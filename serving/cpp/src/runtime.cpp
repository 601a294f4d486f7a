#include "hybridstitch/runtime.hpp"

#include <exception>
#include <iomanip>
#include <locale>
#include <sstream>
#include <utility>

#include "python.hpp"

namespace hybridstitch {
namespace {

constexpr const char* kCapsule = "hybridstitch.progress";

// What OnProgress is to Python: a function that holds it, and what it threw.
struct Callback {
    OnProgress call;
    std::exception_ptr thrown;
};

// (width, height, rows of RGB), as bridge.py gives them.
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

// Calls OnProgress without the lock. No C++ exception crosses Python: it is kept for Ticket::wait, and a Python one
// ends the request.
PyObject* call_back(PyObject* capsule, PyObject* arguments) {
    const auto callback = *static_cast<std::shared_ptr<Callback>*>(PyCapsule_GetPointer(capsule, kCapsule));
    Progress progress;
    const char* stage = nullptr;
    PyObject* preview = nullptr;
    if (PyArg_ParseTuple(arguments, "iisO", &progress.step, &progress.steps, &stage, &preview) == 0) {
        return nullptr;
    }
    std::exception_ptr thrown;
    try {
        progress.stage = stage;
        if (preview != Py_None) {
            progress.preview = to_image(preview);
        }
        PyThreadState* python = PyEval_SaveThread();
        try {
            callback->call(progress);
        } catch (...) {
            thrown = std::current_exception();
        }
        PyEval_RestoreThread(python);
    } catch (...) {
        thrown = std::current_exception();
    }
    if (thrown != nullptr) {
        callback->thrown = thrown;
        PyErr_SetString(PyExc_RuntimeError, "the progress callback threw");
        return nullptr;
    }
    Py_RETURN_NONE;
}

Ref to_python(const std::shared_ptr<Callback>& callback) {
    static PyMethodDef method = {"on_progress", call_back, METH_VARARGS, nullptr};
    if (!callback->call) {
        return Ref(Py_NewRef(Py_None));
    }
    auto held = std::make_unique<std::shared_ptr<Callback>>(callback);
    const Ref capsule = checked(PyCapsule_New(held.get(), kCapsule, [](PyObject* self) {
        delete static_cast<std::shared_ptr<Callback>*>(PyCapsule_GetPointer(self, kCapsule));
    }));
    held.release();
    return checked(PyCFunction_New(&method, capsule.get()));
}

// Throws InvalidRequest where the text is not UTF-8.
Ref to_python(const std::string& what, const std::string& text) {
    Ref object(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "strict"));
    if (!object) {
        PyErr_Clear();
        throw InvalidRequest(what + " is not UTF-8 text");
    }
    return object;
}

Ref to_python(const std::map<std::string, std::string>& texts) {
    Ref found = checked(PyDict_New());
    for (const auto& [name, text] : texts) {
        const Ref key = to_python("a setting's name", name);
        const Ref value = to_python(name, text);
        if (PyDict_SetItem(found.get(), key.get(), value.get()) != 0) {
            throw_raised();
        }
    }
    return found;
}

// Those that are given, as ServiceOptions.parsed reads them.
std::map<std::string, std::string> to_texts(const Options& options) {
    std::map<std::string, std::string> texts;
    const auto put = [&](const char* name, const std::string& text) {
        if (!text.empty()) texts[name] = text;
    };
    const auto put_number = [&](const char* name, const std::optional<int>& number) {
        if (number) texts[name] = std::to_string(*number);
    };
    const auto put_switch = [&](const char* name, const std::optional<bool>& on) {
        if (on) texts[name] = *on ? "true" : "false";
    };
    put("pair", options.pair);
    put("engines", options.engines);
    put("backend", options.backend);
    put("device", options.device);
    put("schedule", options.schedule);
    put_number("threads", options.threads);
    put_switch("low_memory", options.low_memory);
    put_number("max_queue", options.max_queue);
    put_number("max_batch", options.max_batch);
    if (options.max_delay) {
        std::ostringstream seconds;
        seconds.imbue(std::locale::classic());  // the program's locale may write a comma
        seconds << std::setprecision(17) << options.max_delay->count();
        texts["max_delay"] = seconds.str();
    }
    put_switch("warm_up", options.warm_up);
    return texts;
}

}  // namespace

// An object of Python that may be shared and dropped without its lock.
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

struct Service::State {
    std::shared_ptr<Shared> bridge;  // serving/cpp/bridge.py's

    // The caller holds the lock.
    Ref service() const { return checked(PyObject_GetAttrString(bridge->get(), "service")); }
    Ref read(const char* name) const { return checked(PyObject_GetAttrString(service().get(), name)); }
};

struct Ticket::State {
    std::shared_ptr<Shared> bridge;
    std::shared_ptr<Callback> callback;
    Shared ticket;

    // The picture. The caller holds the lock, which Python gives up while it waits.
    Ref result() const {
        Ref picture(PyObject_CallMethod(ticket.get(), "result", nullptr));
        if (!picture && callback->thrown != nullptr) {
            PyErr_Clear();
            std::rethrow_exception(callback->thrown);
        }
        return checked(picture.release());
    }
};

Ticket::Ticket(std::shared_ptr<State> state) : state_(std::move(state)) {}

Image Ticket::wait() const {
    const Gil gil;
    const Ref picture = state_->result();
    return to_image(checked(PyObject_CallMethod(state_->bridge->get(), "pixels", "O", picture.get())).get());
}

std::string Ticket::wait_png() const {
    const Gil gil;
    const Ref picture = state_->result();
    const Ref png = checked(PyObject_CallMethod(state_->bridge->get(), "png", "O", picture.get()));
    return {PyBytes_AsString(png.get()), static_cast<std::size_t>(PyBytes_Size(png.get()))};
}

void Ticket::cancel() const {
    const Gil gil;
    checked(PyObject_CallMethod(state_->ticket.get(), "cancel", nullptr));
}

bool Ticket::done() const {
    const Gil gil;
    return checked(PyObject_GetAttrString(state_->ticket.get(), "done")).get() == Py_True;
}

Service::Service(const Options& options) : state_(std::make_unique<State>()) {
    start_python(options.venv);
    const Gil gil;
    try {
        const Ref module = checked(PyImport_ImportModule("hybridstitch.serving.cpp.bridge"));
        const Ref type = checked(PyObject_GetAttrString(module.get(), "Bridge"));
        const Ref texts = to_python(to_texts(options));
        state_->bridge = std::make_shared<Shared>(checked(PyObject_CallMethod(type.get(), "load", "O", texts.get())));
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
    auto callback = std::make_shared<Callback>(Callback{std::move(on_progress), nullptr});
    const Ref prompt = to_python("the prompt", request.prompt);
    const Ref negative =
        request.negative_prompt ? to_python("the negative prompt", *request.negative_prompt) : Ref(Py_NewRef(Py_None));
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
    return static_cast<int>(PyLong_AsLong(checked(PyObject_GetAttrString(options.get(), "max_queue")).get()));
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
    return static_cast<int>(PyLong_AsLong(state_->read("waiting").get()));
}

int Service::running() const {
    const Gil gil;
    return static_cast<int>(PyLong_AsLong(state_->read("running").get()));
}

}  // namespace hybridstitch
