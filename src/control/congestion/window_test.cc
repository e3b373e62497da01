// Names, Reno, DCTCP by window, pacing of windows.
#include <cmath>

#include <gtest/gtest.h>

#include "control/congestion/congestion.h"
#include "control/congestion/mark_meter.h"
#include "shm/congestion_names.h"

namespace toe::control {
namespace {

Congestion::Sample sample() {
  Congestion::Sample s;
  s.now = Time{seconds(1).ns};
  s.cwnd = 10'000;
  s.ssthresh = kUnlimitedWindow;
  s.mss = 1000;
  s.srtt = s.min_rtt = millis(10);
  return s;
}

TEST(Congestion, EveryPublishedNameIsAnAlgorithm) {
  std::size_t count = 0;
  shm::for_each_congestion_name([&](std::string_view name) {
    ++count;
    ASSERT_NE(find_congestion(name), nullptr) << name;
    EXPECT_EQ(find_congestion(name)->name, name);
    EXPECT_LT(name.size(), 16u);  // as TCP_CONGESTION carries it
  });
  EXPECT_EQ(count, 6u);
  EXPECT_EQ(find_congestion("cubic"), &cubic());
  for (const char* other : {"bbr", "", "cubi", "cubic|reno", "|"}) {
    EXPECT_EQ(find_congestion(other), nullptr) << other;
    EXPECT_FALSE(shm::is_congestion_name(other)) << other;
  }
}

TEST(Congestion, StartsAreWholeWhateverWasBefore) {
  for (const Congestion* from : {&cubic(), &dctcp(), &timely(), &dctcp_rate(), &constant()}) {
    for (const Congestion* to : {&cubic(), &reno(), &dctcp(), &timely(), &dctcp_rate()}) {
      CongestionState state;
      Congestion::Params params;
      start_congestion(*from, {}, sample(), state, params);
      start_congestion(*to, {}, sample(), state, params);
      Congestion::Params fresh;
      CongestionState other;
      start_congestion(*to, {}, sample(), other, fresh);
      EXPECT_EQ(params, fresh) << from->name << " to " << to->name;
      to->on_round(state, sample(), params);
      to->on_undo(state, sample(), params);
    }
  }
}

TEST(Congestion, AChangeOfAlgorithmKeepsTheThreshold) {
  for (const Congestion* to : {&cubic(), &reno(), &dctcp(), &timely(), &dctcp_rate()}) {
    Congestion::Sample s = sample();
    s.ssthresh = 7000;
    CongestionState state;
    Congestion::Params params;
    start_congestion(*to, {}, s, state, params);
    EXPECT_EQ(params.ssthresh, 7000u) << to->name;
    EXPECT_FALSE(params.watch_rtt);
  }
}

TEST(Congestion, OnlyDctcpWantsExactMarks) {
  shm::for_each_congestion_name([](std::string_view name) {
    CongestionState state;
    Congestion::Params params;
    start_congestion(*find_congestion(name), {}, sample(), state, params);
    EXPECT_EQ(params.exact_marks, name.starts_with("dctcp")) << name;
    EXPECT_EQ(alpha_of(state), name.starts_with("dctcp") ? 1.0 : -1.0) << name;
  });
}

TEST(Reno, HalvesAndGrowsBySegmentPerWindow) {
  CongestionState state;
  Congestion::Params params;
  start_congestion(reno(), {}, sample(), state, params);
  EXPECT_EQ(params.cwnd_cnt, 0u);
  EXPECT_EQ(params.loss_beta, 512u);
  EXPECT_EQ(params.ecn_beta, 512u);
  EXPECT_EQ(params.slow_start_limit, 255u);
  Congestion::Sample s = sample();
  s.ssthresh = 5000;
  reno().on_loss(state, s, params);
  EXPECT_EQ(params.ssthresh, 5000u);
  EXPECT_EQ(params.cwnd_cnt, 0u);
}

class DctcpTest : public ::testing::Test {
 protected:
  DctcpTest() { start_congestion(dctcp(), {}, s, state, params); }
  void window(std::uint32_t bytes, std::uint32_t marked) {
    s.acked += bytes;
    s.ce_acked += marked;
    dctcp().on_round(state, s, params);
  }
  double alpha() const { return std::get<MarkMeter>(state).alpha; }

