#include "libtoe/listener.h"

namespace toe::libtoe {

void Listener::attach(Lane* lane, std::uint32_t line) {
  lane_ = lane;
  index_ = line;
  line_ = &lane->segment().view.line(line);
}

bool Listener::ready() const {
  const std::uint64_t head = line_->rx_head.load(std::memory_order_relaxed);
  return line_->rx_tail.load(std::memory_order_acquire) != head;
}

// Claims first and moves rx_head afterwards: at no instant is a connection gone from the ring and
// nobody's. Whoever finds a claimed entry at the head moves it on for its claimer, who may be dead.
std::optional<std::uint32_t> Listener::take() {
  const shm::SegmentView& view = lane_->segment().view;
  const shm::RingRef ref{line_->rx_ring[0].load(std::memory_order_acquire)};
  if (!shm::SegmentView::ring_in_bounds(ref)) return std::nullopt;
  const auto* ring = reinterpret_cast<const shm::AcceptEntry*>(view.ring(ref));
  const std::uint64_t slots = ref.bytes() / sizeof(shm::AcceptEntry);
  std::uint64_t head = line_->rx_head.load(std::memory_order_acquire);
  while (line_->rx_tail.load(std::memory_order_acquire) != head) {
    const std::uint64_t entry = ring[head & (slots - 1)].load(std::memory_order_relaxed);
    const bool mine = claim(entry);
    std::uint64_t next = head;
    if (line_->rx_head.compare_exchange_strong(next, head + 1, std::memory_order_acq_rel)) ++next;
    if (mine) return shm::claim_owner(entry);
    head = next;
  }
  return std::nullopt;
}

bool Listener::claim(std::uint64_t entry) {
  const std::uint32_t line = shm::claim_owner(entry);
  const std::uint32_t generation = shm::claim_generation(entry);
  if (line == 0 || line >= shm::kLines) return false;
  std::uint64_t expected = shm::make_claim(generation, shm::kUnclaimed);
  return lane_->segment().view.line(line).claim.compare_exchange_strong(
      expected, shm::make_claim(generation, lane_->owner()), std::memory_order_acq_rel);
}

void Listener::accept(std::uint32_t taken, std::uint64_t cookie) {
  lane_->segment().view.line(taken).cookie.store(cookie, std::memory_order_release);
  lane_->post(taken, shm::HintOp::kAccept);
}

void Listener::close() { lane_->post(index_, shm::HintOp::kClose); }

}  // namespace toe::libtoe
