// The engine's core on a wire in memory, with libtoe's connections, under a virtual clock.
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>

#include "conformance/segment.h"
#include "conformance/subject.h"
#include "libtoe/connection.h"
#include "libtoe/engine_client.h"
#include "libtoe/listener.h"
#include "libtoe/wait_context.h"
#include "sim/sim_engine.h"

namespace toe::conformance {
namespace {

constexpr std::uint32_t kChunks = 2048;
constexpr ClientId kProgram{1};
constexpr std::int64_t kSettle = 50'000;  ///< how long a call or a segment takes to have its effect
constexpr std::size_t kEthernet = 14;
constexpr std::uint8_t kEthernetHeader[kEthernet] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};

/// The control socket as function calls.
class Link final : public libtoe::EngineLink {
 public:
  Link(sim::SimEngine& engine, sim::Clock& clock) : engine_(engine), clock_(clock) {}
  libtoe::Exchange send(const libtoe::Packet& packet) override {
    engine_.on_message(kProgram, packet);
    return libtoe::Exchange::kDone;
  }
  bool receive(libtoe::Packet& packet) override { return engine_.next_message(kProgram, packet); }
  void ring() override { engine_.wake(clock_.now); }
  void set_doorbell(int) override {}
  int life_fd() const override { return -1; }
  void close() override {}

 private:
  sim::SimEngine& engine_;
  sim::Clock& clock_;
};

sim::Plan plan_of(const Settings& settings) {
  sim::Plan plan;
  plan.seed = 1;
  plan.congestion = "reno";
  plan.max_ring = 4 << 20;
  if (settings.contains("ecn")) {
    const bool asks = settings.at("ecn") == "request";
    plan.ecn = asks ? control::Ecn::kRequest : control::Ecn::kAccept;
  }
  if (settings.contains("sack")) plan.sack = settings.at("sack") != "0";
  return plan;
}

class EngineSubject final : public Subject {
 public:
  explicit EngineSubject(const Settings& settings);
  bool start();

  bool exact() const override { return true; }
  std::int64_t now() override { return clock_.now.ns; }
  void inject(std::span<const std::uint8_t> packet) override;
  bool next(Packet& out, std::int64_t until) override;
  void pass(std::int64_t until) override { run(until, false); }

  int listen(int backlog) override;
  int accept() override;
  int connect() override;
  int connect_result() override { return connection_.connect_result(); }
  ssize_t write(std::span<const std::uint8_t> bytes, int flags) override;
  ssize_t read(std::span<std::uint8_t> into, int flags) override;
  int shutdown(int how) override;
  int close() override;
  int close_listener() override;
  int set(const std::string& name, int value) override;
  int error() override { return -connection_.take_error(); }
  short poll() override;

 private:
  /// Steps the engine until then, or until a frame has left.
  void run(std::int64_t until, bool stop_at_frame);
  void settle() { run(now() + kSettle, false); }
  bool collect();
  void adopt_line(std::uint32_t line);
  int set_later(const std::string& name, int value);
  int set_flag(shm::AppFlag flag, int value);
  int set_word(std::atomic<std::uint32_t>& word, int value);

