// Urgent data as Linux shows it: the byte in front of the newest urgent pointer stands beside the
// stream, or with SO_OOBINLINE in it; reading stops in front of it.
#include <algorithm>
#include <cerrno>

#include "libtoe/connection.h"

namespace toe::libtoe {
namespace {

constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

// Where reading goes on: behind urgent bytes that later ones have replaced (see segment.md).
std::uint64_t Connection::reading_at() const {
  const std::uint64_t head = line().rx_head.load(kRelaxed);
  const std::uint64_t end = line().rx_skip_end.load(kAcquire);  // then its begin is not older
  return head >= line().rx_skip_begin.load(kRelaxed) && head < end ? end : head;
}

Connection::Mark Connection::mark(std::uint64_t head) const {
  const std::uint64_t up = line().rx_urgent.load(kAcquire);
  if (up <= head) return {};  // read past, as Linux forgets it then
  return {up, (app_flags() & shm::AppFlag::kUrgentInline) != 0};
}

bool Connection::urgent_to_take(const Mark& mark) const {
  return mark.up != 0 && line().rx_urgent_here.load(kAcquire) == mark.up &&
         line().rx_urgent_taken.load(kRelaxed) != mark.up;
}

bool Connection::at_mark() const {
  if (!urgent_seen()) return false;
  const std::uint64_t head = reading_at();
  return mark(head).at(head);
}

// Holds rx_lock; `seen` was read under it.
ssize_t Connection::recv_around_mark(IoCursor& into, RecvMode mode, const Seen& seen) {
  const std::uint64_t head = line().rx_head.load(kRelaxed);
  const std::uint64_t tail = seen.tail;
  std::uint64_t from = std::min(reading_at(), tail);
  const Mark ahead = mark(from);
  if (ahead.at(from) && !ahead.inline_ && from < tail) ++from;
  const std::uint64_t stop =
      ahead.up != 0 && ahead.up - 1 > from ? std::min(ahead.up - 1, tail) : tail;
  if (mode != RecvMode::kPeek && from != head) consume(head, from - head);
  if (from == tail) return nothing_to_read(seen.flags);
  const std::uint64_t count = std::min<std::uint64_t>(stop - from, into.left());
  return count == 0 ? 0 : take(into, mode, from, count);
}

ssize_t Connection::recv_urgent(IoCursor& into, RecvMode mode) {
  shm::Line& locked = line();
  LineLock lock(locked.rx_lock, lane().owner());
  if (left(locked)) return -EBADF;
  const Mark ahead = urgent_seen() ? mark(reading_at()) : Mark{};
  if (ahead.up == 0 || ahead.inline_ || line().rx_urgent_taken.load(kRelaxed) == ahead.up) {
    return -EINVAL;
  }
  const bool fin = (line().flags.load(kAcquire) & shm::LineFlag::kRxFin) != 0;
  if (ended() && !fin) return -ENOTCONN;
  if (!urgent_to_take(ahead)) return fin || shut_for_reading() ? 0 : -EAGAIN;
  if (mode != RecvMode::kPeek) line().rx_urgent_taken.store(ahead.up, kRelaxed);
  if (into.left() == 0) return 0;
  return mode == RecvMode::kDiscard ? 1 : take(into, RecvMode::kPeek, ahead.up - 1, 1);
}

// What poll counts: at the mark, the urgent byte itself does not make the stream readable.
std::uint64_t Connection::unread_beside_mark() const {
  const std::uint64_t head = reading_at();
  const std::uint64_t tail = line().rx_tail.load(kAcquire);
  if (tail <= head) return 0;
  const Mark ahead = mark(head);
  return tail - head - (ahead.at(head) && !ahead.inline_ ? 1 : 0);
}

std::uint64_t Connection::unread_before_mark() const {
  if (!urgent_seen()) return unread();
  const std::uint64_t head = reading_at();
  const std::uint64_t tail = line().rx_tail.load(kAcquire);
  const Mark ahead = mark(head);
  const bool stops = ahead.up != 0 && !ahead.inline_ && ahead.up <= tail;
  return (stops ? ahead.up - 1 : std::max(tail, head)) - head;
}

}  // namespace toe::libtoe
