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

// Below the ephemeral range: connect() without bind() passes over every port that somebody bound
// explicitly, connections in TIME-WAIT included.
constexpr std::uint16_t kFirstPort = 1100;
constexpr std::uint16_t kLastPort = 32768;
constexpr std::uint64_t kReuseAfter = 61'000'000'000;  ///< longer than Linux's TIME-WAIT

/// Hands out (source address, port) pairs, none of them twice within a minute.
class Tuples {
 public:
  explicit Tuples(std::vector<Endpoint> sources) : sources_(std::move(sources)) {
    used_.resize(sources_.size() * (kLastPort - kFirstPort));
  }

  Endpoint next(std::uint64_t now) {
    std::uint64_t& used = used_[at_];
    if (used != 0 && now - used < kReuseAfter) {
      throw RunFailed("every address and port was used within the last minute: more --sources");
    }
    used = now;
    Endpoint source = sources_[at_ % sources_.size()];
    source.set_port(static_cast<std::uint16_t>(kFirstPort + at_ / sources_.size()));
    at_ = (at_ + 1) % used_.size();
    return source;
  }

 private:
  std::vector<Endpoint> sources_;
  std::vector<std::uint64_t> used_;
  std::size_t at_ = 0;
};

struct Slot {
  Fd fd;
  unsigned index = 0;
  enum class State { kConnecting, kWaiting, kEnding, kDone } state = State::kDone;
  Content content{0};
  std::size_t received = 0;
  std::uint64_t started = 0;
  std::string name;
  Progress progress;
};

class Connects {
 public:
  explicit Connects(const EchoOptions& options)
      : options_(options),
        server_(parse_endpoint(options.server)),
        tuples_(parse_sources(options.sources)),
        slots_(options.connections),
        message_(options.size),
        buffer_(options.size + 1) {}

  void go() {
    epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    begin_ = now_ns();
    measure_from_ = begin_ + static_cast<std::uint64_t>(options_.warmup * 1e9);
    stop_at_ = options_.count != 0
                   ? UINT64_MAX
                   : measure_from_ + static_cast<std::uint64_t>(options_.seconds * 1e9);
    for (unsigned i = 0; i < slots_.size(); ++i) {
      slots_[i].index = i;
      open(slots_[i], begin_);
    }
    loop();
    finished_ = now_ns();
  }

  nlohmann::json report(const std::string& reason) const {
    const std::uint64_t end = finished_ != 0 ? finished_ : now_ns();
    const double seconds = end > measure_from_ ? static_cast<double>(end - measure_from_) / 1e9 : 0;
    return {{"schema", 1},
            {"program", "echoload"},
            {"mode", "connects"},
            {"server", options_.server},
            {"closes_first", options_.server_closes ? "server" : "client"},
            {"connections", options_.connections},
            {"size", options_.size},
            {"seconds", seconds},
            {"requests", latency_.count()},
            {"requests_with_warmup", done_},
            {"requests_per_s", seconds > 0 ? static_cast<double>(latency_.count()) / seconds : 0},
            {"latency_us", latency_.to_json()},
            {"stalls", stalls()},
            {"client_cpu_s", own_cpu_seconds()},
            {"failed", !reason.empty()},
            {"reason", reason}};
  }

 private:
  std::uint64_t stalls() const {
    std::uint64_t sum = 0;
    for (const auto& slot : slots_) sum += slot.progress.stalls();
    return sum;
  }

