#include "control/arena.h"

#include <bit>

#include "base/check.h"
#include "control/index_list.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kMinLog2 = std::countr_zero(shm::kMinRingBytes);
constexpr std::uint32_t kPagesPerUnit = shm::kMinRingBytes / shm::kPageBytes;
constexpr std::uint32_t kFirstPage = shm::kArenaOffset / shm::kPageBytes;

}  // namespace

bool RingArena::FreeMap::test(std::uint32_t block) const {
  return (words[block / 64] >> (block % 64) & 1) != 0;
}

void RingArena::FreeMap::set(std::uint32_t block) {
  words[block / 64] |= std::uint64_t{1} << (block % 64);
  summary[block / 4096] |= std::uint64_t{1} << (block / 64 % 64);
}

void RingArena::FreeMap::clear(std::uint32_t block) {
  words[block / 64] &= ~(std::uint64_t{1} << (block % 64));
  if (words[block / 64] == 0) summary[block / 4096] &= ~(std::uint64_t{1} << (block / 64 % 64));
}

std::uint32_t RingArena::FreeMap::first() const {
  for (std::uint32_t s = 0; s < summary.size(); ++s) {
    if (summary[s] == 0) continue;
    const auto word = s * 64 + static_cast<std::uint32_t>(std::countr_zero(summary[s]));
    return word * 64 + static_cast<std::uint32_t>(std::countr_zero(words[word]));
  }
  return kNil;
}

RingArena::RingArena() : soiled_(kUnits) {
  for (std::uint32_t order = 0; order < kOrders; ++order) {
    free_[order].words.assign(((kUnits >> order) + 63) / 64, 0);
  }
  for (std::uint32_t block = 0; block < kUnits >> (kOrders - 1); ++block) {
    free_[kOrders - 1].set(block);
  }
}

shm::RingRef RingArena::allocate(std::uint32_t bytes) {
  TOE_CHECK(std::has_single_bit(bytes) && bytes >= shm::kMinRingBytes &&
            bytes <= shm::kMaxRingBytes);
  const auto order = static_cast<std::uint32_t>(std::countr_zero(bytes)) - kMinLog2;
  std::uint32_t from = order;
  std::uint32_t block = free_[from].first();
  while (block == kNil && from + 1 < kOrders) block = free_[++from].first();
  if (block == kNil) return {};
  free_[from].clear(block);
  for (; from > order; --from) {
    block *= 2;
    free_[from - 1].set(block + 1);
  }
  free_bytes_ -= bytes;
  return shm::RingRef::make(kFirstPage + (block << order) * kPagesPerUnit, order + kMinLog2);
}

void RingArena::free(shm::RingRef ring) {
  TOE_CHECK(ring.valid() && ring.offset() >= shm::kArenaOffset);
  std::uint32_t order = (ring.word >> 24) - kMinLog2;
  std::uint32_t block = ((ring.word & 0xffffffu) - kFirstPage) / kPagesPerUnit >> order;
  TOE_CHECK(!free_[order].test(block));
  while (order + 1 < kOrders && free_[order].test(block ^ 1u)) {
    free_[order].clear(block ^ 1u);
    block /= 2;
    ++order;
  }
  free_[order].set(block);
  free_bytes_ += ring.bytes();
}

bool RingArena::soiled(shm::RingRef ring) const {
  const std::uint32_t first = ((ring.word & 0xffffffu) - kFirstPage) / kPagesPerUnit;
  const std::uint32_t end = first + ring.bytes() / shm::kMinRingBytes;
  for (std::uint32_t unit = first; unit < end; ++unit) {
    if (soiled_[unit]) return true;
  }
  return false;
}

void RingArena::set_soiled(shm::RingRef ring, bool soiled) {
  const std::uint32_t first = ((ring.word & 0xffffffu) - kFirstPage) / kPagesPerUnit;
  const std::uint32_t end = first + ring.bytes() / shm::kMinRingBytes;
  for (std::uint32_t unit = first; unit < end; ++unit) soiled_[unit] = soiled;
}

}  // namespace toe::control
