#include <cmath>

#include <gtest/gtest.h>

#include "control/congestion/congestion.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kMss = 1000;

// One flow under the rule of the protocol stage: `cwnd` grows by a segment per cwnd_cnt bytes.
class CubicTest : public ::testing::Test {
 protected:
  CubicTest() { begin(); }

  void begin() { start_congestion(cubic(), settings, sample(), state, params); }
  Congestion::Sample sample() const {
    Congestion::Sample s;
    s.now = now;
    s.cwnd = s.in_flight = cwnd;
    s.ssthresh = ssthresh;
    s.mss = kMss;
    s.srtt = s.min_rtt = rtt;
    s.acked = acked;
    s.cwnd_limited = true;
    return s;
  }
  CubicState& inner() { return std::get<CubicState>(state); }
  void round() {
    cubic().on_round(state, sample(), params);
    const std::uint32_t step = params.cwnd_cnt == 0 ? cwnd : params.cwnd_cnt;
    grown += static_cast<double>(cwnd) / step * kMss;
    acked += cwnd;
    while (grown >= kMss) {
      cwnd = std::min(cwnd + kMss, std::max(cwnd, params.cwnd_cap));
      grown -= kMss;
    }
    now = now + rtt;
  }
  void lose() {
    ssthresh = static_cast<std::uint32_t>(cwnd * 0.7);
    cwnd = ssthresh;
    grown = 0;
    cubic().on_loss(state, sample(), params);
  }

