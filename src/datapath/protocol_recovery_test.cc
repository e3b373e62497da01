// Loss recovery with SACK as a sender: RACK-TLP, PRR, timeouts, undo (docs/design/0003).
#include <gtest/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

using flow::CaState;

// --- What a clean connection costs ---

TEST(Board, ARequestAndItsResponseBorrowNothing) {
  LossScript t;
  for (int i = 1; i <= 5; ++i) {
    t.write(3000);
    t.pass(millis(1));
    t.recv({.ack = 3000 * i});
    EXPECT_EQ(t.pools.boards.in_use(), 0u);
  }
  EXPECT_FALSE(t.s.careful);
}

TEST(Board, DataInSeveralBurstsIsWrittenDownUntilItIsAcknowledged) {
  LossScript t;
  t.write(2000);
  t.pass(millis(2));
  t.write(2000);
  EXPECT_EQ(t.pools.boards.in_use(), 1u);
  t.recv({.ack = 2000});
  EXPECT_FALSE(t.s.careful) << "nobody looks at it";
  t.recv({.ack = 4000});
  EXPECT_EQ(t.pools.boards.in_use(), 0u);
}

TEST(Board, GoesBackWhenTheFlowEnds) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{2000, 3000}}});
  EXPECT_EQ(t.pools.boards.in_use(), 1u);
  t.recv({.flags = wire::kRst});
  EXPECT_EQ(t.pools.boards.in_use(), 0u);
}