  void open(Slot& slot, std::uint64_t now) {
    slot.fd.reset();
    slot.state = Slot::State::kDone;
    if (now >= stop_at_ || (options_.count != 0 && opened_ >= options_.count)) return;
    const Endpoint source = tuples_.next(now);
    slot.name = "connection " + source.text();
    slot.content = Content(options_.seed * 1'000'003u + opened_++);
    slot.received = 0;
    slot.started = now;
    slot.progress.start(now);
    slot.fd =
        Fd(::socket(server_.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!slot.fd.valid()) fail_errno("socket");
    const int one = 1;
    (void)::setsockopt(slot.fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    set_nodelay(slot.fd.get());
    if (::bind(slot.fd.get(), source.get(), source.length) != 0) fail_errno("bind " + slot.name);
    if (::connect(slot.fd.get(), server_.get(), server_.length) != 0 && errno != EINPROGRESS) {
      fail_errno("connect of " + slot.name);
    }
    slot.state = Slot::State::kConnecting;
    ++open_;
    epoll_event event{EPOLLOUT, {.u32 = slot.index}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, slot.fd.get(), &event) != 0) {
      fail_errno("epoll_ctl");
    }
  }

  void loop() {
    Ticker ticker("echoload", begin_);
    std::uint64_t looked = begin_;
    std::vector<epoll_event> events(1024);
    while (open_ > 0) {
      const int ready =
          ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 100);
      if (ready < 0 && errno != EINTR) fail_errno("epoll_wait");
      for (int i = 0; i < ready; ++i) {
        step(slots_[events[static_cast<std::size_t>(i)].data.u32]);
      }
      const std::uint64_t now = now_ns();
      if (now - looked < 100'000'000) continue;
      looked = now;
      for (auto& slot : slots_) {
        if (slot.state != Slot::State::kDone) slot.progress.look(now, slot.name);
      }
      ticker.tick(now, done_, std::to_string(stalls()) + " stalls");
    }
  }

  void step(Slot& slot) {
    if (slot.state == Slot::State::kConnecting) {
      send_request(slot);
    } else {
      read_answer(slot);
    }
  }

  void send_request(Slot& slot) {
    int error = 0;
    socklen_t length = sizeof error;
    (void)::getsockopt(slot.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0)
      throw RunFailed(std::string("connect: ") + std::strerror(error) + " on " + slot.name);
    slot.content.fill(0, message_);
    const ssize_t n = ::send(slot.fd.get(), message_.data(), message_.size(), MSG_NOSIGNAL);
    if (n != static_cast<ssize_t>(message_.size())) throw RunFailed("short send on " + slot.name);
    slot.progress.moved(now_ns());
    slot.state = Slot::State::kWaiting;
    epoll_event event{EPOLLIN, {.u32 = slot.index}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, slot.fd.get(), &event) != 0) {
      fail_errno("epoll_ctl");
    }
  }

  void read_answer(Slot& slot) {
    const ssize_t n = ::recv(slot.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (n < 0) {
      if (errno == EAGAIN) return;
      throw RunFailed(std::string("recv: ") + std::strerror(errno) + " on " + slot.name);
    }
    const std::uint64_t now = now_ns();
    slot.progress.moved(now);
    const auto size = static_cast<std::size_t>(n);
    if (slot.received + size > options_.size) throw RunFailed("too many bytes on " + slot.name);
    if (slot.content.first_wrong(slot.received, std::span(buffer_.data(), size))) {
      throw RunFailed("wrong byte on " + slot.name);
    }
    slot.received += size;
    if (size == 0 && (slot.received < options_.size || !options_.server_closes)) {
      throw RunFailed("the server closed " + slot.name);
    }
    const bool complete = slot.received == options_.size;
    if (!complete || (options_.server_closes && size > 0)) return;
    if (slot.started >= measure_from_) latency_.record(now - slot.started);
    ++done_;
    --open_;
    open(slot, now);
  }

  const EchoOptions& options_;
  const Endpoint server_;
  Tuples tuples_;
  Fd epoll_;
  std::vector<Slot> slots_;
  std::vector<char> message_, buffer_;
  Latency latency_;
  std::uint64_t begin_ = 0, measure_from_ = 0, stop_at_ = 0, finished_ = 0;
  std::uint64_t opened_ = 0, open_ = 0, done_ = 0;
};

}  // namespace

int run_connects(const EchoOptions& options) {
  if (options.sources.empty()) throw std::invalid_argument("--connects needs --sources");
  const auto run = std::make_unique<Connects>(options);
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
