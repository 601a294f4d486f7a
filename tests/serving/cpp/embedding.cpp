// Drives the library as a program would, and prints a line for each thing that
// a test asks about.
#include <atomic>
#include <fstream>
#include <hybridstitch/runtime.hpp>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

namespace hs = hybridstitch;

namespace {

hs::Request quick(const std::string& prompt, std::int64_t seed = 0) {
    hs::Request request;
    request.prompt = prompt;
    request.seed = seed;
    request.method = "small";
    request.settings = {{"steps", "2"}};
    return request;
}

template <typename Expected>
void refused(const std::string& name, const std::function<void()>& call) {
    try {
        call();
        std::cout << name << ": nothing was thrown\n";
    } catch (const Expected& error) {
        std::cout << name << ": " << error.what() << "\n";
    } catch (const std::exception& error) {
        std::cout << name << ": another type: " << error.what() << "\n";
    }
}

void draw(hs::Service& service, const std::string& prompt, const std::string& folder) {
    hs::Request request = quick(prompt, 7);
    request.previews = 1;
    std::string told;
    int previews = 0;
    const hs::Ticket ticket = service.submit(request, [&](const hs::Progress& progress) {
        told += " " + progress.stage + " " + std::to_string(progress.step) + "/" + std::to_string(progress.steps);
        previews += progress.preview && progress.preview->rgb.size() == 128 * 128 * 3;
    });
    const hs::Image image = ticket.wait();
    std::cout << "progress:" << told << ", " << previews << " preview\n";
    std::cout << "image: " << image.width << "x" << image.height << (ticket.done() ? ", done" : "") << "\n";
    std::ofstream(folder + "/picture.rgb", std::ios::binary)
        .write(reinterpret_cast<const char*>(image.rgb.data()), static_cast<std::streamsize>(image.rgb.size()));
    std::ofstream(folder + "/picture.png", std::ios::binary) << ticket.wait_png();
}

void go_wrong(hs::Service& service, const std::string& prompt) {
    refused<hs::InvalidRequest>("invalid", [&] { service.generate(quick("")); });
    refused<hs::InvalidRequest>("not UTF-8", [&] { service.generate(quick("\xff")); });
    refused<hs::NotDrawn>("not drawn", [&] { service.generate(quick(prompt + ", broken")); });
    refused<std::domain_error>("callback", [&] {
        service.generate(quick(prompt), [](const hs::Progress&) { throw std::domain_error("enough of it"); });
    });
    hs::Request late = quick(prompt);
    late.timeout = std::chrono::milliseconds(1);
    refused<hs::TimedOut>("timed out", [&] { service.generate(late); });
    hs::Request lengthy = quick(prompt);
    lengthy.settings = {{"steps", "1000"}};
    const hs::Ticket drawing = service.submit(lengthy);
    while (service.running() == 0) std::this_thread::yield();
    const hs::Ticket waiting = service.submit(quick(prompt));
    refused<hs::QueueFull>("queue full", [&] { service.submit(quick(prompt)); });
    waiting.cancel();
    drawing.cancel();
    refused<hs::Cancelled>("cancelled", [&] { drawing.wait(); });
    refused<hs::Cancelled>("cancelled while it waited", [&] { waiting.wait(); });
}

void share(hs::Service& service, const std::string& prompt) {
    const hs::Image alone = service.generate(quick(prompt));
    std::atomic<int> same{0};
    std::vector<std::thread> threads;
    for (int number = 0; number < 16; ++number) {
        threads.emplace_back([&] {
            for (;;) {
                try {
                    same += service.generate(quick(prompt), [](const hs::Progress&) {}).rgb == alone.rgb;
                    return;
                } catch (const hs::QueueFull&) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(20));
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    std::cout << "threads: " << same << " of " << threads.size() << " the same\n";
}

}  // namespace

int main(int count, char** words) {
    hs::Options options;
    options.venv = words[1];
    options.engines = words[2];
    options.threads = 1;
    options.max_queue = 1;
    try {
        hs::Service service(options);
        if (count > 3) {
            const std::string prompt = words[3], folder = words[4];
            draw(service, prompt, folder);
            go_wrong(service, prompt);
            share(service, prompt);
            std::cout << (service.ready() ? "ready" : service.problem()) << ", " << service.waiting() << " wait\n";
            service.close();
            service.close();
            refused<hs::Closed>("closed", [&] { service.generate(quick(prompt)); });
            hs::Options other = options;
            other.venv = words[5];
            refused<hs::StartError>("a second environment", [&] { hs::Service second(other); });
            other = options;
            other.pair = "none";
            refused<hs::StartError>("an unknown pair", [&] { hs::Service second(other); });
        }
    } catch (const hs::StartError& error) {
        std::cout << "start: " << error.what() << "\n";
        return 2;
    }
    return 0;
}
