// A server that keeps its connections: none is reset in a burst, delayed by silent ones, or left unanswered at the end.
#pragma once

#include <httplib.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

// Threads that serve connections, each of which is counted from its arrival.
struct CountedConnections : httplib::ThreadPool {
    CountedConnections(std::size_t threads, std::atomic<int>& counted) : ThreadPool(threads), open(counted) {}
    void enqueue(std::function<void()> serve) override {
        ++open;
        ThreadPool::enqueue([this, serve = std::move(serve)] {
            serve();
            --open;
        });
    }
    std::atomic<int>& open;
};

// As many files, and so connections, as the system lets this process have: often 1,024 at first, which idle ones use
// up.
inline void allow_all_files() {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
}

class Server : public httplib::Server {
public:
    explicit Server(std::size_t threads) {
        new_task_queue = [this, threads] { return new CountedConnections(threads, open_); };
        set_keep_alive_max_count(1);  // a picture takes longer than a new connection
        set_keep_alive_timeout(0);    // one that the system hands over without a byte has had its seconds: 10 ms more
    }

    // Port 0: any. Returns the port, or -1: it cannot be had.
    int bind(const std::string& host, int port) {
        const int bound = port == 0 ? bind_to_any_port(host) : (bind_to_port(host, port) ? port : -1);
        const int seconds = 3;  // that a connection may say nothing; meanwhile the system keeps it, and no thread waits
        ::setsockopt(svr_sock_, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
        ::listen(svr_sock_, SOMAXCONN);  // cpp-httplib lets 5 connections wait to be accepted: a burst would be reset
        return bound;
    }

    void stop_once_all_are_answered() {
        while (open_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        stop();
    }

private:
    std::atomic<int> open_{0};
};
