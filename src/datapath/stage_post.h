// Post-processing stage.
//
// Purpose: turn a protocol snapshot into header fields, statistics and copy places.
// In: Work with its Outcome.
// Out: Work with a Copy: where payload bytes lie in the rings, and the header to write.
// State: the PostSlice of one flow.
// Thread: any replica; here the worker.
// Cost: constant. Drops: none.
#ifndef TOE_DATAPATH_STAGE_POST_H_
#define TOE_DATAPATH_STAGE_POST_H_

#include "datapath/counters.h"
#include "datapath/work.h"
#include "flow/slices.h"
#include "wire/build.h"

namespace toe::datapath {

/// One contiguous piece of a payload ring.
struct RingPiece {
  std::uint64_t offset = 0;  ///< from the segment's base
  std::uint32_t length = 0;
};
/// A payload copy touches at most two rings with one wrap each.
inline constexpr std::uint32_t kMaxPieces = 4;

/// What dma does for one item.
struct Copy {
  SegmentId segment = kNoSegment;
  std::uint32_t count = 0;
  RingPiece piece[kMaxPieces];
  const wire::HeaderTemplate* header = nullptr;  ///< TX: header to write in front
  wire::SegmentFields fields;
  SackReport sack;  ///< blocks behind the header's options; sequence numbers
};

class StagePost {
 public:
  explicit StagePost(Counters& counters) : counters_(counters) {}

  /// RX walk: where the payload goes.
  void receive(const Work& work, flow::PostSlice& post, Copy& copy) const;
  /// TX walk: header fields and where the payload comes from.
  void transmit(const Work& work, flow::PostSlice& post, Copy& copy) const;

 private:
  Counters& counters_;
};

/// Splits positions [pos, pos + length) into pieces of a ring pair: ring[1] serves positions from
/// `switch_pos` on, ring[0] those before.
void split(const shm::RingRef (&ring)[2], std::uint64_t switch_pos, std::uint64_t pos, Copy& copy,
           std::uint32_t length);

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_STAGE_POST_H_
