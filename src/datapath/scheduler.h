// Flow scheduler: which flow may send its next segment. Unpaced flows are served round robin, one
// segment each; a paced flow waits until its pace allows. A trigger is a hint: the protocol stage
// decides what may leave.
//
// INVARIANT: a flow is queued at most once (ready or waiting).
// Bounds: one entry per flow record. Thread: the worker of one group.
#ifndef TOE_DATAPATH_SCHEDULER_H_
#define TOE_DATAPATH_SCHEDULER_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/types.h"

namespace toe::datapath {

class Scheduler {
 public:
  explicit Scheduler(std::uint32_t max_flows)
      : max_flows_(max_flows),
        ready_(std::make_unique<FlowId[]>(max_flows)),
        queued_(std::make_unique<bool[]>(max_flows)),
        next_send_(std::make_unique<Time[]>(max_flows)) {
    waiting_.reserve(max_flows);
  }

  /// The flow has something to send; at once if it is unpaced or its pace allows.
  void push(FlowId flow, Time now) {
    bool& queued = queued_[index_of(flow)];
    if (queued) return;
    queued = true;
    const Time at = next_send_[index_of(flow)];
    if (at > now) {
      waiting_.push_back({at, flow});
      std::push_heap(waiting_.begin(), waiting_.end(), later);
    } else {
      append(flow);
    }
  }

  /// The next flow to serve; kNoFlow when none may send now.
  FlowId pop(Time now) {
    while (!waiting_.empty() && waiting_.front().at <= now) {
      append(waiting_.front().flow);
      std::pop_heap(waiting_.begin(), waiting_.end(), later);
      waiting_.pop_back();
    }
    if (ready_count_ == 0) return kNoFlow;
    const FlowId flow = ready_[ready_head_];
    ready_head_ = ready_head_ + 1 == max_flows_ ? 0 : ready_head_ + 1;
    --ready_count_;
    queued_[index_of(flow)] = false;
    return flow;
  }

  /// A segment of `bytes` left at `now`: the next one keeps the exact distance that the pace asks.
  void pace(FlowId flow, std::uint32_t bytes, std::uint64_t bytes_per_s, Time now) {
    Time& next = next_send_[index_of(flow)];
    if (bytes_per_s == 0) {
      next = Time{};
      return;
    }
    const auto gap = static_cast<std::int64_t>(std::uint64_t{bytes} * 1'000'000'000 / bytes_per_s);
    next = std::max(next, now) + Nanos{gap};
  }

  /// A new connection uses the record.
  void reset(FlowId flow) { next_send_[index_of(flow)] = Time{}; }

  bool ready() const { return ready_count_ != 0; }
  Time next_deadline() const { return waiting_.empty() ? Time::never() : waiting_.front().at; }

 private:
  struct Waiting {
    Time at;
    FlowId flow;
  };
  static bool later(const Waiting& a, const Waiting& b) { return a.at > b.at; }

  void append(FlowId flow) {
    const std::uint32_t end = ready_head_ + ready_count_;
    ready_[end >= max_flows_ ? end - max_flows_ : end] = flow;
    ++ready_count_;
  }

  std::uint32_t max_flows_;
  std::unique_ptr<FlowId[]> ready_;  ///< ring, served in turn
  std::uint32_t ready_head_ = 0;
  std::uint32_t ready_count_ = 0;
  std::unique_ptr<bool[]> queued_;
  std::unique_ptr<Time[]> next_send_;  ///< earliest instant of the next segment, paced flows
  std::vector<Waiting> waiting_;       ///< heap, earliest first; reserved at start
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_SCHEDULER_H_
