#include "interpreter.hpp"

#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "hybridstitch/runtime.hpp"
#include "python.hpp"

namespace hybridstitch {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVersion = "3." Py_STRINGIFY(PY_MINOR_VERSION);

bool is_environment(const fs::path& folder) { return fs::exists(folder / "pyvenv.cfg"); }

fs::path find_environment(const std::string& told) {
    if (!told.empty()) {
        return fs::absolute(told);
    }
    if (const char* activated = std::getenv("VIRTUAL_ENV"); activated != nullptr && *activated != '\0') {
        return activated;
    }
    const fs::path program = fs::read_symlink("/proc/self/exe");
    for (fs::path folder = program.parent_path();; folder = folder.parent_path()) {
        for (const fs::path& place : {folder, folder / ".venv"}) {
            if (is_environment(place)) {
                return place;
            }
        }
        if (folder == folder.root_path()) {
            break;
        }
    }
    throw StartError("found no Python environment: name one (Options::venv), activate one (VIRTUAL_ENV), or put " +
                     program.string() + " below a folder that has it as .venv");
}

void check_environment(const fs::path& folder) {
    if (!fs::exists(folder / "bin" / "python3")) {
        throw StartError(folder.string() + " is no Python environment: it has no bin/python3");
    }
    if (!fs::is_directory(folder / "lib" / (std::string("python") + kVersion))) {
        throw StartError(folder.string() + " is not of Python " + kVersion +
                         ", for which this library was built: build it with that environment's Python");
    }
}

void check(const PyStatus& status) {
    if (PyStatus_Exception(status)) {
        throw StartError(std::string("Python does not start: ") + (status.err_msg != nullptr ? status.err_msg : ""));
    }
}

struct Config : PyConfig {
    Config() : PyConfig() { PyConfig_InitIsolatedConfig(this); }
    ~Config() { PyConfig_Clear(this); }
    Config(const Config&) = delete;
    Config& operator=(const Config&) = delete;
};

// Isolated: PYTHONPATH and its like, the user's own packages, signal handlers and stdio of the program are none of
// this Python's business. The environment's python3 as executable makes it find the packages of the environment.
void initialise(const fs::path& environment) {
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;  // whatever the locale of the program
    check(Py_PreInitialize(&before));
    Config config;
    const std::string python = (environment / "bin" / "python3").string();
    check(PyConfig_SetBytesString(&config, &config.executable, python.c_str()));
    check(PyConfig_SetBytesString(&config, &config.program_name, python.c_str()));
    check(Py_InitializeFromConfig(&config));
    PyEval_SaveThread();
}

}  // namespace

// Python is never finalised: torch and NumPy do not survive it, and a thread that would then wait for the lock is
// ended in the middle of its C++. Service::close has joined the threads that draw; the rest goes with the process.
void start_python(const std::string& venv) {
    static std::mutex starting;
    static fs::path& running = *new fs::path;  // never destroyed, as Python is not
    const std::lock_guard<std::mutex> lock(starting);
    if (Py_IsInitialized() && running.empty()) {
        return;  // the program's own Python: its packages are what it is
    }
    const fs::path environment = find_environment(venv);
    check_environment(environment);
    const fs::path whole = fs::canonical(environment);
    if (running.empty()) {
        initialise(environment);
        running = whole;
    } else if (whole != running) {
        throw StartError("this process runs Python in " + running.string() + ": it cannot have a second one in " +
                         whole.string());
    }
}

std::string another_python() {
    const std::string found = Py_GetVersion();  // such as "3.11.7 (main, ...)"
    const std::string version = found.substr(0, found.find(' '));
    if (version == PY_VERSION) {
        return {};
    }
    return "; the loader found the libpython of Python " + version +
           ", and this library was built with " PY_VERSION
           ": put the folder of that one's libpython into LD_LIBRARY_PATH";
}

}  // namespace hybridstitch
