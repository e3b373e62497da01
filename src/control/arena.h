// Buddy allocator of the rings in one segment's arena: powers of two from kMinRingBytes to
// kMaxRingBytes. Its state lies in the engine's own memory. The lowest free address is taken, so
// that pages used before are used again. It remembers what may still hold pages of earlier use.
#ifndef TOE_CONTROL_ARENA_H_
#define TOE_CONTROL_ARENA_H_

#include <array>
#include <cstdint>
#include <vector>

#include "shm/segment_format.h"

namespace toe::control {

class RingArena {
 public:
  RingArena();

  /// A ring of `bytes`; !valid() when no room is left.
  /// REQUIRES: bytes is a power of two from kMinRingBytes to kMaxRingBytes.
  shm::RingRef allocate(std::uint32_t bytes);
  /// REQUIRES: `ring` came from allocate() and was not freed since.
  void free(shm::RingRef ring);
  /// Whether pages of `ring` may have been resident already when it was allocated.
  bool soiled(shm::RingRef ring) const;
  /// Sets that: true for a ring that was used and is freed as it is, false once its pages have
  /// gone back to the system.
  void set_soiled(shm::RingRef ring, bool soiled);

  std::uint64_t free_bytes() const { return free_bytes_; }
  std::uint64_t used_bytes() const { return kArenaBytes - free_bytes_; }

  static constexpr std::uint64_t kArenaBytes = shm::kSegmentBytes - shm::kArenaOffset;

 private:
  static constexpr std::uint32_t kUnits = kArenaBytes / shm::kMinRingBytes;
  static constexpr std::uint32_t kOrders = 11;
  static_assert(shm::kMinRingBytes << (kOrders - 1) == shm::kMaxRingBytes);
  static_assert(kUnits % (1u << (kOrders - 1)) == 0, "the arena is whole blocks of any order");
  static_assert(shm::kArenaOffset % shm::kMaxRingBytes == 0);

  /// Free blocks of one order as a bitmap with a summary: bit w of the summary = word w is not 0.
  struct FreeMap {
    std::vector<std::uint64_t> words;
    std::array<std::uint64_t, (kUnits + 4095) / 4096> summary{};

    bool test(std::uint32_t block) const;
    void set(std::uint32_t block);
    void clear(std::uint32_t block);
    std::uint32_t first() const;  ///< kNil when empty
  };

  std::array<FreeMap, kOrders> free_;
  std::vector<bool> soiled_;  ///< by unit of kMinRingBytes
  std::uint64_t free_bytes_ = kArenaBytes;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_ARENA_H_
