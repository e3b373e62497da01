// HyStart++ (RFC 9406): ends the first slow start before it loses segments, when round-trip times
// grow, and goes on by a quarter of the pace for a few rounds to see whether they really do.
#ifndef TOE_CONTROL_CONGESTION_HYSTART_H_
#define TOE_CONTROL_CONGESTION_HYSTART_H_

#include <cstdint>

#include "base/types.h"

namespace toe::control {

/// State by the names of RFC 9406 section 4.2; kNone stands for "infinity".
struct HyStart {
  static constexpr Nanos kNone{INT64_MAX};
  static constexpr std::uint8_t kGrowthDivisor = 4;  ///< CSS_GROWTH_DIVISOR
  static constexpr std::uint32_t kCssRounds = 5;     ///< CSS_ROUNDS

  enum class Phase : std::uint8_t {
    kSlowStart,
    kConservative,  ///< CSS
    kOver,          ///< left, by delay or by loss; not used again
  };

  Phase phase = Phase::kSlowStart;
  std::uint8_t css_rounds = 0;
  Nanos last_round_min_rtt = kNone;
  Nanos css_baseline_min_rtt = kNone;
};

/// kRoundRttSamples times of the present round are known, the least of them is `min_rtt`.
void hystart_on_rtt(HyStart& h, Nanos min_rtt);
/// A round has ended; `min_rtt` is the least round-trip time in it (kNone: none was measured).
/// True: slow start is over, ssthresh becomes cwnd.
bool hystart_on_round(HyStart& h, Nanos min_rtt);

}  // namespace toe::control

#endif  // TOE_CONTROL_CONGESTION_HYSTART_H_
