#include "sim/sim_host.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

namespace toe::sim {
namespace {

/// A peer that dies or resets while nothing is sent to it is found by keep-alive only: a reset that
/// is lost is not repeated. Loss alone never ends a connection: twenty probes.
void set_keep_alive(libtoe::Connection& connection, bool on) {
  connection.line().keep_idle_s = 10;
  connection.line().keep_interval_s = 2;
  connection.line().keep_count = 20;
  connection.options_changed();
  connection.set_app_flags(shm::kKeepAlive, on);
}

constexpr std::uint64_t kPieces[] = {1, 17, 100, 1000, 1448, 4096, 20'000, 65'536};
/// The words of a line that tell why nothing moves.
std::string words_of(const shm::Line& l) {
  const auto number = [](const char* name, std::uint64_t value) {
    return std::string(" ") + name + "=" + std::to_string(value);
  };
  return number("state", l.state) + number("rx_tail", l.rx_tail) + number("rx_head", l.rx_head) +
         number("tx_tail", l.tx_tail) + number("tx_una", l.tx_una) +
         number("tx_switch", l.tx_switch) + number("tx_offered", l.tx_offered) +
         number("tx_taken", l.tx_taken) + number("interest", l.rx_interest) +
         number("hinted", l.hinted_app);
}

constexpr std::uint32_t kUserTimeoutSeconds = 7;
constexpr int kActions = 64;  ///< per turn: an endpoint leaves room for the others

}  // namespace

/// The control socket as function calls.
class SimHost::Link final : public libtoe::EngineLink {
 public:
  Link(SimEngine& engine, ClientId id, Clock& clock) : engine_(engine), id_(id), clock_(clock) {}
  libtoe::Exchange send(const libtoe::Packet& packet) override {
    engine_.on_message(id_, packet);
    return libtoe::Exchange::kDone;
  }
  bool receive(libtoe::Packet& packet) override { return engine_.next_message(id_, packet); }
  void ring() override { engine_.wake(clock_.now); }
  void set_doorbell(int) override {}
  int life_fd() const override { return -1; }
  void close() override {}

