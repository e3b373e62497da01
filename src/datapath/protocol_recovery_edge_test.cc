// Loss recovery with SACK where two rules meet: the FIN and cwnd, disorder and growth, D-SACKs and
// duplicates, timers within a recovery (docs/design/0003).
#include <gtest/gtest.h>

#include "datapath/protocol_detail.h"
#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

using flow::CaState;

TEST(SackEdge, AWholeSegmentWithTheFinFitsACwndOfOneSegment) {
  LossScript t;
  t.hold_back = true;
  t.write(kTestMss);
  t.hold_back = false;
  t.shut_write();
  EXPECT_EQ(t.take_sent(), Sent({"FPA 0+1000 a0"}));
  t.run_to(t.s.probe_at);
  EXPECT_EQ(t.take_sent(), Sent({"FPA 0+1000 a0"})) << "the tail probe";
  t.pass(millis(300));
  EXPECT_EQ(t.take_sent(), Sent({"FPA 0+1000 a0"})) << "the timeout";
}

TEST(SackEdge, DisorderWithoutLossLetsCwndGrow) {  // RFC 5681 section 3.1
  LossScript t;
  t.write(60'000);
  t.pass(millis(10));
  t.s.loss.rack.reordering = true;
  t.recv({.sack = {{1000, 2000}}});
  EXPECT_TRUE(t.s.cwnd_limited);
  const std::uint32_t before = t.s.cwnd;
  t.recv({.ack = 2000});
  t.recv({.sack = {{3000, 4000}}});
  t.recv({.ack = 4000, .sack = {{5000, 6000}}});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.s.cwnd, before + 4 * kTestMss);
}

