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
  if (user.ring_bytes + bytes > options.max_ring_bytes_per_user) return {};
  const shm::RingRef ring = segment.arena().allocate(bytes);
  user.ring_bytes += ring.bytes();
  return ring;
}

void Control::Impl::free_ring(Segment& segment, std::uint32_t uid, shm::RingRef& ring) {
  if (!ring.valid()) return;
  // Grown rings only: a system call per connection would cost more than its first rings hold.
  if (ring.bytes() > options.initial_ring_bytes) {
    world.return_pages({segment.view().ring(ring), ring.bytes()});
  }
  segment.arena().free(ring);
  users[uid].ring_bytes -= ring.bytes();
  ring = {};
}

void Control::Impl::grow_rx(std::uint32_t id) {
  Conn& c = conns[id];
  if (c.state != Conn::State::kLive) return;
  c.wants_rx = c.rx_old.valid();  // one switch at a time
  if (c.wants_rx) return;
  Segment& segment = *segments[c.segment];
  const std::uint32_t asked = segment.line(c.line).rcvbuf.load(std::memory_order_relaxed);
  const std::uint32_t most =
      std::min(ring_limit(asked, options.max_rx_ring_bytes), std::bit_ceil(c.window_limit));
  const std::uint32_t bytes = std::min(c.rx_ring.bytes() * kGrowth, most);
  if (bytes <= c.rx_ring.bytes()) return;
  const shm::RingRef ring = take_ring(segment, c.uid, bytes);
  if (!ring.valid()) {
    counters.ring_refused.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  c.rx_old = c.rx_ring;
  c.rx_ring = ring;
  counters.ring_grown.fetch_add(1, std::memory_order_relaxed);
  flow::Command command = make_command(flow::Command::Kind::kOfferRxRing);
  command.flow = FlowId{id};
  command.ring = ring;
  commands.push(command);
}

void Control::Impl::grow_tx(std::uint32_t id) {
  Conn& c = conns[id];
  if (c.state != Conn::State::kLive) return;
  c.wants_tx = c.tx_old.valid();  // one switch at a time
  if (c.wants_tx) return;
  Segment& segment = *segments[c.segment];
  const std::uint32_t asked = segment.line(c.line).sndbuf.load(std::memory_order_relaxed);
  const std::uint32_t most = ring_limit(asked, options.max_tx_ring_bytes);
  const std::uint32_t bytes = std::min(c.tx_ring.bytes() * kGrowth, most);
  if (bytes <= c.tx_ring.bytes()) return;
  const shm::RingRef ring = take_ring(segment, c.uid, bytes);
  if (!ring.valid()) {
    counters.ring_refused.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  c.tx_old = c.tx_ring;
  c.tx_ring = ring;
  counters.ring_grown.fetch_add(1, std::memory_order_relaxed);
  flow::Command command = make_command(flow::Command::Kind::kOfferTxRing);
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
  free_ring(*segments[c.segment], c.uid, old);
  if (rx && c.wants_rx) grow_rx(index_of(e.flow));
  if (!rx && c.wants_tx) grow_tx(index_of(e.flow));
}

}  // namespace toe::control
