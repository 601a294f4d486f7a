// Loads a service with the options of its command line (NAME=VALUE), and prints what Python has of them.
#include <hybridstitch/runtime.hpp>

#include <clocale>
#include <cstdio>
#include <functional>
#include <iostream>
#include <locale>
#include <map>
#include <sstream>
#include <string>

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

struct Commas : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
};

// Numbers of C++ have commas from here on, and those of C where the system has the locale. Returns two as they now look.
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
    hs::Options options;
    options.venv = words[1];
    std::string locale;
    for (int place = 2; place < count; ++place) {
        const std::string word = words[place], name = word.substr(0, word.find('=')), value = word.substr(name.size() + 1);
        if (name == "locale") locale = value;
        else set(options, name, value);
    }
    if (!locale.empty()) std::cout << "numbers: " << write_commas(locale) << "\n";
    try {
        const hs::Service service(options);
        std::cout << "given: " << service.problem() << "\nqueue: " << service.max_queue() << "\n";
    } catch (const hs::StartError& error) {
        std::cout << "start: " << error.what() << "\n";
    }
}
