// Numbers of flags and forms.
#pragma once

#include <charconv>
#include <string>
#include <type_traits>

#include "hybridstitch/runtime.hpp"

// Throws InvalidRequest, which names what was given, where a text is no number.
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
