// Pictures over HTTP, from one service for all connections.
//
//   hybridstitch-server --port 8080 --threads 2
//   curl -d 'prompt=a large red star on a navy background' -d seed=7 -d steps=20 localhost:8080/generate > star.png
// 400: the request cannot be drawn. 503: try again later, or it is closing. 408: too late. 500: this one went wrong.
// 411, 413, 415: it takes forms of up to 64 KiB that say their length and are not compressed.
// A client that closes its connection gives its picture up.
// SIGTERM and Ctrl-C: finish every request that somebody waits for, refuse new ones, leave.
#include <httplib.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <charconv>
#include <iostream>
#include <map>
#include <string>
#include <thread>

#include "connections.hpp"
#include "hybridstitch/runtime.hpp"

namespace {

using Flags = std::map<std::string, std::string>;

template <typename Number>
Number to_number(const std::string& name, const std::string& text) {
    Number number{};
    const char* end = text.data() + text.size();
    const auto [stop, problem] = std::from_chars(text.data(), end, number);
    if (stop != end || problem != std::errc()) {
        const std::string kind = std::is_integral_v<Number> ? " must be a whole number" : " must be a number";
        throw hybridstitch::InvalidRequest(name + kind + ", not '" + text.substr(0, 40) + "'");
    }
    return number;
}

// Parameters of the query or of a form; what is none of ours is a setting of the method, which Python knows.
hybridstitch::Request to_request(const httplib::Params& parameters) {
    hybridstitch::Request request;
    for (const auto& [name, value] : parameters) {
        if (name == "prompt") request.prompt = value;
        else if (name == "negative_prompt") request.negative_prompt = value;
        else if (name == "seed") request.seed = to_number<std::int64_t>(name, value);
        else if (name == "size") request.size = value;
        else if (name == "method") request.method = value;
        else if (name == "timeout") request.timeout = std::chrono::duration<double>(to_number<double>(name, value));
        else request.settings[name] = value;
    }
    return request;
}

void refuse(httplib::Response& response, int status, const std::string& message) {
    response.status = status;
    response.set_content(message + "\n", "text/plain; charset=utf-8");
    if (status == 503) response.set_header("Retry-After", "1");
}

// Whether its body is empty or a form. Asked once the body is read: closing before would reset the client's connection.
bool is_form(const httplib::Request& request) {
    if (request.get_header_value("Content-Length") == "0") return true;
    const std::string type = request.get_header_value("Content-Type");
    return type.substr(0, type.find(';')) == "application/x-www-form-urlencoded";
}

void generate(hybridstitch::Service& service, Waiting& waiting, const httplib::Request& request,
              httplib::Response& response) {
    if (!is_form(request)) {
        return refuse(response, 415, "send a form (application/x-www-form-urlencoded), such as prompt=a+star&seed=7, not " +
                                         request.get_header_value("Content-Type").substr(0, 80));
    }
    try {
        const hybridstitch::Ticket ticket = service.submit(to_request(request.params));
        const Waiting::Client client(waiting, request, ticket);
        response.set_content(ticket.wait_png(), "image/png");
    } catch (const hybridstitch::Cancelled& error) {
        refuse(response, 499, error.what());  // nobody reads it: the client has left
    } catch (const hybridstitch::InvalidRequest& error) {
        refuse(response, 400, error.what());
    } catch (const hybridstitch::Unavailable& error) {
        refuse(response, 503, error.what());
    } catch (const hybridstitch::TimedOut& error) {
        refuse(response, 408, error.what());
    } catch (const hybridstitch::Error& error) {
        refuse(response, 500, error.what());
    }
}

struct Server : httplib::Server {
    int bind(const std::string& host, int port) {  // 0: any; returns which, or -1
        const int bound = port == 0 ? bind_to_any_port(host) : (bind_to_port(host, port) ? port : -1);
        const int seconds = 3;  // that a connection may say nothing; meanwhile the system keeps it, and no thread waits
        ::setsockopt(svr_sock_, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
        ::listen(svr_sock_, SOMAXCONN);  // cpp-httplib lets 5 connections wait to be accepted: a burst would be reset
        return bound;
    }
};

// cpp-httplib limits a body by its Content-Length alone, and not by what it unpacks to.
httplib::Server::HandlerResponse check_body(const httplib::Request& request, httplib::Response& response) {
    if (request.method == "GET" || request.method == "HEAD") return httplib::Server::HandlerResponse::Unhandled;
    if (!request.has_header("Content-Length") || request.has_header("Transfer-Encoding")) {
        refuse(response, 411, "say the Content-Length of the body");
    } else if (request.has_header("Content-Encoding")) {
        refuse(response, 415, "send the body uncompressed");
    } else {
        return httplib::Server::HandlerResponse::Unhandled;
    }
    return httplib::Server::HandlerResponse::Handled;
}

int run(Flags& flags, const sigset_t& stopping) {
    hybridstitch::Options options;
    options.venv = flags["--venv"];
    options.pair = flags["--pair"];
    options.engines = flags["--engines"];
    options.backend = flags["--backend"];
    if (const auto& threads = flags["--threads"]; !threads.empty()) options.threads = to_number<int>("--threads", threads);
    if (const auto& most = flags["--max-queue"]; !most.empty()) options.max_queue = to_number<int>("--max-queue", most);
    const int port = to_number<int>("--port", flags["--port"]);
    hybridstitch::Service service(options);

    Server server;
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;  // often 1,024 at first, which idle connections use up
    ::setrlimit(RLIMIT_NOFILE, &files);
    std::atomic<int> open{0};
    Waiting waiting;
    // A thread for each request that draws or waits, and 128 for clients that are slow to ask, or hear of a full queue.
    server.new_task_queue = [&] { return new Connections(service.max_queue() + std::size_t{128}, open); };
    server.set_payload_max_length(64 * 1024);
    server.set_pre_routing_handler(check_body);
    server.set_keep_alive_max_count(1);  // a picture takes longer than a new connection
    server.set_keep_alive_timeout(0);  // one that the system hands over without a byte has had its seconds: 10 ms more
    server.Post("/generate", [&](const auto& request, auto& response) { generate(service, waiting, request, response); });
    server.Get("/ready", [&](const auto&, auto& response) {
        const std::string running = std::to_string(service.running()), waiting = std::to_string(service.waiting());
        if (service.ready()) response.set_content(running + " drawn, " + waiting + " wait\n", "text/plain");
        else refuse(response, 503, service.problem());
    });
    const int bound = server.bind(flags["--host"], port);
    if (bound < 0) throw hybridstitch::StartError("cannot listen on " + flags["--host"] + ":" + flags["--port"]);
    std::cout << "listening on http://" << flags["--host"] << ":" << bound << std::endl;
    std::thread listening([&] { server.listen_after_bind(); });
    int signal = 0;
    sigwait(&stopping, &signal);
    service.close();  // draws what is there; what comes meanwhile gets its 503
    while (open > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    server.stop();
    listening.join();
    return 0;
}

}  // namespace

int main(int count, char** words) {
    // Before any thread is there, so that none of them takes the signals that sigwait waits for.
    sigset_t stopping;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTERM);
    sigaddset(&stopping, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stopping, nullptr);
    // What is empty is Python's default.
    Flags flags = {{"--host", "127.0.0.1"}, {"--port", "8080"}, {"--venv", ""},      {"--pair", ""},
                   {"--engines", ""},       {"--threads", ""},  {"--max-queue", ""}, {"--backend", ""}};
    try {
        for (int place = 1; place < count; place += 2) {
            if (flags.count(words[place]) == 0 || place + 1 == count) {
                throw hybridstitch::Error(words[place] + std::string(" is no flag, or has no value after it"));
            }
            flags[words[place]] = words[place + 1];
        }
        return run(flags, stopping);
    } catch (const hybridstitch::Error& error) {
        std::cerr << "hybridstitch-server: " << error.what() << std::endl;
        return 2;
    }
}