  Congestion::Sample s = sample();
  CongestionState state;
  Congestion::Params params;
};

// RFC 8257 section 3.3: alpha = alpha (1 - g) + g M, g = 1/16, alpha = 1 at first.
TEST_F(DctcpTest, AlphaFollowsTheShareOfMarks) {
  EXPECT_EQ(alpha(), 1.0);
  EXPECT_EQ(params.ecn_beta, 512u);  // the first marks halve
  double expected = 1;
  for (int i = 0; i < 100; ++i) {
    const std::uint32_t marked = i % 3 == 0 ? 5000 : 0;
    window(20'000, marked);
    expected = expected * 15 / 16 + (marked / 20'000.0) / 16;
    ASSERT_NEAR(alpha(), expected, 1e-12);
    ASSERT_EQ(params.ecn_beta, std::min<long>(1023, std::lround(1024 * (1 - expected / 2))));
  }
}

TEST_F(DctcpTest, AlphaComesDownWithoutMarksAndUpWithAll) {
  for (int i = 0; i < 200; ++i) window(10'000, 0);
  EXPECT_LT(alpha(), 1e-5);
  EXPECT_EQ(params.ecn_beta, 1023u);  // yet marks never cost nothing
  for (int i = 0; i < 200; ++i) window(10'000, 10'000);
  EXPECT_NEAR(alpha(), 1, 1e-5);
  EXPECT_EQ(params.ecn_beta, 512u);
}

TEST_F(DctcpTest, AWindowWithoutBytesSaysNothing) {
  window(0, 0);
  EXPECT_EQ(alpha(), 1.0);
  window(1000, 5000);  // more marks than bytes cannot be: all were marked
  EXPECT_EQ(alpha(), 1.0);
}

TEST_F(DctcpTest, ALossCostsHalfAsReno) { EXPECT_EQ(params.loss_beta, 512u); }

TEST_F(DctcpTest, HearsOfRoundsThatTheApplicationLimits) { EXPECT_TRUE(params.every_round); }

TEST(Pacing, TwiceTheWindowInSlowStartAndLessAfterIt) {
  Congestion::Sample s = sample();  // 10,000 bytes in 10 ms = 1 MB/s
  Congestion::Params params;
  set_pace({}, s, params);
  EXPECT_EQ(params.pacing_bytes_per_s, 0u);
  for (const Pacing pacing : {Pacing::kSlowStart, Pacing::kOn}) {
    const CongestionSettings settings{pacing, 0, 0};
    params.ssthresh = kUnlimitedWindow;
    set_pace(settings, s, params);
    EXPECT_EQ(params.pacing_bytes_per_s, 2'000'000u);
    params.ssthresh = 10'000;
    set_pace(settings, s, params);
    EXPECT_EQ(params.pacing_bytes_per_s, pacing == Pacing::kOn ? 1'200'000u : 0u);
  }
  s.srtt = {};
  set_pace({Pacing::kOn, 0, 0}, s, params);
  EXPECT_EQ(params.pacing_bytes_per_s, 0u);  // no round trip is known
}

TEST(Pacing, BeginsWithTheConnection) {
  CongestionState state;
  Congestion::Params params;
  start_congestion(cubic(), {Pacing::kSlowStart, 0, 0}, sample(), state, params);
  EXPECT_EQ(params.pacing_bytes_per_s, 2'000'000u);
}

TEST(MarkMeter, CountsFromWhereItBegan) {
  Congestion::Sample s = sample();
  s.acked = 1'000'000;
  s.ce_acked = 500'000;
  MarkMeter m = start_meter(s);
  s.acked += 1000;
  EXPECT_EQ(take_window(m, s), 0.0);
}

}  // namespace
}  // namespace toe::control
