// Payload rings: accounting per user, growth by a factor of four.
#include <algorithm>
#include <bit>

#include "control/impl.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kGrowth = 4;

// The largest ring for a buffer size that the program set (0 = it did not).
std::uint32_t ring_limit(std::uint32_t asked, std::uint32_t automatic) {
  if (asked == 0) return automatic;
  return std::bit_ceil(std::clamp(asked, shm::kMinRingBytes, shm::kMaxRingBytes));
}

}  // namespace

shm::RingRef Control::Impl::take_ring(Segment& segment, std::uint32_t uid, std::uint32_t bytes) {
  User& user = users[uid];
  if (user.ring_bytes + bytes > options.max_ring_bytes_per_user) {
    counters.user_limits.fetch_add(1, std::memory_order_relaxed);
    return {};
  }
  const shm::RingRef ring = segment.arena().allocate(bytes);
  user.ring_bytes += ring.bytes();
  return ring;
}

void Control::Impl::free_ring(Segment& segment, std::uint32_t uid, shm::RingRef& ring) {
  if (!ring.valid()) return;
  // Grown rings only: a system call per connection would cost more than its first rings hold.
  if (ring.bytes() > options.initial_ring_bytes) return wash_ring(segment, uid, ring);
  segment.arena().set_soiled(ring, true);
  segment.arena().free(ring);
  users[uid].ring_bytes -= ring.bytes();
  ring = {};
}

// As free_ring, but its pages go back to the system first.
void Control::Impl::wash_ring(Segment& segment, std::uint32_t uid, shm::RingRef& ring) {
  ++returning;
  world.return_pages(segment.id(), ring);
  users[uid].ring_bytes -= ring.bytes();
  ring = {};
}

void Control::Impl::on_pages_returned(const Request& r) {
  Segment* segment = segment_of(index_of(r.segment));
  TOE_CHECK(segment != nullptr && returning > 0);
  --returning;
  segment->arena().set_soiled(r.ring, false);
  segment->arena().free(r.ring);
  check_segment(index_of(r.segment));
}

// A larger ring for one direction, if there is one to be had. A size that the program set is its
// wish and is taken in one step: a program that does not read would never see a second.
void Control::Impl::grow(std::uint32_t id, bool rx) {
  Conn& c = conns[id];
  if (c.state != Conn::State::kLive) return;
  shm::RingRef& now = rx ? c.rx_ring : c.tx_ring;
  shm::RingRef& old = rx ? c.rx_old : c.tx_old;
  bool& wants = rx ? c.wants_rx : c.wants_tx;
  wants = old.valid();  // one switch at a time
  if (wants) return;
  Segment& segment = *segments[c.segment];
  const shm::Line& line = segment.line(c.line);
  const std::uint32_t asked = (rx ? line.rcvbuf : line.sndbuf).load(std::memory_order_relaxed);
  std::uint32_t most =
      ring_limit(asked, rx ? options.max_rx_ring_bytes : options.max_tx_ring_bytes);
  if (rx) most = std::min(most, std::bit_ceil(c.window_limit));
  const std::uint32_t step = std::min(now.bytes() * kGrowth, most);
  if (step <= now.bytes()) return;
  shm::RingRef ring;
  if (asked != 0) ring = take_ring(segment, c.uid, most);
  if (!ring.valid()) ring = take_ring(segment, c.uid, step);
  if (!ring.valid()) {
    counters.ring_refused.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  old = now;
  now = ring;
  counters.ring_grown.fetch_add(1, std::memory_order_relaxed);
  using Kind = flow::Command::Kind;
  flow::Command command = make_command(rx ? Kind::kOfferRxRing : Kind::kOfferTxRing);
  command.flow = FlowId{id};
  command.ring = ring;
  commands.push(command);
}

// The ring before the last switch is free, or the offered one came back unused.
void Control::Impl::on_ring_free(const flow::Event& e, bool rx) {
  Conn& c = conns[index_of(e.flow)];
  shm::RingRef& old = rx ? c.rx_old : c.tx_old;
  shm::RingRef& ring = rx ? c.rx_ring : c.tx_ring;
  if (!old.valid()) return;
  if (e.ring == ring) std::swap(ring, old);
  if (e.ring != old) return;
  wash_ring(*segments[c.segment], c.uid, old);
  if (rx ? c.wants_rx : c.wants_tx) grow(index_of(e.flow), rx);
}

}  // namespace toe::control
