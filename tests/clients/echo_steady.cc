#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <vector>

#include "content.h"
#include "echoload.h"
#include "latency.h"
#include "net.h"
#include "watch.h"

namespace toe::clients {
namespace {

struct Connection {
  Fd fd;
  unsigned index = 0;
  Content content{0};
  std::uint64_t queued = 0;            ///< messages started
  std::uint64_t sent = 0;              ///< bytes
  std::uint64_t received = 0;          ///< bytes
  std::vector<std::uint64_t> started;  ///< when message number i (modulo depth) began
  bool wants_write = false;
  Progress progress;
};

class Steady {
 public:
  explicit Steady(const EchoOptions& options) : options_(options) {
    chunk_.resize(std::clamp<std::size_t>(options.size * options.depth, 64, 256 * 1024));
  }

  void go() {
    connect_all();
    begin_ = now_ns();
    measure_from_ = begin_ + seconds_ns(options_.warmup);
    end_ = options_.count != 0 || options_.idle > 0 ? UINT64_MAX
                                                    : measure_from_ + seconds_ns(options_.seconds);
    for (auto& c : connections_) {
      for (unsigned i = 0; i < options_.depth; ++i) queue_message(*c, begin_);
      write_some(*c, begin_);
    }
    loop();
    finished_ = now_ns();
    if (options_.idle > 0) stay_silent(epoll_.get(), options_.idle, "echoload");
  }

  nlohmann::json report(const std::string& reason) const {
    const std::uint64_t end = finished_ != 0 ? finished_ : now_ns();
    const double seconds = end > measure_from_ ? static_cast<double>(end - measure_from_) / 1e9 : 0;
    std::uint64_t longest = 0;
    for (const auto& c : connections_) longest = std::max(longest, c->progress.longest_ns());
    return {{"schema", 1},
            {"program", "echoload"},
            {"mode", options_.idle > 0 ? "idle" : "steady"},
            {"server", options_.server},
            {"connections", connections_.size()},
            {"size", options_.size},
            {"depth", options_.depth},
            {"seconds", seconds},
            {"requests", latency_.count()},
            {"requests_with_warmup", done_},
            {"requests_per_s", seconds > 0 ? static_cast<double>(latency_.count()) / seconds : 0},
            {"latency_us", latency_.to_json()},
            {"stalls", stalls()},
            {"longest_stand_s", static_cast<double>(longest) / 1e9},
            {"client_cpu_s", own_cpu_seconds()},
            {"failed", !reason.empty()},
            {"reason", reason}};
  }

 private:
  static std::uint64_t seconds_ns(double seconds) {
    return static_cast<std::uint64_t>(seconds * 1e9);
  }
  std::uint64_t stalls() const {
    std::uint64_t sum = 0;
    for (const auto& c : connections_) sum += c->progress.stalls();
    return sum;
  }

  void connect_all() {
    epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    const Endpoint server = parse_endpoint(options_.server);
    const std::vector<Endpoint> sources = parse_sources(options_.sources);
    std::vector<int> fds;
    Ticker ticker("echoload connects", now_ns());
    for (unsigned i = 0; i < options_.connections; ++i) {
      auto connection = std::make_unique<Connection>();
      connection->index = i;
      connection->content = Content(options_.seed * 1'000'003u + i);
      connection->started.resize(options_.depth);
      const Endpoint* source = sources.empty() ? nullptr : &sources[i % sources.size()];
      connection->fd = connect_to(server, source, 5000);
      epoll_event event{EPOLLIN, {.u32 = i}};
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection->fd.get(), &event) != 0) {
        fail_errno("epoll_ctl");
      }
      fds.push_back(connection->fd.get());
      connections_.push_back(std::move(connection));
      if (i % 256 == 0) ticker.tick(now_ns(), i, "");
    }
    if (!options_.tuples.empty()) write_tuples(options_.tuples, fds, server.text());
  }

