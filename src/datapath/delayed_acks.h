// Delayed ACKs of one group in the order in which they fall due: all wait equally long, so a queue
// is enough. A flow is in it at most once; when its entry comes up and an ACK is still owed, it
// leaves then, never later than the delay after the oldest segment it acknowledges.
//
// Bound: one entry per flow record. Thread: the worker of one group.
#ifndef TOE_DATAPATH_DELAYED_ACKS_H_
#define TOE_DATAPATH_DELAYED_ACKS_H_

#include <cstdint>
#include <memory>

#include "base/types.h"

namespace toe::datapath {

class DelayedAcks {
 public:
  explicit DelayedAcks(std::uint32_t max_flows)
      : max_flows_(max_flows),
        entries_(std::make_unique<Entry[]>(max_flows)),
        queued_(std::make_unique<bool[]>(max_flows)) {}

  void push(FlowId flow, Time due) {
    bool& queued = queued_[index_of(flow)];
    if (queued) return;
    queued = true;
    const std::uint32_t end = head_ + count_;
    entries_[end >= max_flows_ ? end - max_flows_ : end] = {due, flow};
    ++count_;
  }

  /// A flow whose entry is due; kNoFlow when none is.
  FlowId pop(Time now) {
    if (count_ == 0 || entries_[head_].due > now) return kNoFlow;
    const FlowId flow = entries_[head_].flow;
    head_ = head_ + 1 == max_flows_ ? 0 : head_ + 1;
    --count_;
    queued_[index_of(flow)] = false;
    return flow;
  }

  std::uint32_t count() const { return count_; }
  Time next_deadline() const { return count_ == 0 ? Time::never() : entries_[head_].due; }

 private:
  struct Entry {
    Time due;
    FlowId flow = kNoFlow;
  };
  std::uint32_t max_flows_;
  std::unique_ptr<Entry[]> entries_;
  std::uint32_t head_ = 0;
  std::uint32_t count_ = 0;
  std::unique_ptr<bool[]> queued_;
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_DELAYED_ACKS_H_
