// goodput: how much of their streams a number of flows delivers within a time.
//
// Client of `bulk --serve`: opens `--flows` connections to each `--connect`, sends or receives
// endless streams of unchecked bytes for `--seconds` (or until each has moved `--bytes`), then
// resets them. What counts is what arrived: bytes read, or bytes written less those that the
// kernel still holds unacknowledged. Reports bytes per flow since `--warmup`, in the order of the
// targets. Exit status: 0 all flows opened and went on, 1 not, 2 usage.
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <iostream>
#include <string>
#include <vector>

#include "net.h"
#include "program.h"
#include "watch.h"

namespace toe::clients {
namespace {

constexpr std::uint64_t kMagicUnchecked = 0x6b6c75622d656f75;  ///< as bulk
constexpr std::uint64_t kEndless = 1ull << 50;
constexpr std::size_t kChunk = 128 * 1024;
constexpr int kConnectMs = 30'000;

struct Header {
  std::uint64_t magic, seed, up, down;
};

struct Options {
  std::vector<std::string> connect;
  std::string congestion, json;
  std::uint64_t flows = 1, bytes = kEndless;
  double seconds = 5, warmup = 0;
  bool up = false;
};

struct Flow {
  Fd fd;
  std::uint64_t moved = 0;
  std::uint64_t before = 0;  ///< delivered in the warm-up
};

std::uint64_t delivered(const Flow& flow, bool up) {
  if (!up) return flow.moved;
  int held = 0;
  if (::ioctl(flow.fd.get(), SIOCOUTQ, &held) != 0) fail_errno("SIOCOUTQ");
  return flow.moved - std::min(flow.moved, static_cast<std::uint64_t>(held));
}

Fd open_flow(const Endpoint& server, const Options& options) {
  Fd fd = connect_to(server, nullptr, kConnectMs);
  const std::string& name = options.congestion;
  if (!name.empty() && ::setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(),
                                    static_cast<socklen_t>(name.size())) != 0) {
    fail_errno("congestion control " + name);
  }
  const Header header{kMagicUnchecked, 1, options.up ? kEndless : 0, options.up ? 0 : kEndless};
  if (::send(fd.get(), &header, sizeof header, MSG_NOSIGNAL) != sizeof header) fail_errno("send");
  return fd;
}

/// Moves what can be moved now.
void move(Flow& flow, std::vector<char>& buffer, bool up) {
  const ssize_t n = up ? ::send(flow.fd.get(), buffer.data(), buffer.size(), MSG_NOSIGNAL)
                       : ::recv(flow.fd.get(), buffer.data(), buffer.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) fail_errno(up ? "send" : "recv");
  if (n == 0) throw RunFailed("the server ended");
  flow.moved += static_cast<std::uint64_t>(n);
}

bool all_done(const std::vector<Flow>& flows, const Options& options) {
  return options.bytes != kEndless &&
         std::all_of(flows.begin(), flows.end(), [&](const Flow& flow) {
           return flow.moved >= options.bytes && delivered(flow, options.up) >= options.bytes;
         });
}

/// Until `end`, or until each flow has delivered enough.
void run_until(std::vector<Flow>& flows, const Options& options, std::uint64_t end) {
  std::vector<char> buffer(kChunk);
  std::vector<pollfd> waits;
  for (const Flow& flow : flows) {
    waits.push_back({flow.fd.get(), static_cast<short>(options.up ? POLLOUT : POLLIN), 0});
  }
  for (std::uint64_t now = now_ns(); now < end && !all_done(flows, options); now = now_ns()) {
    const auto left = static_cast<int>(std::min<std::uint64_t>((end - now) / 1'000'000 + 1, 20));
    if (::poll(waits.data(), waits.size(), left) < 0 && errno != EINTR) fail_errno("poll");
    for (std::size_t i = 0; i < flows.size(); ++i) {
      if (waits[i].revents != 0) move(flows[i], buffer, options.up);
    }
  }
}

nlohmann::json measure(const Options& options) {
  raise_fd_limit();
  std::vector<Flow> flows;
  std::vector<std::future<Fd>> opening;  // all at once: one round trip, not one for each
  const std::uint64_t start = now_ns();
  for (const std::string& target : options.connect) {
    const Endpoint server = parse_endpoint(target);
    for (std::uint64_t i = 0; i < options.flows; ++i) {
      opening.push_back(std::async(std::launch::async,
                                   [&options, server] { return open_flow(server, options); }));
    }
  }
  for (std::future<Fd>& fd : opening) flows.push_back({fd.get()});
  const auto after = [start](double seconds) {
    return start + static_cast<std::uint64_t>(seconds * 1e9);
  };
  if (options.warmup > 0) run_until(flows, options, after(options.warmup));
  for (Flow& flow : flows) flow.before = delivered(flow, options.up);
  const std::uint64_t counted_from = options.warmup > 0 ? now_ns() : start;
  run_until(flows, options, after(options.warmup + options.seconds));
  const double seconds = static_cast<double>(now_ns() - counted_from) / 1e9;
  std::vector<std::uint64_t> bytes;
  double sum = 0, squares = 0;
  for (const Flow& flow : flows) {
    bytes.push_back(delivered(flow, options.up) - flow.before);
    sum += static_cast<double>(bytes.back());
    squares += static_cast<double>(bytes.back()) * static_cast<double>(bytes.back());
    const linger reset{1, 0};
    (void)::setsockopt(flow.fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  return {
      {"schema", 1},
      {"program", "goodput"},
      {"bytes", bytes},
      {"seconds", seconds},
      {"mbit_per_s", sum * 8 / seconds / 1e6},
      {"fairness", squares == 0 ? 0 : sum * sum / (static_cast<double>(flows.size()) * squares)},
      {"failed", false},
      {"reason", ""}};
}

int run_client(const Options& options) {
  try {
    write_json(options.json, measure(options));
    return 0;
  } catch (const std::exception& failure) {
    std::cerr << "goodput: " << failure.what() << std::endl;
    write_json(
        options.json,
        {{"schema", 1}, {"program", "goodput"}, {"failed", true}, {"reason", failure.what()}});
    return 1;
  }
}

}  // namespace
}  // namespace toe::clients

int main(int argc, char** argv) {
  toe::clients::Options options;
  CLI::App app("Measures what flows deliver within a time", "goodput");
  app.add_option("--connect", options.connect, "ADDRESS:PORT of `bulk --serve`; may be repeated")
      ->required();
  app.add_option("--flows", options.flows, "connections to each (1)");
  app.add_option("--seconds", options.seconds, "how long, counted from the warm-up (5)");
  app.add_option("--warmup", options.warmup, "seconds that do not count (0)");
  app.add_option("--bytes", options.bytes, "enough for each flow (endless)");
  app.add_option("--congestion", options.congestion, "congestion control of the kernel");
  app.add_flag("--up", options.up, "send instead of receiving");
  app.add_option("--json", options.json, "file of the result (default: stdout)");
  return toe::clients::run_program(app, argc, argv,
                                   [&] { return toe::clients::run_client(options); });
}
