// Loads a service with each set of options that is a word of its command line (NAME=VALUE, one a line), and prints a
// line for each with what Python has of them.
#include <clocale>
#include <cstdio>
#include <functional>
#include <hybridstitch/runtime.hpp>
#include <iostream>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace hs = hybridstitch;

namespace {

void set(hs::Options& options, const std::string& name, const std::string& value) {
    const std::map<std::string, std::function<void()>> setters = {
        {"pair", [&] { options.pair = value; }},
        {"engines", [&] { options.engines = value; }},
        {"backend", [&] { options.backend = value; }},
        {"device", [&] { options.device = value; }},
        {"schedule", [&] { options.schedule = value; }},
        {"threads", [&] { options.threads = std::stoi(value); }},
        {"low_memory", [&] { options.low_memory = value == "True"; }},
        {"max_queue", [&] { options.max_queue = std::stoi(value); }},
        {"max_batch", [&] { options.max_batch = std::stoi(value); }},
        {"max_delay", [&] { options.max_delay = std::chrono::duration<double>(std::stod(value)); }},
        {"warm_up", [&] { options.warm_up = value == "True"; }},
    };
    setters.at(name)();
}

hs::Options to_options(const std::string& venv, const std::string& lines) {
    hs::Options options;
    options.venv = venv;
    std::istringstream text(lines);
    for (std::string line; std::getline(text, line);) {
        const auto equals = line.find('=');
        set(options, line.substr(0, equals), line.substr(equals + 1));
    }
    return options;
}

struct Commas : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
};

// Numbers of C++ have commas from here on, and those of C where the system has the locale. Returns how they look.
std::string write_commas(const std::string& name) {
    std::locale::global(std::locale(std::locale::classic(), new Commas));
    const bool known = std::setlocale(LC_ALL, name.c_str()) != nullptr;
    std::ostringstream numbers;
    char number[8];
    std::snprintf(number, sizeof number, "%g", 0.5);
    numbers << 1000.5 << (known ? std::string(" ") + number : "");
    return numbers.str();
}

}  // namespace

int main(int count, char** words) {
    const std::string venv = words[1], locale = words[2];
    std::vector<hs::Options> asked;
    for (int place = 3; place < count; ++place) asked.push_back(to_options(venv, words[place]));
    if (!locale.empty()) std::cerr << write_commas(locale);
    for (const hs::Options& options : asked) {
        try {
            const hs::Service service(options);
            std::cout << service.max_queue() << " " << service.problem() << "\n";
        } catch (const hs::StartError& error) {
            std::cout << error.what() << "\n";
        }
    }
}
