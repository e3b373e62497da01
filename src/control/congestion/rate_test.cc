// Algorithms that compute a rate: DCTCP by rate, TIMELY, constant.
#include "control/congestion/rate.h"

#include <gtest/gtest.h>

namespace toe::control {
namespace {

constexpr std::uint32_t kMss = 1000;

class RateTest : public ::testing::Test {
 protected:
  void begin(const Congestion& a) {
    algorithm = &a;
    start_congestion(a, settings, s, state, params);
  }
  double rate() const { return static_cast<double>(params.pacing_bytes_per_s); }
  // A round in which the flow sent `use` of what its rate allows, and `marked` of it came marked.
  void round(double use = 1, double marked = 0) {
    const double sent = rate() * seconds_of(s.srtt) * use;
    s.now = s.now + s.srtt;
    s.acked += static_cast<std::uint64_t>(sent);
    s.ce_acked += static_cast<std::uint64_t>(sent * marked);
    algorithm->on_round(state, s, params);
  }
  static Congestion::Sample first() {
    Congestion::Sample s;
    s.now = Time{seconds(1).ns};
    s.cwnd = 10 * kMss;
    s.ssthresh = kUnlimitedWindow;
    s.mss = kMss;
    s.srtt = s.min_rtt = micros(100);
    return s;
  }

