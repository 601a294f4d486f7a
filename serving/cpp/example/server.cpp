// Pictures over HTTP, from one service for all connections.
//
//   hybridstitch-server --port 8080 --threads 2
//   curl -d 'prompt=a large red star on a navy background' -d seed=7 -d steps=20 localhost:8080/generate > star.png
// 400: the request cannot be drawn. 503: try again later, or it is closing. 408: too late. 500: this one went wrong.
// 411, 413, 415: it takes forms of up to 64 KiB that say their length and are not compressed.
// A client that closes its connection gives its picture up.
// SIGTERM and Ctrl-C: finish every request that somebody waits for, refuse new ones, leave.
//
// pictures.hpp is how a request uses the library; connections.hpp and waiting_clients.hpp are what cpp-httplib lacks.
#include <signal.h>

#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "connections.hpp"
#include "hybridstitch/runtime.hpp"
#include "numbers.hpp"
#include "pictures.hpp"
#include "waiting_clients.hpp"

namespace {

// Values by their flags; what is empty is Python's default.
using Flags = std::map<std::string, std::string>;

Flags read_flags(int count, char** words) {
    Flags flags = {{"--host", "127.0.0.1"}, {"--port", "8080"}, {"--venv", ""},      {"--pair", ""},
                   {"--engines", ""},       {"--threads", ""},  {"--max-queue", ""}, {"--backend", ""}};
    for (int place = 1; place < count; place += 2) {
        if (flags.count(words[place]) == 0 || place + 1 == count) {
            throw hybridstitch::Error(words[place] + std::string(" is no flag, or has no value after it"));
        }
        flags[words[place]] = words[place + 1];
    }
    return flags;
}

std::optional<int> optional_number(const Flags& flags, const std::string& name) {
    const std::string& text = flags.at(name);
    return text.empty() ? std::nullopt : std::optional<int>(to_number<int>(name, text));
}

hybridstitch::Options to_options(const Flags& flags) {
    hybridstitch::Options options;
    options.venv = flags.at("--venv");
    options.pair = flags.at("--pair");
    options.engines = flags.at("--engines");
    options.backend = flags.at("--backend");
    options.threads = optional_number(flags, "--threads");
    options.max_queue = optional_number(flags, "--max-queue");
    return options;
}

void tell_readiness(const hybridstitch::Service& service, httplib::Response& response) {
    if (!service.ready()) return refuse(response, 503, service.problem());
    const std::string running = std::to_string(service.running()), waiting = std::to_string(service.waiting());
    response.set_content(running + " drawn, " + waiting + " wait\n", "text/plain");
}

void add_routes(Server& server, hybridstitch::Service& service, WaitingClients& clients) {
    server.set_payload_max_length(64 * 1024);
    server.set_pre_routing_handler(check_body);
    server.Post("/generate",
                [&](const auto& request, auto& response) { generate(service, clients, request, response); });
    server.Get("/ready", [&](const auto&, auto& response) { tell_readiness(service, response); });
}

// Signals that end the server. Called before any thread is there, so that none of them takes what sigwait waits for.
sigset_t block_stopping_signals() {
    sigset_t stopping;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTERM);
    sigaddset(&stopping, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stopping, nullptr);
    return stopping;
}

void serve_until(const sigset_t& stopping, const Flags& flags) {
    const std::string &host = flags.at("--host"), &port = flags.at("--port");
    const int asked = to_number<int>("--port", port);
    hybridstitch::Service service(to_options(flags));
    WaitingClients clients;
    // A thread for each request that draws or waits, and 128 for clients that are slow to ask, or hear of a full queue.
    Server server(service.max_queue() + std::size_t{128});
    add_routes(server, service, clients);
    allow_all_files();
    const int bound = server.bind(host, asked);
    if (bound < 0) throw hybridstitch::StartError("cannot listen on " + host + ":" + port);
    std::cout << "listening on http://" << host << ":" << bound << std::endl;
    std::thread listening([&] { server.listen_after_bind(); });
    int signal = 0;
    sigwait(&stopping, &signal);
    service.close();  // draws what is there; what comes meanwhile gets its 503
    server.stop_once_all_are_answered();
    listening.join();
}

}  // namespace

int main(int count, char** words) {
    const sigset_t stopping = block_stopping_signals();
    try {
        serve_until(stopping, read_flags(count, words));
    } catch (const hybridstitch::Error& error) {
        std::cerr << "hybridstitch-server: " << error.what() << std::endl;
        return 2;
    }
}
