// Pictures of a pair of models, drawn inside a C++ process. The Python that draws them is embedded: nothing of it
// shows here, and every function may be called from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "hybridstitch/export.hpp"
#include "hybridstitch/version.hpp"

namespace hybridstitch {

// What goes wrong: what() is one line that says what it was, what is allowed and what to do.
class HYBRIDSTITCH_API Error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};
// No Python environment, none that fits, or engines that are missing, damaged or of another machine.
class HYBRIDSTITCH_API StartError : public Error {
    using Error::Error;
};
// A request that cannot be drawn, told before anything runs: a server answers 400.
class HYBRIDSTITCH_API InvalidRequest : public Error {
    using Error::Error;
};
// Not now: a server answers 503.
class HYBRIDSTITCH_API Unavailable : public Error {
    using Error::Error;
};
// As many requests wait as may.
class HYBRIDSTITCH_API QueueFull : public Unavailable {
    using Unavailable::Unavailable;
};
// The service is closing or closed.
class HYBRIDSTITCH_API Closed : public Unavailable {
    using Unavailable::Unavailable;
};
// Request::timeout passed before the picture was there (408).
class HYBRIDSTITCH_API TimedOut : public Error {
    using Error::Error;
};
// Ticket::cancel was called.
class HYBRIDSTITCH_API Cancelled : public Error {
    using Error::Error;
};
// This picture went wrong, such as one with NaN in it (500). Others drawn beside it are fine.
class HYBRIDSTITCH_API NotDrawn : public Error {
    using Error::Error;
};

// How a service is loaded. Python's ServiceOptions has the default of what is empty, and checks the rest: a value out of
// range is a StartError. docs/cpp.md lists defaults and ranges.
struct Options {
    // Folder of the virtual environment that hybridstitch-trt is installed in. Empty: the activated one
    // (VIRTUAL_ENV), else the one around the program, or a `.venv` in a folder above it.
    std::string venv;
    std::string pair;                // a recipe's name, or the path of its TOML file (default: demo)
    std::string engines;             // the folder of built engines: they can run code, name only one you trust
    std::string backend;             // onnxruntime (the default), tensorrt, tensorrt_rtx, torch
    std::string device;              // such as cuda:1
    std::string schedule;            // method and settings from a file that tune wrote
    std::optional<int> threads;      // CPU threads of an engine
    std::optional<bool> low_memory;  // hold text encoders and decoder only while they run
    std::optional<int> max_queue;    // requests that wait, at most; more are refused at once
    std::optional<int> max_batch;    // pictures drawn together, at most
    std::optional<std::chrono::duration<double>> max_delay;  // that a request waits for others of its batch, at most
    std::optional<bool> warm_up;                             // draw once before the service is ready
};

// What to draw. What is empty or not given is the recipe's.
struct Request {
    std::string prompt;  // UTF-8
    std::optional<std::string> negative_prompt;
    std::int64_t seed = 0;
    std::string size;                             // WxH in pixels, one of the recipe's
    std::string method;                           // hybrid, large, small, srdiffusion, t-stitch
    std::map<std::string, std::string> settings;  // of the method, as its flags take them: {{"steps", "20"}}
    std::chrono::duration<double> timeout{0};     // from submit to picture; 0: none
    int previews = 0;                             // 0 to 3: progress that carries a preview picture
};

struct Image {
    int width = 0;
    int height = 0;
    std::vector<std::uint8_t> rgb;  // height rows of width pixels of 3 bytes
};

struct Progress {
    int step = 0;  // 0: begun; then 1 to steps
    int steps = 0;
    std::string stage;             // large, hybrid, small
    std::optional<Image> preview;  // with Request::previews
};

// Called from the service's own thread, without Python's lock: be brief, the drawing waits. What it throws ends
// this request alone, and comes out of Ticket::wait.
using OnProgress = std::function<void(const Progress&)>;

// One request on its way; copies are of the same request. Dropping it cancels nothing.
class HYBRIDSTITCH_API Ticket {
public:
    // Both throw TimedOut, Cancelled, Closed, NotDrawn, Error, or what OnProgress threw. May be called again.
    Image wait() const;
    std::string wait_png() const;  // the file that `hybridstitch-trt run` writes, with how it was made in it

    void cancel() const;  // takes effect between two steps, or at once while it waits; idempotent
    bool done() const;

    struct __attribute__((visibility("hidden"))) State;

private:
    friend class Service;
    explicit Ticket(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
};

// A pair of models, loaded: one for each device, for all threads.
class HYBRIDSTITCH_API Service {
public:
    // Starts Python where it does not run yet (one environment a process), loads the engines and warms up.
    // Throws StartError.
    explicit Service(const Options& options);
    ~Service();  // close(false): what runs is finished, what waits is refused
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    // Throws InvalidRequest, QueueFull or Closed, at once.
    Ticket submit(const Request& request, OnProgress on_progress = {});

    // submit and wait.
    Image generate(const Request& request, OnProgress on_progress = {});
    std::string generate_png(const Request& request, OnProgress on_progress = {});

    // Finishes what is running and, with drain, what waits; refuses the rest with Closed. Idempotent.
    void close(bool drain = true);

    int max_queue() const;        // requests that wait, at most
    bool ready() const;           // a real inference lately succeeded
    std::string problem() const;  // why it is not ready; empty: nothing is wrong
    int waiting() const;          // requests
    int running() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace hybridstitch