  const Congestion* algorithm = nullptr;
  CongestionSettings settings;
  Congestion::Sample s = first();
  CongestionState state;
  Congestion::Params params;
};

// A flow has its pace from its first segment on, not from its first round trip.
TEST_F(RateTest, AFlowBeginsPaced) {
  for (const Congestion* a : {&dctcp_rate(), &timely()}) {
    begin(*a);
    EXPECT_EQ(rate(), 100e6) << a->name;  // ten segments in 100 us
    EXPECT_EQ(params.loss_beta, 1024u);
    EXPECT_EQ(params.ecn_beta, 1024u);
    EXPECT_TRUE(params.every_round);
    EXPECT_EQ(params.cwnd_cap, 20 * kMss);  // twice what the rate sends in a round trip
  }
  s.srtt = {};  // the handshake was not measured
  begin(dctcp_rate());
  EXPECT_GE(rate(), 10e6 / 8);
}

TEST_F(RateTest, StaysWithinBounds) {
  begin(dctcp_rate());
  for (int i = 0; i < 100; ++i) round();
  EXPECT_EQ(rate(), 50e9);
  for (int i = 0; i < 200; ++i) dctcp_rate().on_timeout(state, s, params);
  EXPECT_NEAR(rate(), kMss / 100e-6, 1);  // a segment per round trip
  s.srtt = seconds(100);
  for (int i = 0; i < 20; ++i) dctcp_rate().on_timeout(state, s, params);
  EXPECT_EQ(rate(), 1000);
  EXPECT_GE(params.cwnd_cap, 4 * kMss);
}

TEST_F(RateTest, DctcpDoublesUntilTheFirstMarkThenSteps) {
  begin(dctcp_rate());
  round();
  EXPECT_EQ(rate(), 200e6);
  round();
  EXPECT_EQ(rate(), 400e6);
  double alpha = 15.0 / 16 * 15 / 16;
  round(1, 1);
  alpha = alpha * 15 / 16 + 1.0 / 16;
  EXPECT_NEAR(std::get<DctcpRateState>(state).marks.alpha, alpha, 1e-5);
  double expected = 400e6 * (1 - alpha / 2);
  EXPECT_NEAR(rate(), expected, 1000);
  round(1, 1);  // sent before the reduction: no other one, and no growth
  EXPECT_NEAR(rate(), expected, 1000);
  round();
  EXPECT_NEAR(rate(), expected + 10e6 / 8, 1000);
  expected = rate();
  round(1, 0.5);
  alpha = std::get<DctcpRateState>(state).marks.alpha;
  EXPECT_NEAR(rate(), expected * (1 - alpha / 2), 1000);
}

TEST_F(RateTest, StepIsASegmentPerRoundTripOnLongPaths) {
  s.srtt = s.min_rtt = millis(100);
  begin(dctcp_rate());
  dctcp_rate().on_loss(state, s, params);
  const double before = rate();
  round();
  EXPECT_NEAR(rate() - before, kMss / 0.1, 1);
}

TEST_F(RateTest, ARateThatIsNotUsedDoesNotGrow) {
  for (const Congestion* a : {&dctcp_rate(), &timely()}) {
    begin(*a);
    s.round_rtt = micros(100);
    s.round_samples = 10;
    const double before = rate();
    for (int i = 0; i < 10; ++i) round(0.1);
    EXPECT_EQ(rate(), before) << a->name;
    round(0.9);
    EXPECT_GT(rate(), before) << a->name;
  }
}

TEST_F(RateTest, LossAndTimeoutHalveAndUndoRestores) {
  for (const Congestion* a : {&dctcp_rate(), &timely()}) {
    for (const Congestion::Step step : {a->on_loss, a->on_timeout}) {
      begin(*a);
      const double before = rate();
      step(state, s, params);
      EXPECT_EQ(rate(), before / 2) << a->name;
      a->on_undo(state, s, params);
      EXPECT_EQ(rate(), before) << a->name;
    }
  }
}

// --- TIMELY: least RTT 100 us, so thresholds at 125 us and 239 us ---

class TimelyTest : public RateTest {
 protected:
  TimelyTest() { begin(timely()); }
  void rtt(Nanos t) {
    s.round_rtt = t;
    s.round_samples = 10;
    round();
  }
  void leave_slow_start() {
    rtt(micros(126));
    std::get<TimelyState>(state).good_rounds = 0;
  }
};

TEST_F(TimelyTest, DoublesBelowTheLowThresholdUntilItWasReached) {
  const double before = rate();
  rtt(micros(100));
  EXPECT_EQ(rate(), 2 * before);
  leave_slow_start();
  const double after = rate();
  rtt(micros(100));
  EXPECT_NEAR(rate() - after, 10e6 / 8, 1);
}

TEST_F(TimelyTest, FallsInProportionAboveTheHighThreshold) {
  leave_slow_start();
  double before = rate();
  rtt(micros(300));
  EXPECT_NEAR(rate(), before * (1 - 0.8 * (1 - 239.0 / 300)), before * 1e-6);
  before = rate();
  rtt(millis(50));  // never by more than half in a round
  EXPECT_NEAR(rate(), before / 2, 1);
}

TEST_F(TimelyTest, FollowsTheGradientBetweenThem) {
  leave_slow_start();
  const double before = rate();
  rtt(micros(200));
  // rtt_diff after 126 and 200: 0.02 * 74 = 1.48 us; relative to 100 us: 0.0148.
  EXPECT_NEAR(rate(), before * (1 - 0.8 * 0.0148), before * 1e-6);
  double expected = 1.48;
  for (int i = 0; i < 5; ++i) {
    const double old = rate();
    rtt(micros(200));
    expected *= 0.98;
    EXPECT_NEAR(rate(), old * (1 - 0.8 * expected / 100), old * 1e-6);
  }
}

TEST_F(TimelyTest, FiveGoodRoundsMakeItHyperactive) {
  leave_slow_start();
  for (int i = 1; i <= 8; ++i) {
    const double before = rate();
    rtt(micros(126));  // level
    EXPECT_NEAR(rate() - before, (i >= 5 ? 5 : 1) * 10e6 / 8, 1) << i;
  }
  const double before = rate();
  rtt(micros(200));
  EXPECT_LT(rate(), before);
  rtt(micros(126));
  EXPECT_EQ(std::get<TimelyState>(state).good_rounds, 1u);
}

TEST_F(TimelyTest, AThresholdIsADelayNotARoundTrip) {
  s.srtt = s.min_rtt = millis(20);
  begin(timely());
  const double before = rate();
  rtt(millis(21));  // far above 150 us, but hardly a queue
  EXPECT_GT(rate(), before);
}

TEST_F(TimelyTest, WithoutMeasurementNothingChanges) {
  const double before = rate();
  s.round_samples = 0;
  round();
  EXPECT_EQ(rate(), before);
}

// --- Constant ---

TEST_F(RateTest, ConstantStaysWhatItIs) {
  settings.constant_rate = 125'000;
  settings.constant_window = 64'000;
  begin(constant());
  const Congestion::Params at_first = params;
  EXPECT_EQ(params.pacing_bytes_per_s, 125'000u);
  EXPECT_EQ(params.cwnd_cap, 64'000u);
  EXPECT_EQ(params.loss_beta, 1024u);
  s.ssthresh = 2 * kMss;
  for (const Congestion::Step step :
       {constant().on_round, constant().on_rtt, constant().on_loss, constant().on_marks,
        constant().on_timeout, constant().on_undo}) {
    step(state, s, params);
    EXPECT_EQ(params, at_first);
  }
}

TEST_F(RateTest, ConstantWithoutValuesIsUnlimited) {
  begin(constant());
  EXPECT_EQ(params.pacing_bytes_per_s, 0u);
  EXPECT_EQ(params.cwnd_cap, kUnlimitedWindow);
}

TEST_F(RateTest, ConstantWindowHoldsTwoSegmentsAtLeast) {
  settings.constant_window = 1;
  begin(constant());
  EXPECT_EQ(params.cwnd_cap, 2 * kMss);
}

}  // namespace
}  // namespace toe::control
