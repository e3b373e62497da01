#include <sys/epoll.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "content.h"
#include "echoload.h"
#include "load.h"

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

struct Slot final : Peer {
  enum class State { kDone, kConnecting, kWaiting };
  bool waits() const override { return state != State::kDone; }
  std::string name() const override { return "connection " + source.text(); }

  State state = State::kDone;
  Endpoint source;
  Content content{0};
  std::size_t received = 0;
  std::uint64_t started = 0;
};

class Connects final : public Load {
 public:
  explicit Connects(const EchoOptions& options)
      : Load("echoload", options.server),
        options_(options),
        tuples_(parse_sources(options.sources)),
        message_(options.size) {}

 private:
  void start() override {
    begin(options_.warmup);
    if (options_.count == 0) {
      stop_at_ = measured_from() + static_cast<std::uint64_t>(options_.seconds * 1e9);
    }
    for (unsigned i = 0; i < options_.connections; ++i) {
      add(std::make_unique<Slot>());
      open(static_cast<Slot&>(*peers_.back()), now_ns());
    }
  }

  bool goes_on(std::uint64_t) const override { return open_ > 0; }

  void on_event(Peer& peer, std::uint32_t) override {
    auto& slot = static_cast<Slot&>(peer);
    if (slot.state == Slot::State::kConnecting) {
      send_request(slot);
    } else {
      read_answer(slot);
    }
  }

  void add_to_report(nlohmann::json& report) const override {
    report["mode"] = "connects";
    report["size"] = options_.size;
    report["closes_first"] = options_.server_closes ? "server" : "client";
  }

  void open(Slot& slot, std::uint64_t now) {
    slot.fd.reset();
    slot.state = Slot::State::kDone;
    if (now >= stop_at_ || (options_.count != 0 && opened_ >= options_.count)) return;
    slot.source = tuples_.next(now);
    slot.content = Content(options_.seed * 1'000'003u + opened_++);
    slot.received = 0;
    slot.started = now;
    slot.progress.start(now);
    slot.fd =
        Fd(::socket(server().address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!slot.fd.valid()) fail_errno("socket");
    const int one = 1;
    (void)::setsockopt(slot.fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    set_nodelay(slot.fd.get());
    if (::bind(slot.fd.get(), slot.source.get(), slot.source.length) != 0) {
      fail_errno("bind " + slot.name());
    }
    if (::connect(slot.fd.get(), server().get(), server().length) != 0 && errno != EINPROGRESS) {
      fail_errno("connect of " + slot.name());
    }
    slot.state = Slot::State::kConnecting;
    ++open_;
    watch(slot, EPOLL_CTL_ADD, EPOLLOUT);
  }

  void send_request(Slot& slot) {
    int error = 0;
    socklen_t length = sizeof error;
    (void)::getsockopt(slot.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      throw RunFailed(std::string("connect: ") + std::strerror(error) + " on " + slot.name());
    }
    slot.content.fill(0, message_);
    if (send_some(slot, message_) != message_.size()) {
      throw RunFailed("short send on " + slot.name());
    }
    slot.progress.moved(now_ns());
    slot.state = Slot::State::kWaiting;
    watch(slot, EPOLL_CTL_MOD, EPOLLIN);
  }

  void read_answer(Slot& slot) {
    const auto n = receive_some(slot, buffer_);
    if (!n) return;
    const std::uint64_t now = now_ns();
    slot.progress.moved(now);
    if (slot.received + *n > options_.size) throw RunFailed("too many bytes on " + slot.name());
    if (slot.content.first_wrong(slot.received, std::span(buffer_.data(), *n))) {
      throw RunFailed("wrong byte on " + slot.name());
    }
    slot.received += *n;
    if (*n == 0 && (slot.received < options_.size || !options_.server_closes)) {
      throw RunFailed("the server closed " + slot.name());
    }
    const bool complete = slot.received == options_.size;
    if (!complete || (options_.server_closes && *n > 0)) return;
    answered(slot.started, now);
    --open_;
    open(slot, now);
  }

  const EchoOptions& options_;
  Tuples tuples_;
  std::vector<char> message_;
  std::uint64_t stop_at_ = UINT64_MAX;
  std::uint64_t opened_ = 0, open_ = 0;
};

}  // namespace

int run_connects(const EchoOptions& options) {
  if (options.sources.empty()) throw std::invalid_argument("--connects needs --sources");
  return Connects(options).run(options.json);
}

}  // namespace toe::clients
