#include <cmath>

#include <gtest/gtest.h>

#include "control/congestion/congestion.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kMss = 1000;

// One flow under the rule of the protocol stage: `cwnd` grows by a segment per cwnd_cnt bytes.
class CubicTest : public ::testing::Test {
 protected:
  CubicTest() { cubic().start(state, params); }

  Congestion::Sample sample() const { return {now, cwnd, ssthresh, kMss, cwnd, rtt, rtt, 0}; }
  void round() {
    cubic().on_round(state, sample(), params);
    const std::uint32_t step = params.cwnd_cnt == 0 ? cwnd : params.cwnd_cnt;
    grown += static_cast<double>(cwnd) / step * kMss;
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

  CongestionState state;
  Congestion::Params params;
  Time now{1'000'000'000};
  Nanos rtt = millis(100);
  std::uint32_t cwnd = 100 * kMss;
  std::uint32_t ssthresh = 0xffffffffu;
  double grown = 0;
};

TEST_F(CubicTest, SlowStartIsLeftAlone) {
  round();
  EXPECT_EQ(params.cwnd_cap, 0xffffffffu);
  EXPECT_EQ(params.loss_beta, 717u);
  EXPECT_EQ(params.cwnd_cnt, 0u);
}

TEST_F(CubicTest, FirstRoundAfterALossMatchesTheFormula) {
  lose();
  EXPECT_EQ(params.ssthresh, 70 * kMss);
  EXPECT_EQ(params.cwnd_cnt, 0u);
  EXPECT_NEAR(state.w_max, 100, 0.01);
  cubic().on_round(state, sample(), params);
  // K = cbrt(30 / 0.4) = 4.217 s; W(0.1) = 0.4 (0.1 - K)^3 + 100 = 72.08.
  const double k = std::cbrt(30 / 0.4);
  EXPECT_NEAR(state.k, k, 0.01);
  const double target = 0.4 * std::pow(0.1 - k, 3) + 100;
  EXPECT_NEAR(params.cwnd_cnt, 70.0 / (target - 70) * kMss, 0.02 * params.cwnd_cnt);
  EXPECT_EQ(params.cwnd_cap, static_cast<std::uint32_t>(std::ceil(target)) * kMss);
}

TEST_F(CubicTest, ReturnsToTheOldWindowAfterKAndThenGoesBeyond) {
  lose();
  const Time start = now;
  while (now - start < seconds(4) + millis(200)) round();
  EXPECT_NEAR(cwnd / kMss, 100, 4);  // the plateau
  const std::uint32_t plateau = cwnd;
  while (now - start < seconds(9)) round();
  EXPECT_GT(cwnd, plateau + 20 * kMss);  // convex growth: 0.4 * 4.8^3 = 44
  EXPECT_LT(cwnd, plateau + 60 * kMss);
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

TEST_F(CubicTest, FriendlyToRenoAtSmallWindowsAndShortRoundTrips) {
  rtt = millis(1);
  cwnd = 10 * kMss;
  lose();  // 7 segments; K = 2 s, while Reno needs milliseconds
  const Time start = now;
  while (now - start < millis(30)) round();
  // 30 rounds at 0.53 segments each at first, then 1.
  EXPECT_GT(cwnd, 18 * kMss);
  EXPECT_LT(cwnd, 40 * kMss);
}

TEST_F(CubicTest, FastConvergenceGivesRoomToNewcomers) {
  lose();
  EXPECT_NEAR(state.w_max, 100, 0.01);
  lose();  // below the last maximum: release more
  EXPECT_NEAR(state.w_max, 70 * 0.85, 0.1);
}

TEST_F(CubicTest, TimeoutStartsAnew) {
  lose();
  ssthresh = 30 * kMss;
  cwnd = kMss;
  cubic().on_timeout(state, sample(), params);
  EXPECT_EQ(params.ssthresh, 30 * kMss);
  EXPECT_EQ(params.cwnd_cap, 0xffffffffu);
  cwnd = 30 * kMss;
  round();
  EXPECT_NEAR(state.k, 0, 1e-9);
  EXPECT_NEAR(state.w_max, 30, 1e-9);
}

TEST_F(CubicTest, IdleTimeDoesNotCount) {
  lose();
  for (int i = 0; i < 10; ++i) round();
  const std::uint32_t before = cwnd;
  now = now + seconds(60);
  cubic().on_round(state, sample(), params);
  EXPECT_LE(params.cwnd_cap, before + 3 * kMss);
}

TEST_F(CubicTest, SurvivesEmptySamples) {
  cubic().on_round(state, {}, params);
  cubic().on_loss(state, {}, params);
  cubic().on_timeout(state, {}, params);
  Congestion::Sample tiny = sample();
  tiny.cwnd = 1;
  tiny.ssthresh = 0;
  cubic().on_round(state, tiny, params);
  EXPECT_GE(params.cwnd_cnt, kMss);
}

TEST(Congestion, Names) {
  EXPECT_EQ(find_congestion("cubic"), &cubic());
  EXPECT_EQ(find_congestion("reno"), &reno());
  EXPECT_EQ(find_congestion("bbr"), nullptr);
  EXPECT_EQ(find_congestion(""), nullptr);
  CongestionState state;
  Congestion::Params params;
  reno().start(state, params);
  EXPECT_EQ(params.cwnd_cnt, 0u);
  EXPECT_EQ(params.loss_beta, 512u);
}

}  // namespace
}  // namespace toe::control
