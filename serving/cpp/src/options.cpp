#include "options.hpp"

#include <optional>
#include <string>
#include <utility>

#include "conversions.hpp"
#include "exceptions.hpp"

namespace hybridstitch {
namespace {

// Numbers stay numbers: a text of one would depend on the locale of the program.
class Given {
public:
    void put(const char* name, const std::string& text) {
        if (!text.empty()) set(name, to_python(name, text));
    }
    void put(const char* name, const std::optional<int>& number) {
        if (number) set(name, checked(PyLong_FromLong(*number)));
    }
    void put(const char* name, const std::optional<bool>& on) {
        if (on) set(name, checked(PyBool_FromLong(*on)));
    }
    void put(const char* name, const std::optional<std::chrono::duration<double>>& seconds) {
        if (seconds) set(name, checked(PyFloat_FromDouble(seconds->count())));
    }
    Ref take() { return std::move(values_); }

private:
    void set(const char* name, const Ref& value) {
        if (PyDict_SetItemString(values_.get(), name, value.get()) != 0) throw_raised();
    }

    Ref values_ = checked(PyDict_New());
};

}  // namespace

Ref to_python(const Options& options) {
    Given given;
    given.put("pair", options.pair);
    given.put("engines", options.engines);
    given.put("backend", options.backend);
    given.put("device", options.device);
    given.put("schedule", options.schedule);
    given.put("threads", options.threads);
    given.put("low_memory", options.low_memory);
    given.put("max_queue", options.max_queue);
    given.put("max_batch", options.max_batch);
    given.put("max_delay", options.max_delay);
    given.put("warm_up", options.warm_up);
    return given.take();
}

}  // namespace hybridstitch