 private:
  SimEngine& engine_;
  ClientId id_;
  Clock& clock_;
};

SimHost::SimHost(const Plan& plan, SimEngine& engine, Clock& clock, Marks& marks,
                 std::uint64_t seed)
    : plan_(plan),
      engine_(engine),
      clock_(clock),
      marks_(marks),
      random_(seed),
      begin_(clock.now),
      buffer_(test::Pattern::kPiece) {}

SimHost::~SimHost() = default;

bool SimHost::attach(ClientId id) {
  id_ = id;
  next_cookie_ = index_of(id) * 100'000ull;
  client_ = std::make_unique<libtoe::EngineClient>(std::make_unique<Link>(engine_, id, clock_));
  client_->adopt_page(engine_.page());
  engine_.attach(id);
  return client_->attach(false) && open_lane();
}

bool SimHost::open_lane() {
  waiter_ = std::make_unique<libtoe::WaitContext>(*client_);
  lane_ = waiter_->lane(*client_->segments().at(0));
  return lane_ != nullptr;
}

bool SimHost::listen(std::uint16_t port) {
  listening_port_ = port;
  const libtoe::LineAnswer answer = client_->listen(port, 64, {});
  if (!answer.ok()) return false;
  listener_.attach(lane_, answer.line);
  listener_.line().rx_interest.fetch_or(lane_->bit());
  wake_at_ = clock_.now;
  return true;
}

bool SimHost::connect(const ConnectionPlan& plan, std::uint32_t number, const IpAddr& remote) {
  shm::Connect request{};
  std::memcpy(request.remote_addr, remote.bytes.data(), 16);
  request.remote_port = server_dies(plan.order) ? kDoomedPort : kServerPort;
  if (plan.nodelay) request.options.app_flags = shm::kNoDelay;
  const libtoe::LineAnswer answer = client_->connect(static_cast<int>(100 + number), request);
  if (!answer.ok()) return false;
  auto endpoint = std::make_unique<Endpoint>();
  endpoint->plan = plan;
  endpoint->client = endpoint->connecting = true;
  endpoint->out = test::Pattern(plan_.seed * 64 + number * 2);
  endpoint->in = test::Pattern(plan_.seed * 64 + number * 2 + 1);
  endpoint->number = number;
  if (plan.one_way) endpoint->received = plan.bytes;
  if (plan.order == CloseOrder::kOrphan) endpoint->written = plan.bytes;
  add(std::move(endpoint), answer.line);
  return true;
}

void SimHost::add(std::unique_ptr<Endpoint> endpoint, std::uint32_t line) {
  endpoint->connection.attach(lane_, line);
  shm::Line& words = endpoint->connection.line();
  words.rx_interest.fetch_or(lane_->bit());
  words.tx_interest.fetch_or(lane_->bit());
  shm::full_fence();  // interest before the look
  by_line_[line] = endpoint.get();
  endpoints_.push_back(std::move(endpoint));
  wake_at_ = clock_.now;
}

void SimHost::accept_all() {
  accepts_from_ = Time::never();
  while (const auto line = listener_.take()) {
    const std::uint16_t port =
        client_->segments().at(0)->view.line(*line).remote_port.load(std::memory_order_relaxed);
    listener_.accept(*line, next_cookie_++);
    auto endpoint = on_accept(tuple_of(port, listening_port_));
    if (endpoint == nullptr) {
      failure = "accepted a connection that nobody made";
      return;
    }
    const bool nodelay = endpoint->plan.nodelay;
    add(std::move(endpoint), *line);
    libtoe::Connection& connection = endpoints_.back()->connection;
    set_keep_alive(connection, true);
    if (nodelay) connection.set_app_flags(shm::kNoDelay, true);
    guard(*endpoints_.back());
  }
}

void SimHost::rung() {
  if (dead_) return;
  const auto think = plan_.think.ns == 0 ? Nanos{0}
                                         : Nanos{static_cast<std::int64_t>(random_.below(
                                               static_cast<std::uint64_t>(plan_.think.ns)))};
  wake_at_ = std::min(wake_at_, clock_.now + think);
}

void SimHost::run() {
  if (dead_) return;
  waiter_->wake_up();
  waiter_->drain([this](libtoe::Lane&, std::uint32_t line) {
    const auto found = by_line_.find(line);
    if (found != by_line_.end()) found->second->runnable = true;
  });
  if (accept_time() <= clock_.now) accept_all();
  Time next = Time::never();
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {  // accepting may add more
    next = std::min(next, serve(*endpoints_[i]));
  }
  waiter_->fall_asleep();
  next = std::min(next, accept_time());
  if (waiter_->pending()) next = clock_.now;
  if (next <= clock_.now) {
    waiter_->wake_up();
    next = clock_.now + micros(1);
  }
  wake_at_ = next;
}

/// When it wants to act again.
Time SimHost::serve(Endpoint& e) {
  const Time never = Time::never();
  if (e.done) return never;
  if (leaves_at_cut(e)) {
    const Time cut = begin_ + e.plan.cut_after;
    if (cut > clock_.now && !e.runnable) return cut;
    if (cut <= clock_.now && !e.connecting) {
      marks_.hit(Mark::orphan_gave_up, e.connection.unacknowledged() != 0);
      finish(e, false);
      return never;
    }
  }
  if (!e.runnable) return never;
  if (e.stalled_until > clock_.now) return e.stalled_until;
  drive(e);
  if (e.done) return never;
  if (e.runnable) return std::max(e.stalled_until, clock_.now);
  return leaves_at_cut(e) && !e.connecting ? begin_ + e.plan.cut_after : never;
}

bool SimHost::leaves_at_cut(const Endpoint& e) const {
  return e.client && e.plan.order == CloseOrder::kVanish && e.plan.guard == Guard::kClosed;
}

/// When the next connections are accepted; never = none waits.
Time SimHost::accept_time() {
  if (!listener_.attached() || !listener_.ready()) return Time::never();
  if (listening_port_ != kDoomedPort) return clock_.now;
  if (accepts_from_ == Time::never()) {
    accepts_from_ = clock_.now + Nanos{static_cast<std::int64_t>(random_.below(30'000'000))};
  }
  return accepts_from_;
}

/// Reads and writes in turn until neither moves, or it has done enough, or it stalls.
void SimHost::drive(Endpoint& e) {
  if (e.connecting) {
    e.runnable = false;
    const int result = e.connection.connect_result();
    if (result == -EINPROGRESS) return;
    e.connecting = false;
    e.runnable = true;
    if (result != 0) {
      e.error = -result;
      if (e.plan.order == CloseOrder::kVanish) marks_.hit(Mark::connect_timed_out);
      return end_if_due(e);
    }
    guard(e);
  }
  for (int i = 0; i < kActions && !e.done; ++i) {
    if (plan_.stall > 0 && random_.chance(plan_.stall)) {
      marks_.hit(Mark::application_stall);
      const auto longest = static_cast<std::uint64_t>(plan_.longest_stall.ns);
      e.stalled_until = clock_.now + Nanos{static_cast<std::int64_t>(random_.below(longest))};
      return;
    }
    const bool first = random_.chance(0.5);
    bool moved = first ? read_some(e) : write_some(e);
    moved |= first ? write_some(e) : read_some(e);
    end_if_due(e);
    if (!moved) {
      e.runnable = false;
      if (e.given_up && !e.done && e.connection.unacknowledged() == 0) finish(e, false);
      return;
    }
  }
}

bool SimHost::write_some(Endpoint& e) {
  if (e.done || e.shut || e.error != 0 || e.written == e.plan.bytes) return false;
  // Half close: the server answers only after the client's end.
  if (e.plan.order == CloseOrder::kHalfClose && !e.client && !e.saw_end &&
      e.written >= e.plan.bytes / 2) {
    return false;
  }
  const std::uint64_t count = std::min(random_.pick(kPieces), e.plan.bytes - e.written);
  iovec piece{const_cast<std::uint8_t*>(e.out.at(e.written)), count};
  libtoe::IoCursor cursor(&piece, 1);
  const bool more = count < e.plan.bytes - e.written && random_.chance(0.05);
  const ssize_t n = e.connection.send(cursor, more);
  if (n == -EAGAIN) return false;
  if (n < 0) {
    e.error = static_cast<int>(-n);
    return true;  // end_if_due() judges it
  }
  e.written += static_cast<std::uint64_t>(n);
  return n > 0;
}

bool SimHost::read_some(Endpoint& e) {
  if (e.done || e.saw_end || e.error != 0) return false;
  const bool leaves_unread = e.client && e.plan.order == CloseOrder::kUnread;
  if (leaves_unread && e.received >= e.plan.cut) return false;
  iovec piece{buffer_.data(), random_.pick(kPieces)};
  libtoe::IoCursor cursor(&piece, 1);
  const ssize_t n = e.connection.recv(cursor, libtoe::RecvMode::kTake);
  if (n == -EAGAIN) return false;
  if (n == 0) {
    e.saw_end = true;
  } else if (n < 0) {
    e.error = static_cast<int>(-n);
  } else {
    if (!e.hostile && !e.in.matches(e.received, buffer_.data(), static_cast<std::size_t>(n))) {
      fail(e, "wrong byte at or after " + std::to_string(e.received));
    }
    e.received += static_cast<std::uint64_t>(n);
    if (!e.hostile && e.received > e.plan.bytes) fail(e, "more bytes than were sent");
  }
  return true;
}

bool SimHost::all_moved(const Endpoint& e) const {
  return e.written == e.plan.bytes && e.received == e.plan.bytes;
}

void SimHost::end_if_due(Endpoint& e) {
  if (e.done) return;
  const CloseOrder order = e.plan.order;
  if (e.error != 0) {
    judge_error(e);
    return finish(e, false);
  }
  if (e.saw_end && is_orderly(order) && e.received != e.plan.bytes) {
    return fail(e, "the stream ended early at " + std::to_string(e.received));
  }
  if (e.client && order == CloseOrder::kReset && e.written >= e.plan.cut) return finish(e, true);
  if (e.client && order == CloseOrder::kUnread && e.received >= e.plan.cut &&
      (e.connection.unread() != 0 || e.received == e.plan.bytes)) {
    return finish(e, false);
  }
  if (e.client && order == CloseOrder::kHalfClose && e.written == e.plan.bytes && !e.shut) {
    e.shut = true;
    e.connection.shut_write();
  }
  if (e.client && order == CloseOrder::kShutBoth && all_moved(e) && !e.shut) {
    e.shut = true;
    e.connection.shut_write();
    e.connection.shut_read();
  }
  const bool first =
      order == CloseOrder::kSimultaneous ||
      (e.client && (order == CloseOrder::kActive || order == CloseOrder::kLingerZero)) ||
      (!e.client && order == CloseOrder::kPassive);
  if (first && all_moved(e)) return finish(e, order == CloseOrder::kLingerZero);
  if (e.saw_end && (e.written == e.plan.bytes || !is_orderly(order))) finish(e, false);
}

/// What may have happened, and when a peer that has vanished must have been noticed.
void SimHost::judge_error(Endpoint& e) {
  const CloseOrder order = e.plan.order;
  const std::string text = "error " + std::to_string(e.error);
  if (is_orderly(order) && !e.given_up) return fail(e, text);
  if (order != CloseOrder::kVanish) {
    const bool told = e.error == ECONNRESET || e.error == EPIPE || e.error == ETIMEDOUT ||
                      (e.error == ECONNREFUSED && e.client && server_dies(order));
    if (!told) fail(e, text);
    return;
  }
  if (e.error != ETIMEDOUT) fail(e, text + " for a peer that has vanished");
  static constexpr Mark kMarks[] = {Mark::retries_exhausted, Mark::user_timeout_over,
                                    Mark::keepalive_over, Mark::keepalive_over};
  static_assert(std::size(kMarks) == static_cast<std::size_t>(Guard::kCount));
  if (!e.established) return;
  marks_.hit(kMarks[static_cast<std::size_t>(e.plan.guard)]);
  Nanos longest = seconds(1'200);  // 924.6 s of retries, and what the last one waits
  if (e.plan.guard == Guard::kUserTimeout) longest = seconds(kUserTimeoutSeconds + 120);
  const bool idle = e.connection.unacknowledged() == 0;
  if (e.plan.guard >= Guard::kKeepAlive && idle) longest = seconds(60);
  if (clock_.now - begin_ > e.plan.cut_after + longest + plan_.longest_stall) {
    fail(e, "a peer that has vanished was noticed late");
  }
}

/// It is established. How an end of kVanish finds out that the other is gone.
void SimHost::guard(Endpoint& e) {
  e.established = true;
  if (server_dies(e.plan.order) && e.plan.order != CloseOrder::kOrphan) {
    set_keep_alive(e.connection, true);
  }
  if (e.plan.order != CloseOrder::kVanish) return;
  shm::Line& line = e.connection.line();
  if (e.plan.guard == Guard::kUserTimeout) line.user_timeout_ms = kUserTimeoutSeconds * 1000;
  set_keep_alive(e.connection, e.plan.guard == Guard::kKeepAlive || e.plan.guard == Guard::kClosed);
}

void SimHost::finish(Endpoint& e, bool reset) {
  shm::Line& line = e.connection.line();
  line.rx_interest.fetch_and(~lane_->bit());
  line.tx_interest.fetch_and(~lane_->bit());
  by_line_.erase(e.connection.line_index());
  e.connection.close(reset);
  e.done = true;
}

void SimHost::give_up_on(std::uint32_t number) {
  for (const auto& e : endpoints_) {
    if (e->done || e->number != number) continue;
    e->given_up = e->runnable = true;
    wake_at_ = clock_.now;
  }
}

void SimHost::close_listener() {
  if (!listener_.attached() || dead_) return;
  listener_.line().rx_interest.fetch_and(~lane_->bit());
  listener_.close();
}

/// In what state the process leaves its connections.
void SimHost::mark_death() {
  if (listener_.attached() && listener_.ready()) marks_.hit(Mark::died_unaccepted);
  for (const auto& e : endpoints_) {
    if (e->done) continue;
    marks_.hit(Mark::died_in_handshake, e->connecting);
    if (e->connecting) continue;
    marks_.hit(Mark::died_with_unread, e->connection.unread() != 0);
    marks_.hit(Mark::died_with_unsent, e->connection.unacknowledged() != 0);
  }
}

void SimHost::die() {
  mark_death();
  dead_ = true;
  wake_at_ = Time::never();
  for (auto& endpoint : endpoints_) endpoint->done = true;
  engine_.leave(id_);
}

void SimHost::note_ports(std::map<Tuple, std::uint32_t>& numbers) const {
  for (const auto& e : endpoints_) {
    if (e->done || !e->client) continue;
    const shm::Line& line = e->connection.line();
    const std::uint16_t port = line.local_port.load(std::memory_order_relaxed);
    const std::uint16_t remote = server_dies(e->plan.order) ? kDoomedPort : kServerPort;
    if (port != 0) numbers[tuple_of(port, remote)] = e->number;
  }
}

bool SimHost::wrote_all(std::size_t connections) const {
  return endpoints_.size() == connections &&
         std::all_of(endpoints_.begin(), endpoints_.end(),
                     [](const auto& e) { return e->written == e->plan.bytes; });
}

void SimHost::note_received(std::vector<std::uint64_t>& bytes) const {
  for (const auto& e : endpoints_) bytes[e->number] = e->received;
}

bool SimHost::done() const {
  return std::all_of(endpoints_.begin(), endpoints_.end(), [](const auto& e) { return e->done; });
}

void SimHost::fail(const Endpoint& e, const std::string& what) {
  if (!failure.empty()) return;
  failure = std::string(e.client ? "client" : "server") + " of order " +
            std::to_string(static_cast<int>(e.plan.order)) + ": " + what;
}

std::string SimHost::describe() const {
  std::string text;
  for (const auto& e : endpoints_) {
    if (e->done) continue;
    text += std::string("\n  ") + (e->client ? "client" : "server") + " order " +
            std::to_string(static_cast<int>(e->plan.order)) + " written " +
            std::to_string(e->written) + " received " + std::to_string(e->received) + " of " +
            std::to_string(e->plan.bytes) + (e->connecting ? " connecting" : "") +
            (e->saw_end ? " end seen" : "") + (e->runnable ? " runnable" : "") +
            words_of(e->connection.line());
  }
  return text;
}

}  // namespace toe::sim
