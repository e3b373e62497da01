// memcheck: loads a memcached over plain sockets and compares every answer byte by byte.
//
// Each connection owns its keys and sends one request at a time, set or get. A value's length and
// bytes follow from (seed, connection, key, version), so the expected answer to each request is
// known in full before it is sent. Exit status: 0 all answers right, 1 not, 2 usage.
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <iostream>
#include <memory>
#include <random>

#include <CLI/CLI.hpp>

#include "content.h"
#include "latency.h"
#include "net.h"
#include "watch.h"

namespace toe::clients {
namespace {

struct Options {
  std::string server = "127.0.0.1:11211";
  unsigned connections = 50;
  std::uint64_t operations = 1'000'000;
  unsigned keys = 20;  ///< per connection
  std::size_t min_size = 1;
  std::size_t max_size = 100 * 1024;
  double get_ratio = 0.5;
  double idle = 0;  ///< after the last answer, stay silent this many seconds
  std::uint64_t seed = 1;
  std::string json;
  std::string tuples;  ///< file that receives the connections' addresses
};

struct Connection {
  Fd fd;
  unsigned index = 0;
  std::vector<std::uint32_t> versions;  ///< by key; 0: never set
  std::string request;
  std::size_t sent = 0;
  std::string answer;  ///< what the server must say
  std::size_t received = 0;
  bool busy = false;
  bool is_get = false;
  bool wants_write = false;
  std::uint64_t started = 0;
  Progress progress;
};

class Run {
 public:
  explicit Run(const Options& options) : options_(options), random_(options.seed) {}

  void go() {
    connect_all();
    const std::uint64_t start = now_ns();
    Ticker ticker("memcheck", start);
    started_ = start;
    for (auto& connection : connections_) next_request(*connection);
    std::uint64_t looked = start;
    std::vector<epoll_event> events(256);
    while (busy_ > 0) {
      const int ready =
          ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 100);
      if (ready < 0 && errno != EINTR) fail_errno("epoll_wait");
      for (int i = 0; i < ready; ++i) {
        handle(*connections_[events[static_cast<std::size_t>(i)].data.u32],
               events[static_cast<std::size_t>(i)].events);
      }
      const std::uint64_t now = now_ns();
      if (now - looked > 100'000'000) {
        looked = now;
        for (auto& c : connections_) {
          if (c->busy) c->progress.look(now, name_of(*c));
        }
        ticker.tick(now, done_, std::to_string(stalls()) + " stalls");
      }
    }
    finished_ = now_ns();
    if (options_.idle > 0) stay_silent(epoll_.get(), options_.idle, "memcheck");
  }

  nlohmann::json report(const std::string& reason) const {
    const std::uint64_t end = finished_ != 0 ? finished_ : now_ns();
    const double seconds = started_ == 0 ? 0 : static_cast<double>(end - started_) / 1e9;
    std::uint64_t longest = 0;
    for (const auto& c : connections_) longest = std::max(longest, c->progress.longest_ns());
    return {{"schema", 1},
            {"program", "memcheck"},
            {"server", options_.server},
            {"connections", options_.connections},
            {"seed", options_.seed},
            {"operations", done_},
            {"gets", gets_},
            {"sets", done_ - gets_},
            {"seconds", seconds},
            {"ops_per_s", seconds > 0 ? static_cast<double>(done_) / seconds : 0},
            {"bytes_sent", bytes_sent_},
            {"bytes_received", bytes_received_},
            {"latency_us", latency_.to_json()},
            {"get_latency_us", get_latency_.to_json()},
            {"set_latency_us", set_latency_.to_json()},
            {"stalls", stalls()},
            {"longest_stand_s", static_cast<double>(longest) / 1e9},
            {"client_cpu_s", own_cpu_seconds()},
            {"failed", !reason.empty()},
            {"reason", reason}};
  }

  std::uint64_t stalls() const {
    std::uint64_t sum = 0;
    for (const auto& c : connections_) sum += c->progress.stalls();
    return sum;
  }

