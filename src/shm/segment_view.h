// Typed access to a mapped segment. Used by both sides; owns nothing.
#ifndef TOE_SHM_SEGMENT_VIEW_H_
#define TOE_SHM_SEGMENT_VIEW_H_

#include "base/check.h"
#include "shm/segment_format.h"

namespace toe::shm {

class SegmentView {
 public:
  SegmentView() = default;
  /// `base` maps kSegmentBytes bytes and outlives the view.
  explicit SegmentView(std::uint8_t* base) : base_(base) {}

  bool valid() const { return base_ != nullptr; }
  std::uint8_t* base() const { return base_; }
  SegmentHeader& header() const { return *at<SegmentHeader>(0); }

  /// REQUIRES: slot < kContexts.
  Context& context(std::uint32_t slot) const {
    TOE_DCHECK(slot < kContexts);
    return *at<Context>(kContextsOffset + slot * sizeof(Context));
  }
  /// REQUIRES: index < kLines.
  Line& line(std::uint32_t index) const {
    TOE_DCHECK(index < kLines);
    return *at<Line>(kLinesOffset + std::uint64_t{index} * sizeof(Line));
  }
  /// Slots of the queue from the engine to context `slot`.
  std::atomic<std::uint32_t>* app_queue(std::uint32_t slot) const { return queue(2 * slot); }
  /// Slots of the queue from context `slot` to the engine.
  std::atomic<std::uint32_t>* engine_queue(std::uint32_t slot) const { return queue(2 * slot + 1); }

  /// First byte of a ring. REQUIRES: the reference was made or checked by the caller's own side.
  std::uint8_t* ring(RingRef ref) const { return base_ + ref.offset(); }

  /// True when the ring lies wholly in the arena and its size is a legal power of two.
  static bool ring_in_bounds(RingRef ref) {
    const std::uint32_t log2 = ref.word >> 24;
    return ref.valid() && log2 >= 12 && log2 <= 24 && ref.offset() >= kArenaOffset &&
           ref.offset() + ref.bytes() <= kSegmentBytes;
  }

 private:
  template <typename T>
  T* at(std::uint64_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }
  std::atomic<std::uint32_t>* queue(std::uint32_t index) const {
    return at<std::atomic<std::uint32_t>>(kQueuesOffset + index * kQueueBytes);
  }

  std::uint8_t* base_ = nullptr;
};

}  // namespace toe::shm

#endif  // TOE_SHM_SEGMENT_VIEW_H_
