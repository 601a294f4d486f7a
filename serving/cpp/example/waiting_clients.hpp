// Clients that wait for a picture: when one leaves, its picture is given up.
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

// The socket of a request, which cpp-httplib gives no handler: the one with its client at the other end. -1: none.
inline int socket_of(const httplib::Request& request) {
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", gone)) {
        const int file = std::stoi(entry.path().filename());
        sockaddr_storage peer{};
        socklen_t length = sizeof peer;
        auto* const address = reinterpret_cast<sockaddr*>(&peer);
        if (::getpeername(file, address, &length) != 0) continue;
        char host[NI_MAXHOST], port[NI_MAXSERV];
        const int numbers = NI_NUMERICHOST | NI_NUMERICSERV;
        if (::getnameinfo(address, length, host, sizeof host, port, sizeof port, numbers) == 0 &&
            port == std::to_string(request.remote_port) && host == request.remote_addr) {
            return file;
        }
    }
    return -1;
}

// One thread looks at the sockets of all of them, and cancels the tickets of those who have left.
class WaitingClients {
public:
    // One of them, for as long as it lives.
    class Client {
    public:
        Client(WaitingClients& all, const httplib::Request& request, const hybridstitch::Ticket& ticket)
            : all_(all), socket_(socket_of(request)) {
            const std::lock_guard<std::mutex> lock(all_.mutex_);
            if (socket_ >= 0) all_.tickets_.emplace(socket_, ticket);
        }
        ~Client() {
            const std::lock_guard<std::mutex> lock(all_.mutex_);
            all_.tickets_.erase(socket_);
        }
        Client(const Client&) = delete;
        Client& operator=(const Client&) = delete;

    private:
        WaitingClients& all_;
        const int socket_;
    };

    WaitingClients() : thread_([this] { look(); }) {}
    ~WaitingClients() {
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
