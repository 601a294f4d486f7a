// POST /generate: a form becomes a request, and its picture or what went wrong an answer.
#pragma once

#include <httplib.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "hybridstitch/runtime.hpp"
#include "numbers.hpp"
#include "waiting_clients.hpp"

// Parameters of the query or of a form; what is none of ours is a setting of the method, which Python knows.
inline hybridstitch::Request to_request(const httplib::Params& parameters) {
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

inline void refuse(httplib::Response& response, int status, const std::string& message) {
    response.status = status;
    response.set_content(message + "\n", "text/plain; charset=utf-8");
    if (status == 503) response.set_header("Retry-After", "1");
}

// Before the body is read: cpp-httplib limits one by its Content-Length alone, and not by what it unpacks to.
inline httplib::Server::HandlerResponse check_body(const httplib::Request& request, httplib::Response& response) {
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

// Whether its body is empty or a form. Asked once the body is read: closing before would reset the client's connection.
inline bool is_form(const httplib::Request& request) {
    if (request.get_header_value("Content-Length") == "0") return true;
    const std::string type = request.get_header_value("Content-Type");
    return type.substr(0, type.find(';')) == "application/x-www-form-urlencoded";
}

inline void generate(hybridstitch::Service& service, WaitingClients& clients, const httplib::Request& request,
                     httplib::Response& response) {
    if (!is_form(request)) {
        const std::string type = request.get_header_value("Content-Type").substr(0, 80);
        const std::string form = "a form (application/x-www-form-urlencoded), such as prompt=a+star&seed=7";
        return refuse(response, 415, "send " + form + ", not " + type);
    }
    try {
        const hybridstitch::Ticket ticket = service.submit(to_request(request.params));
        const WaitingClients::Client client(clients, request, ticket);
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
