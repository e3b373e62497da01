#include "netlab/line.h"

#include <algorithm>

namespace toe::netlab {

void Line::push(Handle frame, Time departure, std::uint32_t behind) {
  const Entry entry{departure, next_order_++, frame};
  if (behind != 0) {
    held_.push_back({entry, behind});
    return;
  }
  frames_.push_back(entry);
  std::push_heap(frames_.begin(), frames_.end(), Later{});
}

std::optional<Line::Handle> Line::pop(Time now) {
  for (auto held = held_.begin(); held != held_.end(); ++held) {
    if (held->behind != 0 && held->departure > now) continue;
    const Handle frame = held->frame;
    held_.erase(held);
    return frame;
  }
  if (frames_.empty() || frames_.front().departure > now) return std::nullopt;
  std::pop_heap(frames_.begin(), frames_.end(), Later{});
  const Entry entry = frames_.back();
  frames_.pop_back();
  overtake(entry.order);
  return entry.frame;
}

/// A frame departed: those held that came before it have been overtaken once more.
void Line::overtake(std::uint64_t order) {
  for (Held& held : held_) {
    if (held.order < order && held.behind != 0) --held.behind;
  }
}

Time Line::next() const {
  Time next = frames_.empty() ? Time::never() : frames_.front().departure;
  for (const Held& held : held_) {
    next = std::min(next, held.behind == 0 ? Time{0} : held.departure);
  }
  return next;
}

}  // namespace toe::netlab
