#include "libtoe/connection.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

namespace toe::libtoe {
namespace {

using shm::AppFlag;
using shm::Line;
using shm::LineFlag;
using shm::LineState;

/// A reader tells the engine of freed space at each of these parts of the ring.
constexpr std::uint64_t kTellPart = 4;
/// Linux calls a socket writable when a third of its send buffer is free.
constexpr std::uint64_t kWritablePart = 3;

constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr auto kRelaxed = std::memory_order_relaxed;

/// With less than this part of its ring free a connection may have no room for the peer's segments.
constexpr std::uint64_t kLastPart = 4;

/// How long close() waits for a call of another thread on the same connection.
constexpr std::int64_t kCloseWaitMs = 100;

/// What a call sees that comes late, behind close().
Line& nowhere() {
  static Line line;
  line.flags.store(LineFlag::kReset, kRelaxed);
  line.error.store(EBADF, kRelaxed);
  line.error_taken.store(0, kRelaxed);
  line.state.store(static_cast<std::uint32_t>(LineState::kClosed), kRelaxed);
  return line;
}

LineState state_of(const Line& line) { return static_cast<LineState>(line.state.load(kAcquire)); }

/// Between its constructor and tx_tail the writer may use the ring it finds; afterwards it may not.
/// See docs/formats/segment.md, Idle rings.
class Writing {
 public:
  explicit Writing(Line& line) : line_(line) {
    line_.tx_writing.store(1, kRelaxed);
    shm::full_fence();  // the engine sees it, or the writer sees the engine's offer
  }
  ~Writing() { line_.tx_writing.store(0, kRelease); }
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;

