#include "engine/doorbells.h"

#include <unistd.h>

#include <utility>

namespace toe::engine {
namespace {

constexpr std::uint32_t kMaxUses = (1u << (32 - kBellSlotBits)) - 1;

std::uint32_t slot_of(std::uint32_t number) { return number & (kMaxBells - 1); }

}  // namespace

std::uint32_t BellNumbers::take() {
  std::uint32_t slot = 0;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else if (uses_.size() < kMaxBells) {
    slot = static_cast<std::uint32_t>(uses_.size());
    uses_.push_back(0);
  } else {
    return 0;
  }
  return (++uses_[slot] << kBellSlotBits) | slot;
}

void BellNumbers::give_back(std::uint32_t number) {
  const std::uint32_t slot = slot_of(number);
  if (uses_[slot] < kMaxUses) free_.push_back(slot);  // a slot used up is retired for good
}

Doorbells::Slot* Doorbells::find(std::uint32_t number) {
  const std::uint32_t slot = slot_of(number);
  if (slot >= slots_.size() || slots_[slot].number != number) return nullptr;
  return &slots_[slot];
}

void Doorbells::add(std::uint32_t number, UniqueFd write_end) {
  const std::uint32_t slot = slot_of(number);
  if (slot >= slots_.size()) slots_.resize(slot + 1);
  slots_[slot].number = number;
  slots_[slot].fd = std::move(write_end);
}

void Doorbells::remove(std::uint32_t number) {
  if (Slot* slot = find(number)) *slot = Slot{};
}

void Doorbells::ring(std::span<const std::uint32_t> numbers) {
  for (const std::uint32_t number : numbers) {
    const Slot* slot = find(number);
    if (slot == nullptr) continue;
    (void)!::write(slot->fd.get(), "", 1);
  }
}

}  // namespace toe::engine
