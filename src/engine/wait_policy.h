// How an idle worker waits: spin, then yield, then sleep. Decides only; the worker does it.
//
// Yielding answers a lone request without a wake-up, but takes turns with the program when there
// is much to do, which costs both their batches. So the yield time is used only while the load is
// light and recent yields have found work; each vain one makes the next attempts rarer.
#ifndef TOE_ENGINE_WAIT_POLICY_H_
#define TOE_ENGINE_WAIT_POLICY_H_

#include <algorithm>
#include <cstdint>

#include "base/types.h"

namespace toe::engine {

class WaitPolicy {
 public:
  static constexpr Nanos kSpin{500};
  static constexpr std::uint32_t kMaxSkipped = 64;  ///< idle periods without yield at most
  static constexpr std::uint32_t kBusyFrames = 8;   ///< mean frames per period that mean busy

  enum class Next : std::uint8_t { kSpin, kYield, kSleep };

  explicit WaitPolicy(Nanos yield_time) : yield_time_(yield_time) {}

  /// A step found work; `frames` were received.
  void on_work(std::uint64_t frames) {
    if (idle_) {
      if (yielded_) vain_ = 0;
      idle_ = false;
      mean_x16_ += period_frames_ - mean_x16_ / 16;
      period_frames_ = 0;
    }
    period_frames_ += static_cast<std::uint32_t>(std::min<std::uint64_t>(frames, 1024));
  }

  /// A step found nothing at `now`.
  Next on_idle(Time now) {
    if (!idle_) begin_idle(now);
    const Nanos waited = now - since_;
    if (waited < kSpin) return Next::kSpin;
    if (may_yield_ && waited < yield_time_) {
      yielded_ = true;
      return Next::kYield;
    }
    return Next::kSleep;
  }

  /// After a sleep: what woke it was not found by yielding.
  void on_slept() {
    if (yielded_) {
      vain_ = std::min(vain_ + 1, 6u);
      skip_ = std::min((1u << vain_) - 1, kMaxSkipped);
    }
    yielded_ = false;
    may_yield_ = false;
  }

  bool busy() const { return mean_x16_ >= 16 * kBusyFrames; }

 private:
  void begin_idle(Time now) {
    idle_ = true;
    since_ = now;
    yielded_ = false;
    may_yield_ = yield_time_ > kSpin && !busy() && skip_ == 0;
    if (skip_ > 0) --skip_;
  }

  Nanos yield_time_;
  Time since_;
  bool idle_ = false;
  bool may_yield_ = false;
  bool yielded_ = false;
  std::uint32_t vain_ = 0;  ///< yield phases without result in a row
  std::uint32_t skip_ = 0;
  std::uint32_t period_frames_ = 0;  ///< since the last idle period
  std::uint32_t mean_x16_ = 0;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_WAIT_POLICY_H_
