// Flow scheduler: which flow may send its next segment. Unpaced flows are served round robin, one
// segment each; a paced flow waits until its pace allows. A trigger is a hint: the protocol stage
// decides what may leave.
//
// Paces are exact, from one byte per second to kFastestPace: instants are kept in nanoseconds with
// the remainder of the division, so that no rounding adds up, and a flow that is served late makes
// up for it, by at most kCatchUp. A flow that had nothing to send has no claim to the time that
// passed.
//
// INVARIANT: a flow is at most once in the round, and at most once among those that wait.
// Bounds: two entries per flow record. Thread: the worker of one group.
#ifndef TOE_DATAPATH_SCHEDULER_H_
#define TOE_DATAPATH_SCHEDULER_H_

#include <algorithm>
#include <cstdint>
#include <memory>

#include "base/types.h"
#include "datapath/pace_heap.h"

namespace toe::datapath {

class Scheduler {
 public:
  /// A wake-up comes late by the kernel's timer slack and by other programs' time slices; what a
  /// stall owes beyond this is forgotten, for it would leave as one burst.
  static constexpr Nanos kCatchUp = millis(1);
  static constexpr std::uint64_t kFastestPace = 1'000'000'000'000;  ///< bytes/s
  static constexpr std::uint32_t kMostBytes = 1u << 20;             ///< of one segment

  explicit Scheduler(std::uint32_t max_flows)
      : max_flows_(max_flows),
        round_(std::make_unique<FlowId[]>(max_flows)),
        in_round_(std::make_unique<bool[]>(max_flows)),
        pace_(std::make_unique<Pace[]>(max_flows)),
        waiting_(max_flows) {}

  /// The flow has something to send; at once if it is unpaced or its pace allows, or if `urgent`:
  /// an acknowledgement does not wait for the pace of data.
  void push(FlowId flow, Time now, bool urgent = false) {
    if (in_round_[index_of(flow)]) return;
    Pace& p = pace_[index_of(flow)];
    // Nothing was waiting to be sent when the pace allowed the next segment: the time is lost.
    if (p.paced() && p.next < now && p.sent != now) p.next = now;
    if (urgent || p.next <= now) {
      append(flow);
    } else if (!waiting_.contains(flow)) {
      waiting_.insert(flow, p.next);
    }
  }

  /// The next flow to serve; kNoFlow when none may send now.
  FlowId pop(Time now) {
    while (!waiting_.empty() && waiting_.first_at() <= now) {
      const FlowId flow = waiting_.first();
      waiting_.remove(flow);
      if (!in_round_[index_of(flow)]) append(flow);
    }
    if (count_ == 0) return kNoFlow;
    const FlowId flow = round_[head_];
    head_ = head_ + 1 == max_flows_ ? 0 : head_ + 1;
    --count_;
    in_round_[index_of(flow)] = false;
    return flow;
  }

  /// The pace forbids data now: the flow was popped for what is urgent.
  bool held(FlowId flow, Time now) const { return pace_[index_of(flow)].next > now; }

  /// A segment of `bytes` left at `now`: the next one keeps the exact distance that the pace asks.
  void pace(FlowId flow, std::uint32_t bytes, std::uint64_t bytes_per_s, Time now) {
    Pace& p = pace_[index_of(flow)];
    if (bytes_per_s == 0) {
      if (p.paced()) p = {};
      return;
    }
    const std::uint64_t rate = std::min(bytes_per_s, kFastestPace);
    // At most 2^20 * 10^9 + 10^12 < 2^50 + 2^40.
    const std::uint64_t parts =
        std::uint64_t{std::min(bytes, kMostBytes)} * 1'000'000'000 + std::min(p.rest, rate - 1);
    const Time from = p.paced() ? std::max(p.next, now - kCatchUp) : now;
    p.next = from + Nanos{static_cast<std::int64_t>(parts / rate)};
    p.rest = parts % rate;
    p.sent = now;
  }

  /// A new connection uses the record, or the flow is not paced any more.
  void reset(FlowId flow) {
    pace_[index_of(flow)] = {};
    if (!waiting_.contains(flow)) return;
    waiting_.remove(flow);
    if (!in_round_[index_of(flow)]) append(flow);
  }

  bool ready() const { return count_ != 0; }
  /// Entries of both kinds.
  std::uint32_t count() const { return count_ + waiting_.count(); }
  Time next_deadline() const { return waiting_.empty() ? Time::never() : waiting_.first_at(); }

 private:
  struct Pace {
    Time next;               ///< earliest instant of the next segment; past = at once
    Time sent;               ///< when the last one left
    std::uint64_t rest = 0;  ///< what `next` lacks, in 1/rate nanoseconds

    bool paced() const { return next.ns != 0; }
  };

  void append(FlowId flow) {
    const std::uint32_t end = head_ + count_;
    round_[end >= max_flows_ ? end - max_flows_ : end] = flow;
    in_round_[index_of(flow)] = true;
    ++count_;
  }

  std::uint32_t max_flows_;
  std::unique_ptr<FlowId[]> round_;  ///< ring, served in turn
  std::uint32_t head_ = 0;
  std::uint32_t count_ = 0;
  std::unique_ptr<bool[]> in_round_;
  std::unique_ptr<Pace[]> pace_;
  PaceHeap waiting_;
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_SCHEDULER_H_