TEST(Board, WithoutOneDuplicateAcksCount) {
  LossScript t;
  while (t.pools.boards.take() != 0) {
  }
  t.flight();
  for (std::uint64_t i = 1; i <= 3; ++i) t.recv({.sack = {{1000, 1000 + i * 1000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  EXPECT_EQ(t.s.ca_state, CaState::kRecovery);
  EXPECT_GT(t.counters.no_board.value(), 0u);
  t.recv({.ack = 10'000});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
}

// --- Recovery ---

TEST(SackRecovery, ThreeSackedSegmentsSendTheHoleOnce) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{1000, 2000}}});
  t.recv({.sack = {{1000, 3000}}});
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.recv({.sack = {{1000, 4000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  t.recv({.sack = {{1000, 5000}}});
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_EQ(t.s.ca_state, CaState::kRecovery);
  EXPECT_NE(t.events & Outcome::kLoss, 0);
  EXPECT_EQ(t.counters.sack_recoveries.value(), 1u);
}

TEST(SackRecovery, EveryHoleIsSentInOneRoundTripAndNothingElse) {
  LossScript t;
  t.flight();
  // 0, 2000 and 5000 are lost.
  t.recv({.sack = {{1000, 2000}}});
  t.recv({.sack = {{3000, 4000}, {1000, 2000}}});
  t.recv({.sack = {{3000, 5000}, {1000, 2000}}});
  t.recv({.sack = {{6000, 10'000}, {3000, 5000}, {1000, 2000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0", "A 2000+1000 a0", "A 5000+1000 a0"}));
  t.pass(millis(10));
  t.recv({.ack = 2000, .sack = {{6000, 10'000}, {3000, 5000}}});
  t.recv({.ack = 5000, .sack = {{6000, 10'000}}});
  EXPECT_EQ(t.s.ca_state, CaState::kRecovery);
  t.recv({.ack = 10'000});
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.s.cwnd, t.s.cc.ssthresh);
  EXPECT_FALSE(t.s.careful);
}

TEST(SackRecovery, TheFlightShrinksToTheThresholdOverTheRoundTrip) {
  LossScript t;
  t.write(60'000);
  t.take_sent();
  t.pass(millis(10));
  std::size_t sent = 0;
  for (std::uint64_t i = 2; i <= 10; ++i) {
    t.recv({.sack = {{1000, i * 1000}}});
    sent += t.take_sent().size();
    EXPECT_LE(t.s.snd_max - t.s.snd_una - t.s.discount, t.s.cwnd);
  }
  // Two by limited transmit before the loss was found; 0.7 of the deliveries behind it.
  EXPECT_GE(sent, 7u);
  EXPECT_LE(sent, 9u);
  EXPECT_EQ(t.s.cc.ssthresh, 7001u);
}

TEST(SackRecovery, SackedBytesLetNewOnesOut) {  // RFC 3042
  LossScript t;
  t.write(60'000);
  t.take_sent();
  t.pass(millis(10));
  t.recv({.sack = {{1000, 2000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 10000+1000 a0"}));
  t.recv({.sack = {{1000, 3000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 11000+1000 a0"}));
}

TEST(SackRecovery, ALostRetransmissionIsSentAgainWithoutATimeout) {
  LossScript t;
  t.write(60'000);
  t.take_sent();
  t.pass(millis(10));
  for (std::uint64_t i = 2; i <= 10; ++i) t.recv({.sack = {{1000, i * 1000}}});
  t.take_sent();
  t.pass(millis(10));
  // What left behind the retransmission arrives, the retransmission does not.
  const std::uint64_t end = t.s.snd_max;
  t.recv({.sack = {{1000, end}}});
  const Sent sent = t.take_sent();
  ASSERT_FALSE(sent.empty());
  EXPECT_EQ(sent[0], "A 0+1000 a0");
  EXPECT_EQ(t.counters.sack_recoveries.value(), 1u) << "one reduction";
}

TEST(SackRecovery, TheFinIsSentAgainToo) {
  LossScript t;
  t.write(2000);
  t.shut_write();
  EXPECT_EQ(t.take_sent().back(), "FA 2000+0 a0");
  t.pass(millis(10));
  t.run_to(t.s.probe_at);
  EXPECT_EQ(t.take_sent(), Sent({"FPA 1000+1000 a0"})) << "the last segment and the FIN";
  t.recv({.ack = 2001});
  EXPECT_TRUE(t.s.fin_acked);
  EXPECT_EQ(t.pools.boards.in_use(), 0u);
}

TEST(SackRecovery, NothingIsSentAgainBeyondThePeersWindow) {
  LossScript t;
  t.flight();
  for (std::uint64_t i = 3; i <= 7; ++i) {
    t.recv({.window = 1000, .sack = {{2000, i * 1000}}});
  }
  for (const std::string& sent : t.take_sent()) EXPECT_EQ(sent, "A 0+1000 a0");
}

TEST(SackRecovery, RepeatedAcksWithoutBlocksCountToo) {
  LossScript t;
  t.write(5000);
  t.pass(millis(2));
  t.write(5000);
  t.take_sent();
  for (int i = 0; i < 3; ++i) t.recv({});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
}

TEST(SackRecovery, ImpossibleBlocksAreCountedAndIgnored) {
  LossScript t;
  t.flight();
  for (int i = 0; i < 2; ++i) {
    t.recv({.sack = {{10'000, 11'000}, {5000, 4000}, {UINT32_MAX - 5, UINT32_MAX}}});
  }
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_GE(t.counters.bad_sacks.value(), 4u);
  EXPECT_EQ(t.s.discount, 0u);
}

TEST(SackRecovery, BlocksOfAnOldAckAreTaken) {
  LossScript t;
  t.flight();
  t.recv({.ack = 1000, .sack = {{2000, 3000}}});
  t.recv({.ack = 0, .sack = {{4000, 6000}, {2000, 3000}}});
  EXPECT_EQ(t.s.discount, 3000u);
}

// --- RACK's reordering ---

TEST(RackTimer, OneLateSegmentIsWaitedFor) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{1000, 2000}}});
  EXPECT_EQ(t.s.probe_at, t.now + millis(10) / 4);
  EXPECT_TRUE(t.s.reorder_wait);
  t.recv({.ack = 2000});
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_FALSE(t.s.reorder_wait);
  EXPECT_EQ(t.counters.reorderings.value(), 1u);
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
}

TEST(RackTimer, WhatDoesNotComeIsSentAgainWhenItEnds) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{1000, 2000}}});
  t.run_to(t.s.probe_at);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  EXPECT_EQ(t.counters.reorder_waits.value(), 1u);
}

TEST(RackTimer, AfterReorderingThreeSackedSegmentsProveNothing) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{1000, 2000}}});
  t.recv({.ack = 2000});
  for (std::uint64_t i = 4; i <= 8; ++i) t.recv({.sack = {{3000, i * 1000}}});
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  t.recv({.ack = 8000});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen) << "no reduction";
}

// --- Tail loss probe: RFC 8985 section 7 ---

TEST(Probe, TheLastSegmentIsSentOnceMoreAfterTwoRoundTrips) {
  LossScript t;
  t.write(3000);
  t.take_sent();
  EXPECT_EQ(t.s.probe_at, t.now + millis(22));
  t.run_to(t.s.probe_at);
  EXPECT_EQ(t.take_sent(), Sent({"PA 2000+1000 a0"}));
  EXPECT_EQ(t.s.rto_at, t.now + t.s.rto) << "the timeout begins anew";
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  t.pass(t.s.rto - millis(1));
  EXPECT_EQ(t.take_sent(), Sent({})) << "one probe per flight";
}

TEST(Probe, NewDataServesAsWell) {
  LossScript t;
  t.s.cwnd = 2000;
  t.write(5000);
  EXPECT_EQ(t.take_sent().size(), 2u);
  t.run_to(t.s.probe_at);
  EXPECT_EQ(t.take_sent(), Sent({"A 2000+1000 a0"}));
}

TEST(Probe, ASingleSegmentWaitsForThePeersDelayedAck) {
  LossScript t;
  t.s.rto = millis(400);
  t.write(500);
  EXPECT_EQ(t.s.probe_at, t.now + millis(220));
  LossScript early;
  early.write(500);
  EXPECT_EQ(early.s.probe_at, early.s.rto_at) << "never behind the timeout";
}

TEST(Probe, TwoShortSegmentsAreNotASingleOne) {
  LossScript t;
  t.write(24);
  t.shut_write();
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+24 a0", "FA 24+0 a0"}));
  EXPECT_EQ(t.s.probe_at, t.now + millis(22));
  t.run_to(t.s.probe_at);
  EXPECT_EQ(t.take_sent(), Sent({"FPA 0+24 a0"}));
}

TEST(Probe, ALostTailIsFoundByTheAnswer) {
  LossScript t;
  t.write(10'000);
  t.take_sent();
  t.pass(millis(10));
  t.recv({.ack = 5000});  // 5000 to 9000 are lost
  t.run_to(t.s.probe_at);
  EXPECT_EQ(t.take_sent(), Sent({"PA 9000+1000 a0"}));
  t.pass(millis(10));
  t.recv({.ack = 5000, .sack = {{9000, 10'000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 5000+1000 a0"})) << "one for one while losses come to light";
  EXPECT_EQ(t.s.ca_state, CaState::kRecovery);
  t.recv({.ack = 6000, .sack = {{9000, 10'000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 6000+1000 a0", "A 7000+1000 a0"})) << "then one more";
}

TEST(Probe, ThatFillsAHoleCostsAReduction) {
  LossScript t;
  t.write(3000);
  t.run_to(t.s.probe_at);
  t.pass(millis(10));
  t.recv({.ack = 3000});
  EXPECT_EQ(t.counters.probe_repairs.value(), 0u) << "perhaps the original was late";
  t.write(1000);
  t.recv({.ack = 4000});
  EXPECT_EQ(t.counters.probe_repairs.value(), 1u);
  EXPECT_NE(t.events & Outcome::kLoss, 0);
  EXPECT_EQ(t.s.cwnd, 7001u);
}

TEST(Probe, ThatWasReportedAsADuplicateCostsNothing) {
  LossScript t;
  t.write(3000);
  t.run_to(t.s.probe_at);
  t.recv({.ack = 3000});
  t.recv({.ack = 3000, .sack = {{2000, 3000}}});
  t.write(1000);
  t.recv({.ack = 4000});
  EXPECT_EQ(t.counters.probe_repairs.value(), 0u);
  EXPECT_EQ(t.s.loss.rack.window_steps, 1) << "a probe's duplicate says nothing of reordering";
}

TEST(Probe, ItsAnswerIsNoMeasurement) {
  LossScript t;
  t.write(3000);
  t.run_to(t.s.probe_at);
  const Nanos before = t.s.srtt;
  t.pass(millis(10));
  t.recv({.ack = 3000});
  EXPECT_EQ(t.s.srtt, before);
}

TEST(Probe, WithoutSackThereIsNone) {
  Script t;
  t.write(3000);
  EXPECT_EQ(t.s.probe_at, Time::never());
}

// --- Timeouts ---

TEST(SackRto, SendsTheFirstSegmentAndKeepsWhatWasSacked) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{5000, 6000}}});
  t.s.probe_at = Time::never();  // neither reordering timer nor probe helps
  t.s.reorder_wait = false;
  t.run_to(t.s.rto_at);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  EXPECT_EQ(t.s.ca_state, CaState::kLoss);
  EXPECT_EQ(t.s.snd_nxt, 10'000u);
  t.pass(millis(10));
  t.recv({.ack = 1000, .sack = {{5000, 6000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 1000+1000 a0", "A 2000+1000 a0"}));
  t.pass(millis(10));
  t.recv({.ack = 3000, .sack = {{5000, 6000}}});
  EXPECT_EQ(t.take_sent(),
            Sent({"A 3000+1000 a0", "A 4000+1000 a0", "A 6000+1000 a0", "A 7000+1000 a0"}));
}

TEST(SackRto, APeerThatTakesSacksBackIsSentEverything) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{0, 1000}}});  // a peer that has the first bytes would acknowledge them
  t.recv({.sack = {{0, 1000}, {2000, 3000}}});
  t.s.probe_at = Time::never();
  t.s.reorder_wait = false;
  t.run_to(t.s.rto_at);
  EXPECT_EQ(t.take_sent().at(0), "A 0+1000 a0");
}

TEST(SackRto, GivesUpWhenLinuxDoes) {
  LossScript t;
  t.write(1000);
  const Time begun = t.now;
  while (!t.closed && t.now < begun + seconds(2000)) t.pass(millis(500));
  EXPECT_EQ(t.closed, flow::Event::Close::kTimedOut);
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(ETIMEDOUT));
  EXPECT_GT(t.now - begun, seconds(924));
  EXPECT_LT(t.now - begun, seconds(924 + 121));
  EXPECT_EQ(t.pools.boards.in_use(), 0u);
}

TEST(SackRto, AnOrphanGivesUpEarlier) {
  LossScript t;
  t.write(1000);
  t.orphan(false);
  const Time begun = t.now;
  while (!t.closed && t.now < begun + seconds(2000)) t.pass(millis(500));
  EXPECT_GT(t.now - begun, seconds(102));
  EXPECT_LT(t.now - begun, seconds(210));
}

// --- Undo ---

TEST(Undo, AnEchoFromBeforeTheTimeoutTakesItBack) {  // RFC 4015
  LossScript t;
  t.s.ts_on = true;
  t.write(10'000);
  t.take_sent();
  const std::uint32_t before = t.stamp();
  t.s.probe_at = Time::never();
  t.run_to(t.s.rto_at);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  t.pass(millis(1));
  t.recv({.ack = 1000, .tsecr = before});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.s.cwnd, 10'000u);
  EXPECT_EQ(t.s.cc.ssthresh, 0xffffffffu);
  EXPECT_NE(t.events & Outcome::kUndo, 0);
  EXPECT_EQ(t.take_sent(), Sent({})) << "nothing else is sent again";
}

TEST(Undo, AnEchoOfTheRetransmissionDoesNot) {
  LossScript t;
  t.s.ts_on = true;
  t.write(10'000);
  t.s.probe_at = Time::never();
  t.run_to(t.s.rto_at);
  const std::uint32_t stamp = t.stamp();
  t.pass(millis(10));
  t.recv({.ack = 1000, .tsecr = stamp});
  EXPECT_EQ(t.s.ca_state, CaState::kLoss);
  EXPECT_EQ(t.counters.undone_by_time.value(), 0u);
}

TEST(Undo, WorksWithoutSackToo) {
  Script t;
  t.s.ts_on = true;
  t.write(10'000);
  const auto before = static_cast<std::uint32_t>(t.now.ns / 1'000'000);
  t.run_to(t.s.rto_at);
  t.take_sent();
  t.recv({.ack = 1000, .tsecr = before});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.s.snd_nxt, 10'000u) << "no rewind any more";
  EXPECT_EQ(t.take_sent(), Sent({}));
}

TEST(Undo, DuplicatesOfAllThatWasSentAgainTakeTheReductionBack) {  // RFC 3708
  LossScript t;
  t.flight();
  for (std::uint64_t i = 2; i <= 4; ++i) t.recv({.sack = {{1000, i * 1000}}});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  EXPECT_EQ(t.s.cc.ssthresh, 7001u);
  t.recv({.ack = 10'000});
  EXPECT_EQ(t.s.cwnd, 7001u);
  t.recv({.ack = 10'000, .sack = {{0, 1000}}});
  EXPECT_EQ(t.s.cwnd, 10'000u);
  EXPECT_EQ(t.counters.undone_by_dsack.value(), 1u);
  EXPECT_EQ(t.s.loss.rack.window_steps, 2) << "and reordering may take longer from now on";
}

// RFC 8985 section 6.2 step 3 sees reordering only where bytes left once. Here all that is
// overtaken is sent again at once, and would be for ever.
TEST(Undo, OfARecoveryShowsReordering) {
  LossScript t;
  t.flight();
  for (std::uint64_t i = 2; i <= 4; ++i) t.recv({.sack = {{1000, i * 1000}}});
  t.recv({.ack = 10'000});
  t.recv({.ack = 10'000, .sack = {{0, 1000}}});
  EXPECT_TRUE(t.s.loss.rack.reordering);
  EXPECT_EQ(t.counters.reorderings.value(), 1u);
  t.write(10'000);
  t.take_sent();
  t.pass(millis(10));
  for (std::uint64_t i = 12; i <= 16; ++i) t.recv({.sack = {{11'000, i * 1000}}});
  EXPECT_EQ(t.take_sent(), Sent({})) << "waits for what may only be late";
}

TEST(Undo, OfATimeoutDoesNot) {
  LossScript t;
  t.s.ts_on = true;
  t.write(10'000);
  const std::uint32_t before = t.stamp();
  t.s.probe_at = Time::never();
  t.run_to(t.s.rto_at);
  t.recv({.ack = 1000, .tsecr = before});
  EXPECT_EQ(t.counters.undone_by_time.value(), 1u);
  EXPECT_FALSE(t.s.loss.rack.reordering);
}

// Control's parameters tell which reductions it knew of (Pipeline::set_congestion).
TEST(Undo, IsCountedAsTheReductionWas) {
  LossScript t;
  t.flight();
  for (std::uint64_t i = 2; i <= 4; ++i) t.recv({.sack = {{1000, i * 1000}}});
  EXPECT_EQ(t.s.reductions, 1);
  t.recv({.ack = 10'000});
  t.recv({.ack = 10'000, .sack = {{0, 1000}}});
  EXPECT_EQ(t.s.reductions, 2);
}

// Bytes of a run carry the instant of its last byte: what is measured on them may be too short.
TEST(SackRecovery, NoRoundTripIsShorterThanTheLeast) {
  LossScript t;
  t.write(5000);
  t.pass(millis(8));  // an eighth of a millisecond apart would be one burst; this is the next
  t.write(5000);
  t.pass(millis(2));
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t end = 6000 + static_cast<std::uint64_t>(i) * 100;
    t.recv({.sack = {{5000, std::min<std::uint64_t>(end, 10'000)}}});
  }
  EXPECT_GE(t.s.srtt, t.s.min_rtt);
}

TEST(Undo, TheNetworksDuplicatesDoNot) {
  LossScript t;
  t.flight();
  for (std::uint64_t i = 2; i <= 4; ++i) t.recv({.sack = {{1000, i * 1000}}});
  t.recv({.ack = 10'000});
  t.recv({.ack = 10'000, .sack = {{5000, 6000}}});
  EXPECT_EQ(t.s.cwnd, 7001u);
}

TEST(Undo, OneOfTwoRetransmissionsIsNotEnough) {
  LossScript t;
  t.flight();
  t.recv({.sack = {{1000, 2000}}});
  t.recv({.sack = {{3000, 5000}, {1000, 2000}}});
  t.recv({.sack = {{3000, 6000}, {1000, 2000}}});
  EXPECT_EQ(t.take_sent().size(), 2u);
  t.recv({.ack = 10'000});
  t.recv({.ack = 10'000, .sack = {{0, 1000}}});
  EXPECT_EQ(t.counters.undone_by_dsack.value(), 0u);
  t.recv({.ack = 10'000, .sack = {{2000, 3000}}});
  EXPECT_EQ(t.counters.undone_by_dsack.value(), 1u);
}

}  // namespace
}  // namespace toe::datapath