 private:
  Line& line_;
};

}  // namespace

/// The two rings that may hold unread bytes: positions below `limit` lie in `before`.
struct Connection::RxRings {
  shm::RingMemory before;
  shm::RingMemory after;
  std::uint64_t limit;
};

void Connection::attach(Lane* lane, std::uint32_t line) {
  index_ = line;
  line_.store(&lane->segment().view.line(line), kRelaxed);
  lane_.store(lane, kRelaxed);
  home_ = lane;
  corked_.store((this->line().app_flags.load(kRelaxed) & AppFlag::kCork) != 0, kRelaxed);
}

void Connection::detach(shm::Line* ended) {
  line_.store(ended, kRelaxed);
  index_ = 0;
}

// REQUIRES: rx_lock is held and rx_tail was read before: then every byte below it lies in the two
// rings found here, and the older one is not replaced before the caller moves rx_head.
Connection::RxRings Connection::rx_rings() const {
  const shm::SegmentView& view = lane().segment().view;
  const std::uint32_t epoch = line().rx_epoch.load(kAcquire);
  const shm::RingRef after{line().rx_ring[epoch & 1].load(kRelaxed)};
  const shm::RingRef before{line().rx_ring[(epoch & 1) ^ 1].load(kRelaxed)};
  return {{view.ring(before), before.bytes()},
          {view.ring(after), after.bytes()},
          line().rx_switch[epoch & 1].load(kRelaxed)};
}

// Moves rx_head, and tells the engine at each quarter of the ring and when the old ring is empty:
// often enough that the peer's window never stays closed, rarely enough that small reads cost no
// hint.
void Connection::consume(std::uint64_t head, std::uint64_t count) {
  const std::uint64_t now = head + count;
  const std::uint32_t epoch = line().rx_epoch.load(kAcquire);
  const std::uint64_t limit = line().rx_switch[epoch & 1].load(kRelaxed);
  const std::uint64_t part =
      shm::RingRef{line().rx_ring[epoch & 1].load(kRelaxed)}.bytes() / kTellPart;
  line().rx_head.store(now, kRelease);
  if (part == 0 || now / part != head / part || (head < limit && now >= limit)) {
    lane().post(index_);
  }
}

ssize_t Connection::recv(IoCursor& into, RecvMode mode) {
  Line& locked = line();
  LineLock lock(locked.rx_lock, lane().owner());
  if (left(locked)) return -EBADF;
  // flags before rx_tail: a FIN or reset seen here counts only once rx_tail has been reached.
  const std::uint32_t flags = line().flags.load(kAcquire);
  const std::uint64_t head = line().rx_head.load(kRelaxed);
  const std::uint64_t tail = line().rx_tail.load(kAcquire);
  if (urgent_seen()) return recv_around_mark(into, mode, {flags, tail});
  if (tail == head) return nothing_to_read(flags);
  const std::uint64_t count = std::min<std::uint64_t>(tail - head, into.left());
  return count == 0 ? 0 : take(into, mode, head, count);
}

// REQUIRES: rx_lock is held; [head, head + count) was received.
ssize_t Connection::take(IoCursor& into, RecvMode mode, std::uint64_t head, std::uint64_t count) {
  if (mode != RecvMode::kDiscard) {
    const RxRings rings = rx_rings();
    const std::uint64_t old =
        head < rings.limit ? std::min<std::uint64_t>(rings.limit - head, count) : 0;
    if (old > rings.before.bytes || count - old > rings.after.bytes) return -EIO;
    std::uint64_t copied = into.fill_from(rings.before, head, old);
    if (copied == old) copied += into.fill_from(rings.after, head + old, count - old);
    if (copied == 0) return -EFAULT;
    count = copied;
  }
  if (mode != RecvMode::kPeek) consume(head, count);
  return static_cast<ssize_t>(count);
}

// Linux: after a FIN the stream just ends, whatever came later; else an error is reported once,
// then the stream has ended.
ssize_t Connection::nothing_to_read(std::uint32_t flags) {
  if ((flags & LineFlag::kRxFin) != 0) return 0;
  if ((flags & LineFlag::kReset) != 0 || state_of(line()) == LineState::kClosed) {
    return -take_error();
  }
  return shut_for_reading() ? 0 : -EAGAIN;
}

int Connection::take_error() {
  const std::uint32_t error = line().error.load(kAcquire);
  if (error == 0 || line().error_taken.load(kRelaxed) != 0) return 0;
  return line().error_taken.exchange(1, std::memory_order_acq_rel) == 0 ? static_cast<int>(error)
                                                                        : 0;
}

bool Connection::ended() const {
  return (line().flags.load(kAcquire) & LineFlag::kReset) != 0 ||
         state_of(line()) == LineState::kClosed;
}

bool Connection::over() const {
  constexpr std::uint32_t kBoth = LineFlag::kRxFin | LineFlag::kTxFinAcked;
  return ended() || (line().flags.load(kAcquire) & kBoth) == kBoth;
}

int Connection::why_not_send() {
  if (ended()) {
    const int error = take_error();
    return error != 0 ? -error : -EPIPE;
  }
  if ((app_flags() & AppFlag::kShutWrite) != 0) return -EPIPE;
  return state_of(line()) == LineState::kConnecting ? -EAGAIN : 0;
}

// The ring for bytes at `tail`, after taking up a larger one if the engine offers it. Holds
// tx_lock.
shm::RingMemory Connection::tx_ring(std::uint64_t tail) {
  const std::uint32_t offered = line().tx_offered.load(kAcquire);
  if (offered != line().tx_taken.load(kRelaxed)) {
    line().tx_switch.store(tail, kRelaxed);
    line().tx_taken.store(offered, kRelease);  // publishes tx_switch
    line().app_flags.fetch_and(~std::uint32_t{AppFlag::kWantTxRing}, kRelaxed);
  }
  const shm::RingRef ref{line().tx_ring[offered & 1].load(kRelaxed)};
  return {lane().segment().view.ring(ref), ref.bytes()};
}

std::uint64_t Connection::tx_space(std::uint64_t tail, std::uint32_t ring_bytes) const {
  const std::uint64_t una = line().tx_una.load(kAcquire);
  const std::uint64_t used = tail - std::max(una, line().tx_switch.load(kRelaxed));
  return used < ring_bytes ? ring_bytes - used : 0;
}

void Connection::set_flag_if_clear(std::uint32_t bit) {
  if ((app_flags() & bit) == 0) line().app_flags.fetch_or(bit, kRelaxed);
}

ssize_t Connection::send(IoCursor& from, bool more, bool urgent) {
  Line& locked = line();
  LineLock lock(locked.tx_lock, lane().owner());
  if (left(locked)) return -EBADF;
  if (const int error = why_not_send(); error != 0) return error;
  const std::uint64_t tail = line().tx_tail.load(kRelaxed);
  Writing writing(locked);
  const shm::RingMemory ring = tx_ring(tail);
  std::uint64_t count = std::min<std::uint64_t>(tx_space(tail, ring.bytes), from.left());
  if (count < from.left() && (app_flags() & AppFlag::kWantTxRing) == 0) {
    line().app_flags.fetch_or(AppFlag::kWantTxRing, kRelaxed);
    if (count == 0) lane().post(index_);
  }
  if (count == 0) return from.left() == 0 ? 0 : -EAGAIN;

  count = from.drain_to(ring, tail, count);
  if (count == 0) return -EFAULT;

  set_flag_if_clear(AppFlag::kPush);
  if (more) {
    set_flag_if_clear(AppFlag::kCork);
  } else if ((app_flags() & AppFlag::kCork) != 0 && !corked_.load(kRelaxed)) {
    line().app_flags.fetch_and(~std::uint32_t{AppFlag::kCork}, kRelaxed);
  }
  if (urgent) {  // before the bytes: none of them may leave without it
    line().tx_urgent.store(tail + count, kRelaxed);
    set_flag_if_clear(AppFlag::kUrgentSent);
  }
  line().tx_tail.store(tail + count, kRelease);
  lane().post(index_);
  return static_cast<ssize_t>(count);
}

bool Connection::hint_waits() const { return line().hinted_engine.load(kRelaxed) != 0; }

bool Connection::readable() const {
  const std::uint32_t flags = line().flags.load(kAcquire);
  if ((flags & (LineFlag::kRxFin | LineFlag::kReset)) != 0 || shut_for_reading()) return true;
  return unread() != 0 || state_of(line()) == LineState::kClosed;
}

// The low-water mark is reached, or will not be: the ring is as good as full.
bool Connection::enough_unread() const {
  const std::uint64_t count = unread();
  if (count == 0 || count >= low_water()) return count != 0;
  const std::uint32_t epoch = line().rx_epoch.load(kAcquire);
  const std::uint64_t ring = shm::RingRef{line().rx_ring[epoch & 1].load(kRelaxed)}.bytes();
  return count >= ring - ring / kLastPart;
}

bool Connection::writable() const {
  const LineState state = state_of(line());
  if (state == LineState::kConnecting) return false;
  if (ended() || (app_flags() & AppFlag::kShutWrite) != 0) return true;
  const std::uint32_t offered = line().tx_offered.load(kAcquire);
  if (offered != line().tx_taken.load(kRelaxed)) return true;
  const std::uint32_t ring = shm::RingRef{line().tx_ring[offered & 1].load(kRelaxed)}.bytes();
  return tx_space(line().tx_tail.load(kRelaxed), ring) >= ring / kWritablePart;
}

Events Connection::readiness() const {
  if (state_of(line()) == LineState::kConnecting) return 0;
  const bool over = ended();
  const bool fin = (line().flags.load(kAcquire) & LineFlag::kRxFin) != 0;
  const bool no_more_in = fin || over || shut_for_reading();
  const bool no_more_out = over || (app_flags() & AppFlag::kShutWrite) != 0;
  Events events = 0;
  if (no_more_in || enough_unread()) events |= EPOLLIN | EPOLLRDNORM;
  if (no_more_in) events |= EPOLLRDHUP;
  if (urgent_seen() && urgent_to_take(mark(reading_at()))) events |= EPOLLPRI;
  if (no_more_in && no_more_out) events |= EPOLLHUP;
  if (writable()) events |= EPOLLOUT | EPOLLWRNORM;
  if (line().error.load(kAcquire) != 0 && line().error_taken.load(kRelaxed) == 0) {
    events |= EPOLLERR;
  }
  return events;
}

bool Connection::connect_result_pending() const {
  return state_of(line()) == LineState::kConnecting;
}

int Connection::connect_result() {
  switch (state_of(line())) {
    case LineState::kConnecting:
      return -EINPROGRESS;
    case LineState::kEstablished:
      return 0;
    default: {
      // Established and ended since then: the connect itself succeeded.
      if ((line().flags.load(kAcquire) & LineFlag::kRxFin) != 0) return 0;
      const int error = take_error();
      return error != 0 ? -error : -ECONNABORTED;
    }
  }
}

void Connection::shut_read() { set_app_flags(AppFlag::kShutRead, true); }

void Connection::shut_write() {
  Line& locked = line();
  LineLock lock(locked.tx_lock, lane().owner());
  if (left(locked)) return;
  line().app_flags.fetch_or(AppFlag::kShutWrite, kRelease);
  lane().post(index_);
}

void Connection::close(bool reset) {
  Line& mine = line();
  // Bounded: a signal handler may close what its own thread is copying.
  const LineLock reading(mine.rx_lock, lane().owner(), kCloseWaitMs);
  const LineLock writing(mine.tx_lock, lane().owner(), kCloseWaitMs);
  line_.store(&nowhere(), kRelaxed);
  home_->post(index_, reset ? shm::HintOp::kCloseReset : shm::HintOp::kClose);
}

std::uint64_t Connection::unread() const {
  const std::uint64_t head = line().rx_head.load(kRelaxed);
  const std::uint64_t count = line().rx_tail.load(kAcquire) - head;
  return count == 0 || !urgent_seen() ? count : unread_beside_mark();
}

std::uint64_t Connection::unacknowledged() const {
  const std::uint64_t una = line().tx_una.load(kAcquire);
  const std::uint64_t tail = line().tx_tail.load(kRelaxed);
  const std::uint64_t bytes = tail > una ? tail - una : 0;
  const bool fin = (app_flags() & AppFlag::kShutWrite) != 0 &&
                   (line().flags.load(kAcquire) & LineFlag::kTxFinAcked) == 0;
  return bytes + (fin ? 1 : 0);  // as Linux counts it
}

void Connection::set_app_flags(std::uint32_t bits, bool on) {
  if ((bits & AppFlag::kCork) != 0) corked_.store(on, kRelaxed);
  if (on) {
    line().app_flags.fetch_or(bits, kRelease);
  } else {
    line().app_flags.fetch_and(~bits, kRelease);
  }
  lane().post(index_);
}

void Connection::end_of_more() {
  if (!corked_.load(kRelaxed)) set_app_flags(AppFlag::kCork, false);
}

void Connection::options_changed() {
  line().options_epoch.fetch_add(1, kRelease);
  lane().post(index_);
}

}  // namespace toe::libtoe
