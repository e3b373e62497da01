// Rings of connections at rest: replaced by rings without pages, so that an idle connection holds
// next to nothing. Nothing is done for a connection between its coming to rest and its next byte.
#include <algorithm>

#include "control/impl.h"

namespace toe::control {
namespace {

constexpr Nanos kLookAgain = seconds(30);  ///< bytes still lie in the rings
constexpr Nanos kSoon = millis(10);        ///< what is needed is being made
constexpr std::uint32_t kMaxReturning = 512;
constexpr std::uint64_t kKeptPages = 1;  ///< of both rings together

/// Pages that bytes [from, to) have touched in a ring.
std::uint64_t pages_touched(const RingArena& arena, shm::RingRef ring, std::uint64_t from,
                            std::uint64_t to) {
  const std::uint64_t all = ring.bytes() / shm::kPageBytes;
  if (arena.soiled(ring)) return all;
  if (to <= from) return 0;
  return std::min(all, (to - 1) / shm::kPageBytes - from / shm::kPageBytes + 1);
}

}  // namespace

// Its bytes move: looked at again when they may have stopped.
void Control::Impl::on_active(std::uint32_t id) {
  Conn& c = conns[id];
  c.watched = false;
  c.idle_at = now + options.ring_rest;
  arm_conn(id);
}

// The data path says when bytes move; if it has said nothing since it was asked, they rest.
void Control::Impl::on_idle_timer(std::uint32_t id) {
  Conn& c = conns[id];
  c.idle_at = Time::never();
  if (c.watched) return rest(id);
  c.watched = true;
  c.idle_at = now + options.ring_rest;
  flow::Command command = make_command(flow::Command::Kind::kWatch);
  command.flow = FlowId{id};
  commands.push(command);
}

// The flow's record stands still, so it can be read here; the data path checks once more.
void Control::Impl::rest(std::uint32_t id) {
  Conn& c = conns[id];
  const flow::ProtocolSlice& p = flows[id].protocol;
  const flow::PostSlice& post = flows[id].post;
  const Segment& segment = *segments[c.segment];
  const RingArena& arena = segments[c.segment]->arena();
  if (p.closed) return;
  const std::uint64_t tail = std::min(p.rcv_nxt, p.rcv_fin);           // without the FIN
  const bool fin_ahead = tail < p.rcv_fin && p.rcv_fin != UINT64_MAX;  // the ring is still needed
  const std::uint64_t rx = fin_ahead ? 0 : pages_touched(arena, c.rx_ring, post.rx_switch, tail);
  const std::uint64_t tx =
      post.tx_next.valid() ? 0 : pages_touched(arena, c.tx_ring, post.tx_switch, p.snd_end);
  const bool renew_rx = rx > kKeptPages;
  const bool renew_tx = tx > kKeptPages || tx + (renew_rx ? 0 : rx) > kKeptPages;
  const std::uint64_t read = segment.line(c.line).rx_head.load(std::memory_order_relaxed);
  const bool rx_empty = p.ranges == 0 && read == tail && !c.rx_old.valid();
  const bool tx_empty = p.snd_una >= p.snd_end && !c.tx_old.valid();
  if ((renew_rx && !rx_empty) || (renew_tx && !tx_empty)) c.idle_at = now + kLookAgain;
  bool done = true;
  if (renew_rx && rx_empty) done = renew_ring(id, true);
  if (renew_tx && tx_empty && done) done = renew_ring(id, false);
  if (!done) c.idle_at = now + kSoon;
}

// Offers an empty ring without pages in the place of an empty one with pages, which comes back with
// kRxRingFree or kTxRingFree and is washed then.
bool Control::Impl::renew_ring(std::uint32_t id, bool rx) {
  Conn& c = conns[id];
  if (returning >= kMaxReturning) return false;
  Segment& segment = *segments[c.segment];
  shm::RingRef& ring = rx ? c.rx_ring : c.tx_ring;
  shm::RingRef fresh = take_ring(segment, c.uid, ring.bytes());
  if (!fresh.valid()) {
    counters.ring_refused.fetch_add(1, std::memory_order_relaxed);
    c.idle_at = now + kLookAgain;
    return true;
  }
  if (segment.arena().soiled(fresh)) {
    wash_ring(segment, c.uid, fresh);
    return false;
  }
  (rx ? c.rx_old : c.tx_old) = ring;
  ring = fresh;
  counters.rings_renewed.fetch_add(1, std::memory_order_relaxed);
  flow::Command command =
      make_command(rx ? flow::Command::Kind::kOfferRxRing : flow::Command::Kind::kRenewTxRing);
  command.flow = FlowId{id};
  command.ring = fresh;
  commands.push(command);
  return true;
}

}  // namespace toe::control
