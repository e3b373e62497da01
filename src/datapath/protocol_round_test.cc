// Rounds and their measurements, and the parameters that steer growth.
#include <initializer_list>

#include <gtest/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

std::uint32_t stamp(Time at) { return static_cast<std::uint32_t>(at.ns / 1'000'000); }

// A flow in slow start, limited by its window of ten segments.
struct Bulk : Script {
  explicit Bulk(bool watch) {
    s.ts_on = true;
    s.ts_recent = 1;
    s.cc.watch_rtt = watch;
    s.snd_ring_bytes = 1 << 20;
    write(60 * kTestMss);
    take_sent();
    sent_at = now;
    s.round_end = s.snd_max;
  }
  void ack(std::int64_t segments, Nanos later) {
    now = sent_at + later;
    recv({.ack = segments * kTestMss, .tsecr = stamp(sent_at)});
  }
  Time sent_at;
};

TEST(Round, SlowStartGrowsByTheLimitPerAck) {
  for (const std::uint8_t limit : std::initializer_list<std::uint8_t>{1, 2, 4}) {
    Bulk t(false);
    t.s.cc.slow_start_limit = limit;
    t.ack(4, millis(10));
    EXPECT_EQ(t.s.cwnd, (10u + limit) * kTestMss);
  }
}

TEST(Round, SlowStartGrowsByAPartInItsConservativePhase) {
  Bulk t(false);
  t.s.cc.slow_start_limit = 8;
  t.s.cc.slow_start_divisor = 4;
  t.ack(4, millis(10));
  EXPECT_EQ(t.s.cwnd, 11u * kTestMss);
  t.s.cc.slow_start_divisor = 0;  // cannot be, and does no harm
  t.ack(5, millis(10));
  EXPECT_EQ(t.s.cwnd, 12u * kTestMss);
}

TEST(Round, ACapBelowTheWindowIsReachedAsBytesAreAcknowledged) {
  Bulk t(false);
  t.s.cc.cwnd_cap = 7500;
  t.ack(1, millis(10));
  EXPECT_EQ(t.s.cwnd, 9u * kTestMss);
  t.ack(2, millis(10));
  EXPECT_EQ(t.s.cwnd, 8u * kTestMss);
  EXPECT_LE(t.s.snd_max - t.s.snd_una, t.s.cwnd);
  t.ack(4, millis(10));
  EXPECT_EQ(t.s.cwnd, 7500u);
  t.ack(5, millis(10));
  EXPECT_EQ(t.s.cwnd, 7500u);
}

// RFC 9406: N_RTT_SAMPLE = 8. The least round-trip time counts.
TEST(Round, EightRoundTripTimesInSlowStartAreReported) {
  Bulk t(true);
  for (int i = 1; i <= 7; ++i) t.ack(i, millis(30 - i));
  EXPECT_EQ(t.events & Outcome::kRtt, 0);
  t.ack(8, millis(28));
  EXPECT_NE(t.events & Outcome::kRtt, 0);
  EXPECT_EQ(t.s.round_samples, 8u);
  EXPECT_EQ(t.s.round_rtt, millis(23));
}

TEST(Round, WithoutAskingOnlyTheTimedSegmentIsMeasured) {
  Bulk t(false);
  for (int i = 1; i <= 9; ++i) t.ack(i, millis(30));
  EXPECT_EQ(t.events & Outcome::kRtt, 0);
  EXPECT_LE(t.s.round_samples, 1u);
}

TEST(Round, AboveTheThresholdNothingIsWatched) {
  Bulk t(true);
  t.s.cc.ssthresh = 5 * kTestMss;
  for (int i = 1; i <= 9; ++i) t.ack(i, millis(30));
  EXPECT_EQ(t.events & Outcome::kRtt, 0);
}

TEST(Round, ItsEndKeepsWhatItMeasured) {
  Bulk t(true);
  for (int i = 1; i <= 9; ++i) t.ack(i, millis(30));
  t.s.round_end = 10 * kTestMss;
  t.events = 0;
  t.ack(10, millis(40));
  EXPECT_NE(t.events & Outcome::kRound, 0);
  EXPECT_EQ(t.s.last_round_samples, 10u);
  EXPECT_EQ(t.s.last_round_rtt, millis(30));
  EXPECT_TRUE(t.s.last_round_limited);
  EXPECT_EQ(t.s.round_samples, 0u);
  const auto sample = flow::sample_of(t.s, t.now, true);
  EXPECT_EQ(sample.round_rtt, millis(30));
  EXPECT_EQ(sample.round_samples, 10u);
  EXPECT_EQ(flow::sample_of(t.s, t.now, false).round_samples, 0u);
}

TEST(Round, ApplicationLimitedOnesAreReportedOnlyOnRequest) {
  for (const bool every : {false, true}) {
    Script t;
    t.s.cc.every_round = every;
    for (int i = 1; i <= 3; ++i) {
      t.write(1000);
      t.pass(millis(5));
      t.recv({.ack = 1000 * i});
    }
    EXPECT_EQ((t.events & Outcome::kRound) != 0, every);
    EXPECT_FALSE(t.s.last_round_limited);
    EXPECT_EQ(t.s.cwnd, 10u * kTestMss);
  }
}

TEST(Round, MarkedBytesAreCounted) {
  for (const bool ecn : {false, true}) {
    Script t;
    t.s.ecn = ecn ? flow::kEcnOn : 0;
    t.write(5000);
    t.recv({.ack = 2000});
    t.recv({.ack = 4000, .flags = wire::kAck | wire::kEce});
    t.recv({.ack = 5000});
    EXPECT_EQ(t.s.ce_acked, ecn ? 2000u : 0u);
  }
}

}  // namespace
}  // namespace toe::datapath
