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

std::optional<std::uint32_t> Listener::take() {
  const shm::SegmentView& view = lane_->segment().view;
  const shm::RingRef ref{line_->rx_ring[0].load(std::memory_order_acquire)};
  if (!shm::SegmentView::ring_in_bounds(ref)) return std::nullopt;
  const auto* ring = reinterpret_cast<const std::atomic<std::uint32_t>*>(view.ring(ref));
  const std::uint64_t slots = ref.bytes() / sizeof(std::uint32_t);
  std::uint64_t head = line_->rx_head.load(std::memory_order_acquire);
  for (;;) {
    if (line_->rx_tail.load(std::memory_order_acquire) == head) return std::nullopt;
    const std::uint32_t entry = ring[head & (slots - 1)].load(std::memory_order_relaxed);
    // On failure `head` is reloaded: another thread or process took this one.
    if (!line_->rx_head.compare_exchange_weak(head, head + 1, std::memory_order_acq_rel)) continue;
    if (entry == 0 || entry >= shm::kLines) continue;
    view.line(entry).claim.store(lane_->owner(), std::memory_order_release);
    return entry;
  }
}

void Listener::accept(std::uint32_t taken, std::uint64_t cookie) {
  lane_->segment().view.line(taken).cookie.store(cookie, std::memory_order_release);
  lane_->post(taken, shm::HintOp::kAccept);
}

void Listener::close() { lane_->post(index_, shm::HintOp::kClose); }

}  // namespace toe::libtoe