TEST(SackEdge, DuplicateReportsAreNoDuplicateAcks) {  // RFC 6675 section 2
  LossScript t;
  t.write(10'000);
  t.pass(millis(10));
  t.recv({.ack = 10'000});
  t.write(5000);
  t.take_sent();
  for (std::uint64_t i = 0; i < 5; ++i) t.recv({.sack = {{i * 1000, i * 1000 + 1000}}});
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.counters.dsacks_in.value(), 5u);
}

TEST(SackEdge, DuplicateReportsWithoutAScoreboardAreNone) {
  LossScript t;
  while (t.pools.boards.take() != 0) {
  }
  t.write(10'000);
  t.pass(millis(10));
  t.recv({.ack = 10'000});
  t.write(5000);
  t.take_sent();
  for (std::uint64_t i = 0; i < 5; ++i) t.recv({.sack = {{i * 1000, i * 1000 + 1000}}});
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
}

// Scoreboards are lent: a peer that says nothing must not keep the last one from others.
TEST(SackEdge, AScoreboardIsGivenBackToWhoSaysNothing) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{1000, 2000}}});
  EXPECT_EQ(t.pools.boards.in_use(), 1u);
  for (std::uint32_t timeout = 1; timeout <= kBoardTimeouts; ++timeout) {
    while (t.s.backoff < timeout) t.run_to(t.armed);
    EXPECT_EQ(t.pools.boards.in_use(), 1u) << timeout;
  }
  t.take_sent();
  while (t.s.backoff == kBoardTimeouts) t.run_to(t.armed);
  EXPECT_EQ(t.pools.boards.in_use(), 0u);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  t.recv({.ack = 2000});  // and goes on without it
  EXPECT_EQ(t.take_sent(), Sent({"A 2000+1000 a0", "A 3000+1000 a0", "A 4000+1000 a0"}));
  t.recv({.ack = 10'000});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
}

TEST(SackEdge, AnOvertakenAckReportsNoDuplicates) {  // RFC 2883 section 4: by its own ACK field
  LossScript t;
  t.flight();
  t.recv({.ack = 3000});
  t.recv({.ack = 1000, .sack = {{2000, 3000}}});
  EXPECT_EQ(t.counters.dsacks_in.value(), 0u);
  EXPECT_EQ(t.counters.bad_sacks.value(), 0u);
  t.recv({.ack = 1000, .sack = {{0, 1000}, {2000, 3000}}});
  EXPECT_EQ(t.counters.dsacks_in.value(), 1u);
}

TEST(SackEdge, WhatTheReorderingTimerFindsMayLeaveWithinCwnd) {  // RFC 9937 section 6
  LossScript t;
  t.s.loss.rack.reordering = true;
  t.flight();
  t.recv({.sack = {{8000, 10'000}}});
  t.pass(millis(3));  // 0 to 8000 are lost: the first leaves
  t.take_sent();
  ASSERT_EQ(t.s.ca_state, CaState::kRecovery);
  t.pass(millis(10));
  t.recv({.ack = 1000, .sack = {{8000, 10'000}}});
  t.recv({.ack = 2000, .sack = {{8000, 10'000}}});
  EXPECT_EQ(t.take_sent().size(), 4u);
  t.pass(millis(10));
  t.recv({.sack = {{4000, 5000}, {8000, 10'000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 5000+1000 a0"}));
  t.pass(millis(3));  // 2000 and 3000 are lost again
  EXPECT_EQ(t.take_sent(), Sent({"A 2000+1000 a0", "A 3000+1000 a0"}));
}

TEST(SackEdge, WithoutAScoreboardThereIsNoTimeoutInThePlaceOfTheProbe) {
  LossScript t;
  while (t.pools.boards.take() != 0) {
  }
  t.write(5000);
  t.take_sent();
  t.pass(millis(200));
  EXPECT_EQ(t.take_sent(), Sent({})) << "RFC 6298: not before 210 ms";
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  t.pass(millis(30));
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
}

TEST(SackEdge, ALargeSegmentLostTwiceAmongSmallOnesNeedsNoTimeout) {
  LossScript t;
  t.set_flags(shm::kNoDelay);
  t.write(1000);
  for (int i = 0; i < 4; ++i) t.write(10);
  t.take_sent();
  t.pass(millis(10));
  for (std::uint64_t i = 1; i <= 3; ++i) t.recv({.sack = {{1000, 1000 + i * 10}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  t.pass(millis(1));
  t.write(10);
  t.recv({.sack = {{1000, 1040}}});
  EXPECT_EQ(t.take_sent(), Sent({"PA 1040+10 a0"}));
  t.pass(millis(10));
  t.recv({.sack = {{1000, 1050}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  EXPECT_EQ(t.events & Outcome::kTimeout, 0);
}

// Half a window is lost and sent again; the acknowledgement of all of it finds nothing in flight.
TEST(SackEdge, ARecoveryEndsWithoutABurst) {  // RFC 6582 section 3.2 step 3
  LossScript t;
  t.s.cwnd = 50'000;
  t.write(300'000);
  ASSERT_EQ(t.take_sent().size(), 50u);
  t.pass(millis(10));
  t.recv({.sack = {{20'000, 50'000}}});
  t.take_sent();
  ASSERT_EQ(t.s.ca_state, CaState::kRecovery);
  ASSERT_GT(t.s.cc.ssthresh, 30'000u);
  t.pass(millis(10));
  t.recv({.ack = t.s.snd_max});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.take_sent().size(), 10u);
  t.pass(millis(10));
  t.recv({.ack = t.s.snd_max});
  EXPECT_EQ(t.take_sent().size(), 20u) << "slow start, up to the threshold";
}

// The wait for late segments was set under a longer timeout: a round trip has been measured since.
TEST(SackEdge, TheReorderingTimerIsNeverBehindTheTimeout) {
  LossScript t;
  t.flight();
  t.s.loss.rack.reordering = true;
  t.s.loss.rack.window_steps = 200;  // half a second
  t.s.srtt = seconds(1);
  t.s.timed_rtt = false;
  t.s.rto = millis(210);
  t.s.rto_at = t.now + seconds(10);
  t.recv({.ack = 1000, .sack = {{2000, 3000}}});
  EXPECT_TRUE(t.s.reorder_wait);
  EXPECT_EQ(t.s.rto_at, t.now + millis(210));
  EXPECT_LE(t.s.probe_at, t.s.rto_at);
}

/// Segments have left and, behind a timeout, the first one again; a round trip has passed.
struct TimedOut : LossScript {
  explicit TimedOut(std::uint32_t bytes = 1000) {
    s.ts_on = true;
    s.srtt = millis(10);
    s.rttvar = millis(1);
    s.rto = millis(210);
    write(bytes);
    first = stamp();
    s.probe_at = Time::never();
    run_to(s.rto_at);
    second = stamp();
    pass(millis(10));
  }
  std::uint32_t first = 0;   ///< timestamp of the first copy
  std::uint32_t second = 0;  ///< and of the repetition
};

// The peer had everything, its ACK was lost: its answer to the repetition echoes the first copy.
TEST(SackEdge, AnEchoFromBeforeTheTimeoutIsNoRoundTrip) {
  TimedOut t;
  ASSERT_EQ(t.s.backoff, 1);
  t.recv({.ack = 1000, .tsecr = t.first});
  EXPECT_EQ(t.s.srtt, millis(10));
  EXPECT_EQ(t.s.rto, millis(420)) << "until a round trip is measured";
}

// What is sent again behind that answer is not timed, but its echo tells.
TEST(SackEdge, TheFirstEchoFromBehindTheTimeoutEndsTheDoubledOne) {
  TimedOut t(2000);
  t.recv({.ack = 1000, .tsecr = t.first});
  ASSERT_EQ(t.s.rto, millis(420));
  const std::uint32_t again = t.stamp();
  t.pass(millis(10));
  t.recv({.ack = 2000, .tsecr = again});
  EXPECT_EQ(t.s.srtt, millis(10));
  EXPECT_LE(t.s.rto, millis(210));
}

TEST(SackEdge, AnEchoOfTheRepetitionIs) {
  TimedOut t;
  t.recv({.ack = 1000, .tsecr = t.second});
  EXPECT_EQ(t.s.srtt, millis(10));
  EXPECT_LE(t.s.rto, millis(210));
}

}  // namespace
}  // namespace toe::datapath