  void loop() {
    Ticker ticker("echoload", begin_);
    std::uint64_t looked = begin_;
    std::vector<epoll_event> events(1024);
    for (std::uint64_t now = begin_; now < end_ && outstanding_ > 0;) {
      const int ready =
          ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 100);
      if (ready < 0 && errno != EINTR) fail_errno("epoll_wait");
      for (int i = 0; i < ready; ++i) {
        const auto& event = events[static_cast<std::size_t>(i)];
        Connection& c = *connections_[event.data.u32];
        if ((event.events & EPOLLOUT) != 0) write_some(c, now_ns());
        if ((event.events & ~std::uint32_t{EPOLLOUT}) != 0) read_some(c);
      }
      now = now_ns();
      if (now - looked < 100'000'000) continue;
      looked = now;
      for (auto& c : connections_) {
        if (c->received < c->queued * options_.size) c->progress.look(now, name_of(*c));
      }
      ticker.tick(now, done_, std::to_string(stalls()) + " stalls");
    }
  }

  bool may_queue() const {
    if (options_.idle > 0) return issued_ < options_.connections;
    return options_.count == 0 || issued_ < options_.count;
  }

  void queue_message(Connection& c, std::uint64_t now) {
    if (!may_queue()) return;
    if (c.queued * options_.size == c.received) c.progress.start(now);
    c.started[c.queued % options_.depth] = now;
    ++c.queued;
    ++issued_;
    ++outstanding_;
  }

  void write_some(Connection& c, std::uint64_t now) {
    const std::uint64_t until = c.queued * options_.size;
    while (c.sent < until) {
      const std::size_t size = std::min<std::uint64_t>(until - c.sent, chunk_.size());
      c.content.fill(c.sent, std::span(chunk_.data(), size));
      const ssize_t n = ::send(c.fd.get(), chunk_.data(), size, MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EAGAIN) break;
        throw RunFailed(std::string("send: ") + std::strerror(errno) + " on " + name_of(c));
      }
      c.sent += static_cast<std::uint64_t>(n);
      c.progress.moved(now);
    }
    const bool wants = c.sent < until;
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
    if (size > c.sent - c.received) throw RunFailed("more bytes than were sent on " + name_of(c));
    if (const auto wrong = c.content.first_wrong(c.received, std::span(buffer_.data(), size))) {
      throw RunFailed("wrong byte " + std::to_string(c.received + *wrong) + " on " + name_of(c));
    }
    const std::uint64_t before = c.received / options_.size;
    c.received += size;
    const std::uint64_t now = now_ns();
    c.progress.moved(now);
    const std::uint64_t after = c.received / options_.size;
    if (before == after) return;
    for (std::uint64_t message = before; message < after; ++message)
      finish_message(c, message, now);
    write_some(c, now);
  }

  void finish_message(Connection& c, std::uint64_t message, std::uint64_t now) {
    const std::uint64_t started = c.started[message % options_.depth];
    if (started >= measure_from_) latency_.record(now - started);
    ++done_;
    --outstanding_;
    queue_message(c, now);
  }

  static std::string name_of(const Connection& c) {
    return "connection " + std::to_string(c.index) + ", sent " + std::to_string(c.sent) +
           ", received " + std::to_string(c.received);
  }

  const EchoOptions& options_;
  Fd epoll_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<char> chunk_;
  std::vector<char> buffer_ = std::vector<char>(256 * 1024);
  Latency latency_;
  std::uint64_t begin_ = 0, measure_from_ = 0, end_ = 0, finished_ = 0;
  std::uint64_t issued_ = 0, outstanding_ = 0, done_ = 0;
};

}  // namespace

int run_steady(const EchoOptions& options) {
  const auto run = std::make_unique<Steady>(options);
  std::string reason;
  try {
    run->go();
  } catch (const std::exception& failure) {
    reason = failure.what();
    std::cerr << "echoload: " << reason << std::endl;
  }
  write_json(options.json, run->report(reason));
  return reason.empty() ? 0 : 1;
}

}  // namespace toe::clients
