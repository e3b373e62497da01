#include "control/congestion/hystart.h"

#include <gtest/gtest.h>

namespace toe::control {
namespace {

using Phase = HyStart::Phase;

TEST(HyStart, TheFirstRoundOnlyMeasures) {
  HyStart h;
  hystart_on_rtt(h, millis(500));
  EXPECT_EQ(h.phase, Phase::kSlowStart);
  EXPECT_FALSE(hystart_on_round(h, millis(500)));
  EXPECT_EQ(h.last_round_min_rtt, millis(500));
}

// RttThresh = max(4 ms, min(last / 8, 16 ms)).
TEST(HyStart, ThresholdIsAnEighthOfTheRoundTripWithinFourAndSixteenMilliseconds) {
  struct Case {
    Nanos last, threshold;
  };
  for (const auto& [last, threshold] :
       {Case{micros(100), millis(4)}, Case{millis(32), millis(4)}, Case{millis(80), millis(10)},
        Case{millis(128), millis(16)}, Case{seconds(1), millis(16)}}) {
    HyStart below, at;
    hystart_on_round(below, last);
    hystart_on_round(at, last);
    hystart_on_rtt(below, last + threshold - Nanos{1});
    hystart_on_rtt(at, last + threshold);
    EXPECT_EQ(below.phase, Phase::kSlowStart) << last.ns;
    EXPECT_EQ(at.phase, Phase::kConservative) << last.ns;
    EXPECT_EQ(at.css_baseline_min_rtt, last + threshold);
  }
}

TEST(HyStart, FiveConservativeRoundsEndSlowStart) {
  HyStart h;
  hystart_on_round(h, millis(40));
  hystart_on_rtt(h, millis(50));
  for (int i = 1; i <= 5; ++i) {
    EXPECT_EQ(h.phase, Phase::kConservative);
    EXPECT_EQ(hystart_on_round(h, millis(50)), i == 5) << i;
    hystart_on_rtt(h, millis(50));
  }
  EXPECT_EQ(h.phase, Phase::kOver);
  EXPECT_FALSE(hystart_on_round(h, millis(90)));
  EXPECT_EQ(h.phase, Phase::kOver);
}

TEST(HyStart, AFallingDelayResumesSlowStart) {
  HyStart h;
  hystart_on_round(h, millis(40));
  hystart_on_rtt(h, millis(50));
  hystart_on_round(h, millis(50));
  hystart_on_rtt(h, millis(49));
  EXPECT_EQ(h.phase, Phase::kSlowStart);
  EXPECT_EQ(h.css_baseline_min_rtt, HyStart::kNone);
  hystart_on_round(h, millis(49));
  hystart_on_rtt(h, millis(60));  // and again
  EXPECT_EQ(h.phase, Phase::kConservative);
  EXPECT_FALSE(hystart_on_round(h, millis(60)));  // rounds are counted anew
  EXPECT_EQ(h.css_rounds, 1);
}

TEST(HyStart, ARoundWithoutMeasurementJudgesNothing) {
  HyStart h;
  hystart_on_round(h, HyStart::kNone);
  hystart_on_rtt(h, seconds(5));
  EXPECT_EQ(h.phase, Phase::kSlowStart);
}

}  // namespace
}  // namespace toe::control