  CongestionSettings settings;
  CongestionState state;
  Congestion::Params params;
  Time now{1'000'000'000};
  Nanos rtt = millis(100);
  std::uint32_t cwnd = 100 * kMss;
  std::uint32_t ssthresh = kUnlimitedWindow;
  std::uint64_t acked = 0;
  double grown = 0;
};

TEST_F(CubicTest, SlowStartIsLeftAlone) {
  round();
  EXPECT_EQ(params.cwnd_cap, kUnlimitedWindow);
  EXPECT_EQ(params.loss_beta, 717u);
  EXPECT_EQ(params.ecn_beta, 717u);
  EXPECT_EQ(params.cwnd_cnt, 0u);
  EXPECT_EQ(params.slow_start_limit, 255u);
  EXPECT_TRUE(params.watch_rtt);
}

TEST_F(CubicTest, FirstRoundAfterALossMatchesTheFormula) {
  lose();
  EXPECT_EQ(params.ssthresh, 70 * kMss);
  EXPECT_EQ(params.cwnd_cnt, 0u);
  EXPECT_NEAR(inner().now.w_max, 100, 0.01);
  cubic().on_round(state, sample(), params);
  // K = cbrt(30 / 0.4) = 4.217 s; W(0.1) = 0.4 (0.1 - K)^3 + 100 = 72.08.
  const double k = std::cbrt(30 / 0.4);
  EXPECT_NEAR(inner().now.k, k, 0.01);
  const double target = 0.4 * std::pow(0.1 - k, 3) + 100;
  EXPECT_NEAR(params.cwnd_cnt, 70.0 / (target - 70) * kMss, 0.02 * params.cwnd_cnt);
  EXPECT_EQ(params.cwnd_cap, static_cast<std::uint32_t>(std::ceil(target)) * kMss);
}

// RFC 9438 section 4.2 and 4.3 together: the window follows the larger of the curve and of Reno's
// estimate for ten seconds, concave and convex part, within two segments.
TEST_F(CubicTest, FollowsTheCurveOverTime) {
  for (const std::uint32_t segments : {100u, 400u, 2000u}) {
    SCOPED_TRACE(segments);
    cwnd = segments * kMss;
    ssthresh = kUnlimitedWindow;
    begin();
    lose();
    const Time start = now;
    const double w_max = segments, low = w_max * 0.7;
    const double k = std::cbrt((w_max - low) / 0.4);
    double friendly = low;
    const double alpha = 3 * 0.3 / 1.7;
    for (int i = 1; i <= 150; ++i) {
      round();
      friendly += friendly >= w_max ? 1 : alpha;
      const double t = static_cast<double>((now - start).ns) * 1e-9;
      const double expected = std::max(0.4 * std::pow(t - k, 3) + w_max, friendly);
      ASSERT_NEAR(static_cast<double>(cwnd) / kMss, expected, 2 + expected * 0.01) << t;
    }
  }
}

TEST_F(CubicTest, NeverGrowsByMoreThanHalfInOneRound) {
  lose();
  now = now + rtt;
  cubic().on_round(state, sample(), params);
  now = now + rtt * 2;
  rtt = seconds(20);
  cubic().on_round(state, sample(), params);
  EXPECT_GE(params.cwnd_cnt, 2 * kMss);
  EXPECT_LE(params.cwnd_cap, cwnd + cwnd / 2 + kMss);
}

// RFC 9438 section 4.3: alpha = 3 (1 - 0.7) / (1 + 0.7) = 0.529 per round, and 1 above cwnd_prior.
TEST_F(CubicTest, FriendlyToRenoAtSmallWindowsAndShortRoundTrips) {
  rtt = millis(1);
  cwnd = 10 * kMss;
  lose();  // 7 segments; K = 2 s, while Reno needs milliseconds
  round();
  const double first = inner().now.w_est;
  round();
  EXPECT_NEAR(inner().now.w_est - first, 3 * 0.3 / 1.7, 1e-9);
  for (int i = 0; i < 20; ++i) round();
  EXPECT_GE(inner().now.w_est, 10);
  const double later = inner().now.w_est;
  round();
  EXPECT_NEAR(inner().now.w_est - later, 1, 0.05);
  EXPECT_NEAR(static_cast<double>(cwnd) / kMss, inner().now.w_est, 2);
}

TEST_F(CubicTest, WhatWasNotSentDoesNotCountForRenosEstimate) {
  rtt = millis(1);
  cwnd = 10 * kMss;
  lose();
  round();
  const double before = inner().now.w_est;
  acked -= cwnd / 2;  // the round acknowledged half a window
  round();
  EXPECT_NEAR(inner().now.w_est - before, 3 * 0.3 / 1.7 / 2, 1e-9);
}

TEST_F(CubicTest, FastConvergenceGivesRoomToNewcomers) {
  lose();
  EXPECT_NEAR(inner().now.w_max, 100, 0.01);
  lose();  // below the last maximum: release more
  EXPECT_NEAR(inner().now.w_max, 70 * 0.85, 0.1);
}

TEST_F(CubicTest, TimeoutStartsAnew) {
  lose();
  ssthresh = 30 * kMss;
  cwnd = kMss;
  cubic().on_timeout(state, sample(), params);
  EXPECT_EQ(params.ssthresh, 30 * kMss);
  EXPECT_EQ(params.cwnd_cap, kUnlimitedWindow);
  EXPECT_FALSE(params.watch_rtt);  // HyStart++ is for the first slow start
  cwnd = 30 * kMss;
  round();
  EXPECT_NEAR(inner().now.k, 0, 1e-9);
  EXPECT_NEAR(inner().now.w_max, 30, 1e-9);
}

// RFC 9438 section 4.9: after an undone reduction the curve goes on where it was.
TEST_F(CubicTest, UndoBringsTheStageBack) {
  lose();
  for (int i = 0; i < 20; ++i) round();
  const std::uint32_t window = cwnd, threshold = ssthresh;
  const CubicStage stage = inner().now;
  for (const bool timeout : {false, true}) {
    lose();
    if (timeout) cubic().on_timeout(state, sample(), params);
    inner().undo = timeout ? stage : inner().undo;
    cwnd = window;
    ssthresh = threshold;
    cubic().on_undo(state, sample(), params);
    EXPECT_EQ(params.ssthresh, threshold);
    EXPECT_EQ(inner().now.w_max, stage.w_max);
    EXPECT_EQ(inner().now.k, stage.k);
    EXPECT_EQ(inner().now.epoch, stage.epoch);
  }
  round();
  EXPECT_GE(cwnd, window);
}

// A reduction that was an error does not end slow start's watch over delays either.
TEST_F(CubicTest, UndoBringsHyStartBack) {
  lose();
  cwnd = 100 * kMss;
  ssthresh = kUnlimitedWindow;
  cubic().on_undo(state, sample(), params);
  EXPECT_TRUE(params.watch_rtt);
  EXPECT_EQ(params.ssthresh, kUnlimitedWindow);
  EXPECT_EQ(inner().hystart.phase, HyStart::Phase::kSlowStart);
}

// As Linux: nothing is known yet of what the path bears, and a curve from K = 0 would take seconds.
TEST_F(CubicTest, BeforeTheFirstLossItGrowsByATwentiethPerRound) {
  ssthresh = cwnd = 1000 * kMss;  // slow start has ended by delay
  round();
  EXPECT_EQ(params.cwnd_cnt, 20u * kMss);
  EXPECT_EQ(params.cwnd_cap, 1050u * kMss);
  round();
  EXPECT_NEAR(cwnd, 1050.0 * kMss * 1.05, 3.0 * kMss);
  lose();
  round();
  round();
  EXPECT_GT(params.cwnd_cnt, 21u * kMss);
}

TEST_F(CubicTest, IdleTimeDoesNotCount) {
  lose();
  for (int i = 0; i < 10; ++i) round();
  const std::uint32_t before = cwnd;
  now = now + seconds(60);
  cubic().on_round(state, sample(), params);
  EXPECT_LE(params.cwnd_cap, before + 3 * kMss);
}

TEST_F(CubicTest, ARoundThatCwndDidNotLimitChangesNothing) {
  lose();
  for (int i = 0; i < 10; ++i) round();
  const Congestion::Params before = params;
  Congestion::Sample s = sample();
  s.now = s.now + seconds(1);
  s.cwnd_limited = false;
  cubic().on_round(state, s, params);
  EXPECT_EQ(params, before);
}

TEST_F(CubicTest, SurvivesEmptySamples) {
  Congestion::Sample empty;
  empty.cwnd_limited = true;
  cubic().on_round(state, empty, params);
  cubic().on_rtt(state, {}, params);
  cubic().on_loss(state, {}, params);
  cubic().on_timeout(state, {}, params);
  cubic().on_undo(state, {}, params);
  Congestion::Sample tiny = sample();
  tiny.cwnd = 1;
  tiny.ssthresh = 0;
  cubic().on_round(state, tiny, params);
  EXPECT_GE(params.cwnd_cnt, kMss);
}

// --- HyStart++ within CUBIC ---

TEST_F(CubicTest, RisingDelaySlowsSlowStartAndThenEndsIt) {
  auto with = [&](Nanos least) {
    Congestion::Sample s = sample();
    s.round_rtt = least;
    s.round_samples = 8;
    return s;
  };
  cubic().on_round(state, with(millis(100)), params);
  cubic().on_rtt(state, with(millis(120)), params);
  EXPECT_EQ(params.slow_start_divisor, 4u);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(params.ssthresh, kUnlimitedWindow) << i;
    cubic().on_round(state, with(millis(120)), params);
    cubic().on_rtt(state, with(millis(120)), params);
  }
  EXPECT_EQ(params.ssthresh, cwnd);
  EXPECT_EQ(params.slow_start_divisor, 1u);
  EXPECT_FALSE(params.watch_rtt);
  ssthresh = cwnd;
  round();  // section 4.10: K = 0, W_max = cwnd
  EXPECT_EQ(inner().now.k, 0);
  EXPECT_NEAR(inner().now.w_max, 100, 1e-9);
}

TEST_F(CubicTest, ALossEndsHyStart) {
  lose();
  EXPECT_FALSE(params.watch_rtt);
  EXPECT_EQ(params.slow_start_divisor, 1u);
}

// RFC 9438 section 4.6: marks are taken as a loss, with cwnd still on its way down.
TEST_F(CubicTest, MarksCostAsMuchAsALoss) {
  EXPECT_EQ(params.ecn_beta, params.loss_beta);
  round();
  ssthresh = static_cast<std::uint32_t>(cwnd * 0.7);
  CongestionState marked = state;
  Congestion::Params after = params;
  cubic().on_marks(marked, sample(), after);
  const double before = cwnd / static_cast<double>(kMss);
  EXPECT_NEAR(std::get<CubicState>(marked).now.w_max, before, 0.01);
  lose();
  EXPECT_EQ(after, params);
  EXPECT_EQ(std::get<CubicState>(marked).now.w_max, inner().now.w_max);
  EXPECT_FALSE(after.watch_rtt);
}

}  // namespace
}  // namespace toe::control
