// What cpp-httplib does not tell of connections: how many are open, and which of their clients have left.
#pragma once

#include <arpa/inet.h>
#include <httplib.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "hybridstitch/runtime.hpp"

// Counts the connections that are open, from their arrival, so that none is left unanswered at the end.
struct Connections : httplib::ThreadPool {
    Connections(std::size_t threads, std::atomic<int>& counted) : ThreadPool(threads), open(counted) {}
    void enqueue(std::function<void()> serve) override {
        ++open;
        ThreadPool::enqueue([this, serve = std::move(serve)] {
            serve();
            --open;
        });
    }
    std::atomic<int>& open;
};

// The socket of a request, which a handler is not given: the one with its client at the other end. -1: none.
inline int socket_of(const httplib::Request& request) {
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", gone)) {
        const int file = std::stoi(entry.path().filename());
        sockaddr_storage peer{};
        socklen_t length = sizeof peer;
        if (::getpeername(file, reinterpret_cast<sockaddr*>(&peer), &length) != 0) continue;
        char host[NI_MAXHOST], port[NI_MAXSERV];
        const int numbers = NI_NUMERICHOST | NI_NUMERICSERV;
        if (::getnameinfo(reinterpret_cast<sockaddr*>(&peer), length, host, sizeof host, port, sizeof port, numbers) == 0 &&
            port == std::to_string(request.remote_port) && host == request.remote_addr) {
            return file;
        }
    }
    return -1;
}

// Those who wait for a picture. One thread looks at their sockets and cancels the tickets of those who have left.
class Waiting {
public:
    // One of them, for as long as it lives.
    class Client {
    public:
        Client(Waiting& waiting, const httplib::Request& request, const hybridstitch::Ticket& ticket)
            : waiting_(waiting), socket_(socket_of(request)) {
            const std::lock_guard<std::mutex> lock(waiting_.mutex_);
            if (socket_ >= 0) waiting_.tickets_.emplace(socket_, ticket);
        }
        ~Client() {
            const std::lock_guard<std::mutex> lock(waiting_.mutex_);
            waiting_.tickets_.erase(socket_);
        }
        Client(const Client&) = delete;
        Client& operator=(const Client&) = delete;

    private:
        Waiting& waiting_;
        const int socket_;
    };

    Waiting() : thread_([this] { look(); }) {}
    ~Waiting() {
        over_ = true;
        thread_.join();
    }

private:
    void look() {
        while (!over_) {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            const std::lock_guard<std::mutex> lock(mutex_);  // no socket is closed, and its number reused, meanwhile
            std::vector<pollfd> sockets;
            for (const auto& [socket, ticket] : tickets_) sockets.push_back({socket, POLLRDHUP, 0});
            ::poll(sockets.data(), sockets.size(), 0);
            for (const pollfd& socket : sockets) {
                if (socket.revents == 0) continue;
                tickets_.at(socket.fd).cancel();
                tickets_.erase(socket.fd);
            }
        }
    }

    std::mutex mutex_;
    std::map<int, hybridstitch::Ticket> tickets_;
    std::atomic<bool> over_{false};
    std::thread thread_;
};