  sim::Plan plan_;
  sim::Clock clock_;
  sim::Marks marks_;
  port::MemWire wire_;
  std::unique_ptr<sim::SimEngine> engine_;
  std::unique_ptr<libtoe::EngineClient> client_;
  std::unique_ptr<libtoe::WaitContext> waiter_;
  libtoe::Lane* lane_ = nullptr;
  libtoe::Listener listener_;
  libtoe::Connection connection_;
  shm::SocketOptions options_{};
  std::deque<Packet> queue_;
  std::uint64_t next_cookie_ = 1000;
};

EngineSubject::EngineSubject(const Settings& settings) : plan_(plan_of(settings)), wire_(kChunks) {
  wire_.set_now(clock_.now);
  engine_ = std::make_unique<sim::SimEngine>(plan_, 0, wire_.port(0), clock_, marks_);
  client_ = std::make_unique<libtoe::EngineClient>(std::make_unique<Link>(*engine_, clock_));
  engine_->on_doorbell = [](ClientId) {};
  engine_->on_shared = [this](ClientId, std::uint32_t segment, std::uint8_t* base) {
    client_->segments().adopt(segment, base);
  };
}

bool EngineSubject::start() {
  client_->adopt_page(engine_->page());
  engine_->attach(kProgram);
  if (!client_->attach(false)) return false;
  waiter_ = std::make_unique<libtoe::WaitContext>(*client_);
  lane_ = waiter_->lane(*client_->segments().at(0));
  return lane_ != nullptr;
}

bool EngineSubject::collect() {
  port::MemPort& port = wire_.port(1);
  wire_.set_now(clock_.now);
  Frame frames[16];
  bool any = false;
  for (std::size_t n = port.rx(frames); n != 0; n = port.rx(frames)) {
    for (std::size_t i = 0; i < n; ++i) {
      const auto bytes = port.pool().bytes(frames[i]);
      queue_.push_back({{bytes.begin() + kEthernet, bytes.end()}, clock_.now.ns});
      port.pool().release(frames[i]);
      any = true;
    }
  }
  return any;
}

void EngineSubject::run(std::int64_t until, bool stop_at_frame) {
  for (;;) {
    waiter_->drain([](libtoe::Lane&, std::uint32_t) {});
    const bool arrived = !wire_.port(0).prepare_sleep();
    const Time next = arrived ? clock_.now : std::max(engine_->wake_at(), clock_.now);
    if (next.ns > until) break;
    clock_.now = next;
    wire_.set_now(next);
    engine_->step();
    if (collect() && stop_at_frame) return;
  }
  clock_.now = Time{std::max(until, clock_.now.ns)};
  wire_.set_now(clock_.now);
}

void EngineSubject::inject(std::span<const std::uint8_t> packet) {
  port::MemPort& port = wire_.port(1);
  Frame frame = port.pool().acquire();
  if (!frame.valid()) return;
  frame.length = static_cast<std::uint16_t>(kEthernet + packet.size());
  std::uint8_t* bytes = port.pool().bytes(frame).data();
  std::memcpy(bytes, kEthernetHeader, kEthernet);
  std::memcpy(bytes + kEthernet, packet.data(), packet.size());
  port.tx({&frame, 1});
  settle();
}

bool EngineSubject::next(Packet& out, std::int64_t until) {
  if (queue_.empty()) run(until, true);
  if (queue_.empty()) return false;
  out = std::move(queue_.front());
  queue_.pop_front();
  return true;
}

int EngineSubject::listen(int backlog) {
  const libtoe::LineAnswer answer =
      client_->listen(7, static_cast<std::uint32_t>(backlog), options_);
  if (!answer.ok()) return answer.error != 0 ? -answer.error : -EOPNOTSUPP;
  listener_.attach(lane_, answer.line);
  settle();
  return 0;
}

void EngineSubject::adopt_line(std::uint32_t line) {
  connection_.attach(lane_, line);
  connection_.line().rx_interest.fetch_or(lane_->bit());
  connection_.line().tx_interest.fetch_or(lane_->bit());
}

int EngineSubject::accept() {
  settle();
  const auto line = listener_.take();
  if (!line) return -EAGAIN;
  listener_.accept(*line, next_cookie_++);
  adopt_line(*line);
  settle();
  return 0;
}

int EngineSubject::connect() {
  shm::Connect request{};
  request.options = options_;
  const IpAddr remote = IpAddr::v4(10, 0, 0, 2);
  std::memcpy(request.remote_addr, remote.bytes.data(), 16);
  request.remote_port = kRemotePort;
  const libtoe::LineAnswer answer = client_->connect(100, request);
  if (!answer.ok()) return answer.error != 0 ? -answer.error : -EOPNOTSUPP;
  adopt_line(answer.line);
  collect();
  settle();
  return -EINPROGRESS;
}

ssize_t EngineSubject::write(std::span<const std::uint8_t> bytes, int flags) {
  iovec piece{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
  ssize_t done = 0;
  // A program that is told to wait tries again: rings grow while it does.
  for (int tries = 0; tries < 16 && done < static_cast<ssize_t>(bytes.size()); ++tries) {
    libtoe::IoCursor cursor(&piece, 1);
    const ssize_t n = (flags & MSG_OOB) != 0 ? connection_.send_urgent(cursor)
                                             : connection_.send(cursor, (flags & MSG_MORE) != 0);
    settle();
    if (n < 0 && n != -EAGAIN) return done > 0 ? done : n;
    if (n <= 0) continue;
    done += n;
    piece.iov_base = static_cast<std::uint8_t*>(piece.iov_base) + n;
    piece.iov_len -= static_cast<std::size_t>(n);
  }
  return done > 0 || bytes.empty() ? done : -EAGAIN;
}

ssize_t EngineSubject::read(std::span<std::uint8_t> into, int flags) {
  settle();
  iovec piece{into.data(), into.size()};
  libtoe::IoCursor cursor(&piece, 1);
  const ssize_t n = (flags & MSG_OOB) != 0
                        ? connection_.recv_urgent(cursor, libtoe::RecvMode::kTake)
                        : connection_.recv(cursor, libtoe::RecvMode::kTake);
  settle();
  return n;
}

int EngineSubject::shutdown(int how) {
  if (connection_.connect_result_pending() || connection_.over()) return -ENOTCONN;
  if (how != SHUT_WR) connection_.shut_read();
  if (how != SHUT_RD) connection_.shut_write();
  settle();
  return 0;
}

int EngineSubject::close() {
  shm::Line& line = connection_.line();
  line.rx_interest.fetch_and(~lane_->bit());
  line.tx_interest.fetch_and(~lane_->bit());
  connection_.close(line.linger_s.load() == 1);
  settle();
  return 0;
}

int EngineSubject::close_listener() {
  listener_.close();
  listener_ = {};
  settle();
  return 0;
}

/// Before there is a connection: what it will inherit.
int EngineSubject::set_later(const std::string& name, int value) {
  const auto number = static_cast<std::uint32_t>(value);
  const auto flag = [&](shm::AppFlag bit) {
    options_.app_flags = value != 0 ? options_.app_flags | bit : options_.app_flags & ~bit;
  };
  if (name == "nodelay") return flag(shm::kNoDelay), 0;
  if (name == "cork") return flag(shm::kCork), 0;
  if (name == "keepalive") return flag(shm::kKeepAlive), 0;
  std::map<std::string, std::uint32_t*> words = {
      {"keepidle", &options_.keep_idle_s}, {"keepintvl", &options_.keep_interval_s},
      {"keepcnt", &options_.keep_count},   {"user_timeout", &options_.user_timeout_ms},
      {"maxseg", &options_.max_segment},   {"rcvbuf", &options_.rcvbuf},
      {"sndbuf", &options_.sndbuf}};
  if (!words.contains(name)) return -ENOPROTOOPT;
  const bool doubled = name == "rcvbuf" || name == "sndbuf";  // as the kernel reads them back
  *words.at(name) = doubled ? 2 * number : number;
  return 0;
}

int EngineSubject::set_flag(shm::AppFlag flag, int value) {
  connection_.set_app_flags(flag, value != 0);
  settle();
  return 0;
}

int EngineSubject::set_word(std::atomic<std::uint32_t>& word, int value) {
  word.store(static_cast<std::uint32_t>(value));
  connection_.options_changed();
  settle();
  return 0;
}

int EngineSubject::set(const std::string& name, int value) {
  if (!connection_.attached()) return set_later(name, value);
  shm::Line& line = connection_.line();
  if (name == "nodelay") return set_flag(shm::kNoDelay, value);
  if (name == "cork") return set_flag(shm::kCork, value);
  if (name == "keepalive") return set_flag(shm::kKeepAlive, value);
  if (name == "quickack") return set_flag(shm::kQuickAck, value);
  if (name == "keepidle") return set_word(line.keep_idle_s, value);
  if (name == "keepintvl") return set_word(line.keep_interval_s, value);
  if (name == "keepcnt") return set_word(line.keep_count, value);
  if (name == "user_timeout") return set_word(line.user_timeout_ms, value);
  if (name == "linger") return set_word(line.linger_s, 1 + value);
  if (name == "rcvbuf") return set_word(line.rcvbuf, 2 * value);
  if (name == "sndbuf") return set_word(line.sndbuf, 2 * value);
  return -ENOPROTOOPT;
}

short EngineSubject::poll() {
  const libtoe::Events events = connection_.readiness();
  short out = 0;
  if ((events & EPOLLIN) != 0) out |= POLLIN;
  if ((events & EPOLLOUT) != 0) out |= POLLOUT;
  if ((events & EPOLLRDHUP) != 0) out |= POLLRDHUP;
  if ((events & EPOLLHUP) != 0) out |= POLLHUP;
  if ((events & EPOLLERR) != 0) out |= POLLERR;
  return out;
}

}  // namespace

std::unique_ptr<Subject> make_engine(const Settings& settings, std::string& why) {
  auto subject = std::make_unique<EngineSubject>(settings);
  if (!subject->start()) {
    why = "the program could not attach to the engine";
    return nullptr;
  }
  return subject;
}

}  // namespace toe::conformance