 private:
  static std::string name_of(const Connection& c) {
    return "connection " + std::to_string(c.index) + (c.is_get ? " get" : " set") + ", sent " +
           std::to_string(c.sent) + " of " + std::to_string(c.request.size()) + ", received " +
           std::to_string(c.received) + " of " + std::to_string(c.answer.size());
  }

  void connect_all() {
    epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    const Endpoint server = parse_endpoint(options_.server);
    std::vector<int> fds;
    for (unsigned i = 0; i < options_.connections; ++i) {
      auto connection = std::make_unique<Connection>();
      connection->index = i;
      connection->versions.resize(options_.keys);
      connection->fd = connect_to(server, nullptr, 5000);
      epoll_event event{EPOLLIN, {.u32 = i}};
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection->fd.get(), &event) != 0) {
        fail_errno("epoll_ctl");
      }
      fds.push_back(connection->fd.get());
      connections_.push_back(std::move(connection));
    }
    if (!options_.tuples.empty()) write_tuples(options_.tuples, fds, server.text());
  }

  /// Log-uniform between the two sizes: every order of magnitude is as frequent.
  std::size_t value_size(std::uint64_t identity) const {
    const double uniform = static_cast<double>(mix(identity) >> 11) / 9007199254740992.0;
    const double low = static_cast<double>(options_.min_size);
    const double high = static_cast<double>(options_.max_size) + 1;
    const auto size = static_cast<std::size_t>(low * std::pow(high / low, uniform));
    return std::clamp(size, options_.min_size, options_.max_size);
  }

  void next_request(Connection& c) {
    if (issued_ == options_.operations) {
      c.busy = false;
      return;
    }
    ++issued_;
    if (!c.busy) ++busy_;
    c.busy = true;
    const auto key = static_cast<unsigned>(random_() % options_.keys);
    const bool get = static_cast<double>(random_() >> 11) / 9007199254740992.0 < options_.get_ratio;
    c.is_get = get && c.versions[key] != 0;
    if (!c.is_get) ++c.versions[key];
    compose(c, key);
    c.sent = c.received = 0;
    c.started = now_ns();
    c.progress.start(c.started);
    write_some(c);
  }

  void compose(Connection& c, unsigned key) {
    const std::uint32_t version = c.versions[key];
    const std::uint64_t identity =
        mix(options_.seed) ^ (std::uint64_t{c.index} << 48) ^ (std::uint64_t{key} << 32) ^ version;
    const std::size_t size = value_size(identity);
    const std::string name = "c" + std::to_string(c.index) + "-k" + std::to_string(key);
    const std::string middle =
        name + " " + std::to_string(version) + (c.is_get ? " " : " 0 ") + std::to_string(size);
    std::string& holder = c.is_get ? c.answer : c.request;
    holder = (c.is_get ? "VALUE " : "set ") + middle + "\r\n";
    const std::size_t head = holder.size();
    holder.resize(head + size);
    Content(identity).fill(0, std::span(holder.data() + head, size));
    holder += "\r\n";
    if (c.is_get) {
      holder += "END\r\n";
      c.request = "get " + name + "\r\n";
    } else {
      c.answer = "STORED\r\n";
    }
  }

  void handle(Connection& c, std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) write_some(c);
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) read_some(c);
  }

  void write_some(Connection& c) {
    while (c.sent < c.request.size()) {
      const ssize_t n =
          ::send(c.fd.get(), c.request.data() + c.sent, c.request.size() - c.sent, MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EAGAIN) break;
        throw RunFailed(std::string("send: ") + std::strerror(errno) + " on " + name_of(c));
      }
      c.sent += static_cast<std::size_t>(n);
      bytes_sent_ += static_cast<std::uint64_t>(n);
      if (c.sent < c.request.size() || c.wants_write) c.progress.moved(now_ns());
    }
    const bool wants = c.sent < c.request.size();
    if (wants == c.wants_write) return;
    c.wants_write = wants;
    epoll_event event{EPOLLIN | (wants ? std::uint32_t{EPOLLOUT} : 0u), {.u32 = c.index}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, c.fd.get(), &event) != 0) fail_errno("epoll_ctl");
  }

  void read_some(Connection& c) {
    const ssize_t n = ::recv(c.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (n < 0) {
      if (errno == EAGAIN) return;
      throw RunFailed(std::string("recv: ") + std::strerror(errno) + " on " + name_of(c));
    }
    if (n == 0) throw RunFailed("the server closed " + name_of(c));
    const auto size = static_cast<std::size_t>(n);
    bytes_received_ += size;
    compare(c, size);
    c.received += size;
    const std::uint64_t now = now_ns();
    c.progress.moved(now);
    if (c.received == c.answer.size()) finish_request(c, now);
  }

  void compare(const Connection& c, std::size_t size) {
    const std::size_t left = c.busy ? c.answer.size() - c.received : 0;
    if (size > left || std::memcmp(buffer_.data(), c.answer.data() + c.received, size) != 0) {
      std::size_t at = 0;
      while (at < std::min(size, left) && buffer_[at] == c.answer[c.received + at]) ++at;
      throw RunFailed(
          "wrong byte " + std::to_string(c.received + at) + " on " + name_of(c) + ": got \"" +
          std::string(buffer_.data() + at, std::min<std::size_t>(size - at, 40)) + "\"");
    }
  }

  void finish_request(Connection& c, std::uint64_t now) {
    if (c.sent < c.request.size()) throw RunFailed("answer before the request on " + name_of(c));
    const std::uint64_t taken = now - c.started;
    latency_.record(taken);
    (c.is_get ? get_latency_ : set_latency_).record(taken);
    ++done_;
    if (c.is_get) ++gets_;
    next_request(c);
    if (!c.busy) --busy_;
  }

  const Options& options_;
  std::mt19937_64 random_;
  Fd epoll_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<char> buffer_ = std::vector<char>(256 * 1024);
  Latency latency_, get_latency_, set_latency_;
  std::uint64_t issued_ = 0, done_ = 0, gets_ = 0, bytes_sent_ = 0, bytes_received_ = 0;
  std::uint64_t started_ = 0, finished_ = 0;
  unsigned busy_ = 0;
};

