// The paced flows that wait, earliest instant first.
//
// Bound: every flow at most once. Memory is reserved at start. Cost: the logarithm of the number of
// waiting flows per call.
#ifndef TOE_DATAPATH_PACE_HEAP_H_
#define TOE_DATAPATH_PACE_HEAP_H_

#include <cstdint>
#include <memory>

#include "base/check.h"
#include "base/types.h"

namespace toe::datapath {

class PaceHeap {
 public:
  explicit PaceHeap(std::uint32_t max_flows)
      : entries_(std::make_unique<Entry[]>(max_flows)),
        place_(std::make_unique<std::uint32_t[]>(max_flows)) {}

  bool empty() const { return count_ == 0; }
  std::uint32_t count() const { return count_; }
  /// REQUIRES: not empty.
  Time first_at() const { return entries_[0].at; }
  FlowId first() const { return entries_[0].flow; }
  bool contains(FlowId flow) const { return place_[index_of(flow)] != 0; }

  /// REQUIRES: the flow does not wait.
  void insert(FlowId flow, Time at) {
    TOE_DCHECK(!contains(flow));
    up(count_++, {at, flow});
  }

  /// REQUIRES: the flow waits.
  void remove(FlowId flow) {
    TOE_DCHECK(contains(flow));
    const std::uint32_t hole = place_[index_of(flow)] - 1;
    place_[index_of(flow)] = 0;
    const Entry last = entries_[--count_];
    if (hole == count_) return;
    if (hole > 0 && last.at < entries_[parent(hole)].at) {
      up(hole, last);
    } else {
      down(hole, last);
    }
  }

 private:
  struct Entry {
    Time at;
    FlowId flow;
  };
  static std::uint32_t parent(std::uint32_t i) { return (i - 1) / 2; }

  void put(std::uint32_t i, const Entry& e) {
    entries_[i] = e;
    place_[index_of(e.flow)] = i + 1;
  }
  void up(std::uint32_t i, const Entry& e) {
    for (; i > 0 && e.at < entries_[parent(i)].at; i = parent(i)) put(i, entries_[parent(i)]);
    put(i, e);
  }
  void down(std::uint32_t i, const Entry& e) {
    for (std::uint32_t child = 2 * i + 1; child < count_; child = 2 * i + 1) {
      if (child + 1 < count_ && entries_[child + 1].at < entries_[child].at) ++child;
      if (e.at <= entries_[child].at) break;
      put(i, entries_[child]);
      i = child;
    }
    put(i, e);
  }

  std::unique_ptr<Entry[]> entries_;
  std::unique_ptr<std::uint32_t[]> place_;  ///< by flow: 1 + its entry, 0 = does not wait
  std::uint32_t count_ = 0;
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PACE_HEAP_H_
