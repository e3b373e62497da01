#include "control/congestion/hystart.h"

#include <algorithm>

namespace toe::control {
namespace {

constexpr Nanos kMinThreshold = millis(4);   // MIN_RTT_THRESH
constexpr Nanos kMaxThreshold = millis(16);  // MAX_RTT_THRESH
constexpr std::int64_t kRttDivisor = 8;      // MIN_RTT_DIVISOR

}  // namespace

void hystart_on_rtt(HyStart& h, Nanos min_rtt) {
  if (h.phase == HyStart::Phase::kConservative) {
    if (min_rtt >= h.css_baseline_min_rtt) return;
    h.css_baseline_min_rtt = HyStart::kNone;  // the delay was an accident
    h.phase = HyStart::Phase::kSlowStart;
    return;
  }
  if (h.phase != HyStart::Phase::kSlowStart || h.last_round_min_rtt == HyStart::kNone) return;
  const Nanos threshold =
      std::max(kMinThreshold, std::min(h.last_round_min_rtt / kRttDivisor, kMaxThreshold));
  if (min_rtt < h.last_round_min_rtt + threshold) return;
  h.css_baseline_min_rtt = min_rtt;
  h.css_rounds = 0;
  h.phase = HyStart::Phase::kConservative;
}

bool hystart_on_round(HyStart& h, Nanos min_rtt) {
  h.last_round_min_rtt = min_rtt;
  if (h.phase != HyStart::Phase::kConservative) return false;
  if (++h.css_rounds < HyStart::kCssRounds) return false;
  h.phase = HyStart::Phase::kOver;
  return true;
}

}  // namespace toe::control
