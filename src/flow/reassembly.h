// Out-of-order ranges of one receive stream: which positions beyond rcv_nxt are already in the
// payload ring. Knows nothing of TCP or memory.
//
// INVARIANT: ranges are sorted, disjoint, non-adjacent and non-empty.
// Bound: kOutOfOrderRanges, of which only those in use are ever touched; a range that would need
// one more is refused (its bytes are dropped and arrive again).
#ifndef TOE_FLOW_REASSEMBLY_H_
#define TOE_FLOW_REASSEMBLY_H_

#include <array>
#include <cstdint>

#include "base/limits.h"

namespace toe::flow {

struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

class Reassembly {
 public:
  static constexpr std::uint32_t kNowhere = 0xffffffffu;

  /// Adds [begin, end), merging what touches or overlaps. False when there is no room for it.
  bool add(std::uint64_t begin, std::uint64_t end);

  /// The stream is in order up to `next`: drops what lies before and returns the new in-order end
  /// (`next` itself, or further when a range joined).
  std::uint64_t advance(std::uint64_t next);

  bool empty() const { return count_ == 0; }
  std::uint32_t count() const { return count_; }
  Range at(std::uint32_t i) const { return {ranges_[i].begin, ranges_[i].end}; }
  /// The lowest part of [begin, end) that is in a range; empty if there is none.
  Range first_common(std::uint64_t begin, std::uint64_t end) const;
  /// Which range holds the position, or kNowhere.
  std::uint32_t find(std::uint64_t position) const;
  /// End of the last range; 0 when empty.
  std::uint64_t highest() const { return count_ == 0 ? 0 : ranges_[count_ - 1].end; }

 private:
  struct Slot {  // not cleared when a record is lent
    std::uint64_t begin, end;
  };
  std::uint32_t first_ending_at_or_behind(std::uint64_t position) const;

  std::uint32_t count_ = 0;                     // first: it is all that an in-order segment reads
  std::array<Slot, kOutOfOrderRanges> ranges_;  // the first count_ mean something
};

}  // namespace toe::flow

#endif  // TOE_FLOW_REASSEMBLY_H_
