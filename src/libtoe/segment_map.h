// The segments that this process has mapped. Only grows; looked up by any thread without a lock.
#ifndef TOE_LIBTOE_SEGMENT_MAP_H_
#define TOE_LIBTOE_SEGMENT_MAP_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "shm/segment_view.h"

namespace toe::libtoe {

inline constexpr std::uint32_t kMaxMapped = 64;  ///< segments one process maps

struct MappedSegment {
  shm::SegmentView view;
  std::uint32_t id = 0;
  std::uint32_t index = 0;  ///< place in the map
};

class SegmentMap {
 public:
  /// Maps the memfd `fd` (kept open by the caller). False: not a segment of our ABI, or the map
  /// is full. One writer at a time.
  bool map(std::uint32_t id, int fd);
  /// Names a segment that is already in memory (the simulator's).
  bool adopt(std::uint32_t id, std::uint8_t* base);

  MappedSegment* find(std::uint32_t id);
  MappedSegment* at(std::uint32_t index) { return &segments_[index]; }
  std::uint32_t count() const { return count_.load(std::memory_order_acquire); }
  /// Gives the segments back that map() mapped; empty memory takes their place, which a thread
  /// late in a call may still touch.
  void vacate();

 private:
  std::array<MappedSegment, kMaxMapped> segments_;
  std::atomic<std::uint32_t> count_{0};
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_SEGMENT_MAP_H_
