#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "content.h"
#include "echoload.h"
#include "load.h"

namespace toe::clients {
namespace {

struct Connection final : Peer {
  explicit Connection(const EchoOptions& options) : size(options.size), started(options.depth) {}
  bool waits() const override { return received < queued * size; }
  std::string name() const override {
    return "connection " + std::to_string(index) + ", sent " + std::to_string(sent) +
           ", received " + std::to_string(received);
  }

  const std::size_t size;  ///< of a message
  Content content{0};
  std::uint64_t queued = 0;            ///< messages started
  std::uint64_t sent = 0;              ///< bytes
  std::uint64_t received = 0;          ///< bytes
  std::vector<std::uint64_t> started;  ///< when message number i (modulo depth) began
};

class Steady final : public Load {
 public:
  explicit Steady(const EchoOptions& options)
      : Load("echoload", options.server),
        options_(options),
        chunk_(std::clamp<std::size_t>(options.size * options.depth, 64, 256 * 1024)) {}

 private:
  void start() override {
    connect_all();
    begin(options_.warmup);
    if (options_.count == 0 && options_.idle == 0) {
      end_ = measured_from() + static_cast<std::uint64_t>(options_.seconds * 1e9);
    }
    const std::uint64_t now = now_ns();
    for (const auto& peer : peers_) {
      auto& c = static_cast<Connection&>(*peer);
      for (unsigned i = 0; i < options_.depth; ++i) queue_message(c, now);
      write_some(c, now);
    }
  }

  void connect_all() {
    const std::vector<Endpoint> sources = parse_sources(options_.sources);
    Ticker ticker("echoload connects", now_ns());
    for (unsigned i = 0; i < options_.connections; ++i) {
      auto connection = std::make_unique<Connection>(options_);
      connection->content = Content(options_.seed * 1'000'003u + i);
      add(std::move(connection));
      connect(*peers_.back(), sources.empty() ? nullptr : &sources[i % sources.size()]);
      if (i % 256 == 0) ticker.tick(now_ns(), i, "");
    }
    tell_tuples(options_.tuples);
  }

  bool goes_on(std::uint64_t now) const override { return now < end_ && outstanding_ > 0; }

  void on_event(Peer& peer, std::uint32_t events) override {
    auto& c = static_cast<Connection&>(peer);
    if ((events & EPOLLOUT) != 0) write_some(c, now_ns());
    if ((events & ~std::uint32_t{EPOLLOUT}) != 0) read_some(c);
  }

  void finish() override { idle(options_.idle); }

  void add_to_report(nlohmann::json& report) const override {
    report["mode"] = options_.idle > 0 ? "idle" : "steady";
    report["size"] = options_.size;
    report["depth"] = options_.depth;
  }

  bool may_queue() const {
    if (options_.idle > 0) return issued_ < options_.connections;
    return options_.count == 0 || issued_ < options_.count;
  }

  void queue_message(Connection& c, std::uint64_t now) {
    if (!may_queue()) return;
    if (!c.waits()) c.progress.start(now);
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
      const std::size_t n = send_some(c, std::span(chunk_.data(), size));
      if (n == 0) break;
      c.sent += n;
      c.progress.moved(now);
    }
    set_wants_write(c, c.sent < until);
  }

  void read_some(Connection& c) {
    const auto n = receive_some(c, buffer_);
    if (!n) return;
    if (*n == 0) throw RunFailed("the server closed " + c.name());
    if (*n > c.sent - c.received) throw RunFailed("more bytes than were sent on " + c.name());
    if (const auto wrong = c.content.first_wrong(c.received, std::span(buffer_.data(), *n))) {
      throw RunFailed("wrong byte " + std::to_string(c.received + *wrong) + " on " + c.name());
    }
    const std::uint64_t before = c.received / options_.size;
    c.received += *n;
    const std::uint64_t now = now_ns();
    c.progress.moved(now);
    const std::uint64_t after = c.received / options_.size;
    if (before == after) return;
    for (std::uint64_t message = before; message < after; ++message) {
      answered(c.started[message % options_.depth], now);
      --outstanding_;
      queue_message(c, now);
    }
    write_some(c, now);
  }

  const EchoOptions& options_;
  std::vector<char> chunk_;
  std::uint64_t end_ = UINT64_MAX;
  std::uint64_t issued_ = 0, outstanding_ = 0;
};

}  // namespace

int run_steady(const EchoOptions& options) { return Steady(options).run(options.json); }

}  // namespace toe::clients