int run(const Options& options) {
  raise_fd_limit();
  const auto run = std::make_unique<Run>(options);
  std::string reason;
  try {
    run->go();
  } catch (const std::exception& failure) {
    reason = failure.what();
    std::cerr << "memcheck: " << reason << std::endl;
  }
  write_json(options.json, run->report(reason));
  return reason.empty() ? 0 : 1;
}

}  // namespace
}  // namespace toe::clients

int main(int argc, char** argv) {
  toe::clients::Options options;
  CLI::App app("Loads a memcached and compares every answer byte by byte");
  app.add_option("--server", options.server, "ADDRESS:PORT or [ADDRESS]:PORT");
  app.add_option("-c,--connections", options.connections)->check(CLI::Range(1, 100000));
  app.add_option("-n,--operations", options.operations, "sets and gets in all");
  app.add_option("--keys", options.keys, "keys of each connection")->check(CLI::Range(1, 100000));
  app.add_option("--min-size", options.min_size)->check(CLI::Range(1, 1000000));
  app.add_option("--max-size", options.max_size)->check(CLI::Range(1, 1000000));
  app.add_option("--get-ratio", options.get_ratio)->check(CLI::Range(0.0, 1.0));
  app.add_option("--idle", options.idle, "after the last answer, stay silent for this many s");
  app.add_option("--seed", options.seed);
  app.add_option("--json", options.json, "file of the result (default: stdout)");
  app.add_option("--tuples", options.tuples, "file that receives the addresses once connected");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return toe::clients::run(options);
  } catch (const std::exception& failure) {
    std::cerr << "memcheck: " << failure.what() << std::endl;
    return 1;
  }
}
