#include "control/timers.h"

#include <algorithm>
#include <bit>

namespace toe::control {
namespace {

constexpr std::int64_t kTickNs = 1'000'000;
constexpr std::uint32_t kSlotBits = 6;

}  // namespace

TimerWheel::TimerWheel(std::uint32_t timers) : nodes_(timers) {}

void TimerWheel::arm(std::uint32_t id, Time at) {
  cancel(id);
  if (at == Time::never()) return;
  const std::int64_t up = std::max<std::int64_t>(at.ns, 0);
  nodes_[id].tick = static_cast<std::uint64_t>(up / kTickNs + (up % kTickNs != 0 ? 1 : 0));
  nodes_[id].tick = std::max(nodes_[id].tick, current_);
  place(id);
  ++count_;
}

void TimerWheel::cancel(std::uint32_t id) {
  if (!armed(id)) return;
  take_out(id);
  --count_;
}

void TimerWheel::place(std::uint32_t id) {
  Node& node = nodes_[id];
  const std::uint64_t distance = node.tick - current_;
  std::uint32_t level = 0;
  while (level + 1 < kLevels && distance >> (kSlotBits * (level + 1)) != 0) ++level;
  // Beyond the outermost level: its furthest slot, and another look from there.
  const std::uint64_t reach = (std::uint64_t{1} << (kSlotBits * kLevels)) - 1;
  const std::uint64_t tick = distance > reach ? current_ + reach : node.tick;
  const auto slot = static_cast<std::uint32_t>(tick >> (kSlotBits * level)) & (kSlots - 1);
  node.slot = static_cast<std::uint16_t>(level * kSlots + slot);
  push_back(slots_[node.slot], id, [this](std::uint32_t i) -> Link& { return nodes_[i].link; });
  occupied_[level] |= std::uint64_t{1} << slot;
}

void TimerWheel::take_out(std::uint32_t id) {
  const std::uint16_t at = nodes_[id].slot;
  unlink(slots_[at], id, [this](std::uint32_t i) -> Link& { return nodes_[i].link; });
  if (slots_[at].empty()) occupied_[at / kSlots] &= ~(std::uint64_t{1} << (at % kSlots));
  nodes_[id].slot = kOff;
}

// The first tick at which a slot of level 0 is due or a slot of another level must be unpacked.
std::uint64_t TimerWheel::next_event() const {
  std::uint64_t first = UINT64_MAX;
  for (std::uint32_t level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    const std::uint64_t now = current_ >> (kSlotBits * level);
    const auto here = static_cast<int>(now & (kSlots - 1));
    auto ahead = static_cast<std::uint64_t>(std::countr_zero(std::rotr(occupied_[level], here)));
    if (level > 0 && ahead == 0) {
      // The slot of the present instant was unpacked when we entered it: what it holds now
      // belongs to the next turn, unless another slot comes first.
      const std::uint64_t others = occupied_[level] & ~(std::uint64_t{1} << here);
      ahead = others == 0 ? kSlots
                          : static_cast<std::uint64_t>(std::countr_zero(std::rotr(others, here)));
    }
    first = std::min(first, (now + ahead) << (kSlotBits * level));
  }
  return first;
}

// Spreads the slots of outer levels that begin at `tick` over the inner levels.
void TimerWheel::unpack(std::uint64_t tick) {
  for (std::uint32_t level = kLevels - 1; level > 0; --level) {
    if ((tick & ((std::uint64_t{1} << (kSlotBits * level)) - 1)) != 0) continue;
    const auto slot = static_cast<std::uint32_t>(tick >> (kSlotBits * level)) & (kSlots - 1);
    const std::uint32_t at = level * kSlots + slot;
    for (std::uint32_t left = slots_[at].count; left > 0; --left) {
      const std::uint32_t id = slots_[at].head;
      take_out(id);
      place(id);
    }
  }
}

bool TimerWheel::fire(Time now, std::uint32_t& id) {
  const auto target = static_cast<std::uint64_t>(std::max<std::int64_t>(now.ns, 0) / kTickNs);
  while (current_ <= target) {
    const List& due = slots_[current_ & (kSlots - 1)];
    if (!due.empty()) {
      id = due.head;
      cancel(id);
      return true;
    }
    if (current_ == target) return false;
    current_ = std::min(next_event(), target);
    unpack(current_);
  }
  return false;
}

Time TimerWheel::next_deadline() const {
  const std::uint64_t tick = next_event();
  if (tick >= static_cast<std::uint64_t>(INT64_MAX / kTickNs)) return Time::never();
  return {static_cast<std::int64_t>(tick) * kTickNs};
}

}  // namespace toe::control
