// netlab_wire: stands between two devices and carries frames from one to the other, with the
// impairments of tests/netlab. tools/netlab builds the namespaces and starts it; docs/netlab.md
// describes both. Ends on SIGTERM or SIGINT with a JSON object that counts what it did.
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "netlab/fast_wire.h"
#include "netlab/forwarder.h"

namespace toe::netlab {
namespace {

using nlohmann::json;

volatile sig_atomic_t ended = 0;

struct Options {
  std::string server_device, client_device, to_server, to_client, json_file;
  std::uint64_t seed = 1;
  bool fast = false;
};

Time clock_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return {now.tv_sec * 1'000'000'000 + now.tv_nsec};
}

Impairments read_impairments(const std::string& text) {
  auto read = Impairments::parse(text);
  if (!read.ok()) throw std::invalid_argument(read.error().text);
  return read.value();
}

template <typename T>
T need(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().text);
  return std::move(result.value());
}

/// Frames that the device lost behind the program's back.
std::uint64_t device_losses(const std::string& device, const char* counter) {
  std::ifstream file("/sys/class/net/" + device + "/statistics/" + counter);
  std::uint64_t value = 0;
  file >> value;
  return value;
}

json describe(const Tally& tally) {
  json dropped;
  for (std::size_t i = 1; i < tally.dropped.size(); ++i) dropped[kDropNames[i]] = tally.dropped[i];
  return {{"frames", tally.frames},
          {"bytes", tally.bytes},
          {"selected", tally.selected},
          {"dropped", dropped},
          {"duplicated", tally.duplicated},
          {"reordered", tally.reordered},
          {"corrupted", tally.corrupted},
          {"marked", tally.marked},
          {"peak_queue_frames", tally.peak_queue_frames},
          {"peak_queue_bytes", tally.peak_queue_bytes}};
}

void on_signal(int) { ended = 1; }

/// Signals come in only while the program waits. Returns the mask to wait with.
sigset_t catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigset_t blocked, before;
  sigemptyset(&blocked);
  for (const int number : {SIGINT, SIGTERM}) {
    ::sigaction(number, &action, nullptr);
    sigaddset(&blocked, number);
  }
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  return before;
}

/// A wire that waits for its turn on a busy machine is another wire.
void be_prompt() {
  ::prctl(PR_SET_TIMERSLACK, 1);
  const sched_param priority{20};
  if (::sched_setscheduler(0, SCHED_RR, &priority) != 0) {
    std::cerr << "netlab_wire: without real-time priority; times are less exact" << std::endl;
  }
}

void say_ready() { std::cout << "netlab: ready" << std::endl; }

class Wire {
 public:
  explicit Wire(const Options& options)
      : options_(options),
        server_(need(PacketSocket::open(options.server_device))),
        client_(need(PacketSocket::open(options.client_device))),
        to_server_(client_, server_,
                   Impairer(read_impairments(options.to_server), options.seed * 2)),
        to_client_(server_, client_,
                   Impairer(read_impairments(options.to_client), options.seed * 2 + 1)) {}

  void run(const sigset_t& waiting) {
    while (!ended) {
      Time now = clock_now();
      to_server_.take(now);
      to_client_.take(now);
      now = clock_now();
      to_server_.send_due(now);
      to_client_.send_due(now);
      wait(std::min(to_server_.next(), to_client_.next()), waiting);
    }
  }

  json summary() {
    return {{"to_server", describe_one(to_server_, options_.server_device)},
            {"to_client", describe_one(to_client_, options_.client_device)}};
  }

 private:
  void wait(Time next, const sigset_t& waiting) {
    pollfd fds[] = {{server_.fd(), POLLIN, 0}, {client_.fd(), POLLIN, 0}};
    timespec rest{};
    if (next != Time::never()) {
      const std::int64_t ns = std::max<std::int64_t>((next - clock_now()).ns, 0);
      rest = {ns / 1'000'000'000, ns % 1'000'000'000};
    }
    ::ppoll(fds, 2, next != Time::never() ? &rest : nullptr, &waiting);
  }

  static json describe_one(const Forwarder& direction, const std::string& out) {
    const SocketLosses in = direction.from_losses();
    json found = describe(direction.tally());
    found["sent"] = direction.sent();
    found["under_way"] = direction.under_way();
    found["peak_under_way"] = direction.peak_under_way();
    found["own_losses"] = {{"ring_full", in.ring_full},
                           {"too_long", in.too_long},
                           {"line_full", direction.line_full()},
                           {"send_failed", direction.to_losses().send_failed},
                           {"device", device_losses(out, "tx_dropped")}};
    return found;
  }

  const Options& options_;
  PacketSocket server_, client_;
  Forwarder to_server_, to_client_;
};

json run_fast(const Options& options, const sigset_t& waiting) {
  const std::array<Direction, kNetlabDirections> directions = {
      Direction{read_impairments(options.to_server), options.seed * 2},
      Direction{read_impairments(options.to_client), options.seed * 2 + 1}};
  for (const Direction& direction : directions) {
    const std::string refused = beyond_fast(direction.impairments);
    if (!refused.empty()) throw std::invalid_argument(refused);
  }
  const FastWire wire =
      need(FastWire::attach(options.server_device, options.client_device, directions));
  say_ready();
  while (!ended) ::ppoll(nullptr, 0, nullptr, &waiting);
  const auto one = [&wire](std::uint32_t direction, const std::string& out) {
    json found = describe(wire.tally(direction));
    found["own_losses"] = {{"device", device_losses(out, "tx_dropped")}};
    return found;
  };
  return {{"to_server", one(kNetlabToServer, options.server_device)},
          {"to_client", one(kNetlabToClient, options.client_device)}};
}

void write_summary(const Options& options, json summary) {
  summary["schema"] = 1;
  summary["program"] = "netlab";
  summary["seed"] = options.seed;
  summary["fast"] = options.fast;
  if (options.json_file.empty()) {
    std::cout << summary.dump(2) << std::endl;
    return;
  }
  std::ofstream file(options.json_file);
  file << summary.dump(2) << '\n';
  if (!file.flush()) throw std::runtime_error(options.json_file + " cannot be written");
}

void run(const Options& options) {
  const sigset_t waiting = catch_signals();
  if (options.fast) {
    write_summary(options, run_fast(options, waiting));
    return;
  }
  Wire wire(options);
  be_prompt();
  say_ready();
  wire.run(waiting);
  write_summary(options, wire.summary());
}

}  // namespace
}  // namespace toe::netlab

int main(int argc, char** argv) {
  toe::netlab::Options options;
  CLI::App app("Carries frames between two devices, badly");
  app.add_option("--server-dev", options.server_device, "device at the server's side")->required();
  app.add_option("--client-dev", options.client_device, "device at the client's side")->required();
  app.add_option("--to-server", options.to_server, "impairments, as in docs/netlab.md");
  app.add_option("--to-client", options.to_client, "impairments of the other direction");
  app.add_option("--seed", options.seed);
  app.add_option("--json", options.json_file, "file of the summary (default: stdout)");
  app.add_flag("--fast", options.fast, "inside the kernel: loss, every, mark only");
  try {
    app.parse(argc, argv);
    toe::netlab::run(options);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::invalid_argument& refused) {
    std::cerr << "netlab_wire: " << refused.what() << std::endl;
    return 2;
  } catch (const std::exception& failure) {
    std::cerr << "netlab_wire: " << failure.what() << std::endl;
    return 1;
  }
}
