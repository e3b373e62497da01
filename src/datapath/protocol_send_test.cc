// Sending: windows, Nagle, cork, loss recovery, round-trip time.
#include <gtest/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

using flow::CaState;

std::size_t segments(Script& t) { return t.take_sent().size(); }

// --- What may leave ---

TEST(Send, AWriteLeavesInFullSegmentsWithPushOnTheLast) {
  Script t;
  t.write(2500);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0", "A 1000+1000 a0", "PA 2000+500 a0"}));
}

TEST(Send, TheCongestionWindowBoundsIt) {
  Script t;
  t.s.cwnd = 3 * kTestMss;
  t.write(9000);
  EXPECT_EQ(segments(t), 3u);
  t.recv({.ack = 1000});
  EXPECT_EQ(segments(t), 2u) << "slow start: one for the ACK, one for growth";
}

TEST(Send, ThePeersWindowBoundsIt) {
  Script t;
  t.recv({.window = 2000});
  t.write(9000);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0", "A 1000+1000 a0"}));
}

TEST(Send, ScaledWindowsCount) {
  Script t;
  t.s.snd_wscale = 4;
  t.recv({.window = 32 * 16});
  EXPECT_EQ(t.s.snd_wnd, 512u);
}

TEST(Send, PushMarksTheEndOfAWholeWrite) {
  Script t;
  t.hold_back = true;
  t.write(1000, shm::kPush);
  t.write(1000);
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+1000 a0", "PA 1000+1000 a0"}));
}

TEST(Send, PositionsCrossTheWrapOfSequenceNumbers) {
  Script t;
  const std::uint64_t wrap = (1ull << 32) - 500;
  t.s.snd_una = t.s.snd_nxt = t.s.snd_max = t.s.snd_end = t.s.snd_switch = t.s.snd_wl2 = wrap;
  t.write(2000);
  EXPECT_EQ(t.take_sent(), Sent({"A 4294966796+1000 a0", "PA 4294967796+1000 a0"}));
  t.recv({.ack = static_cast<std::int64_t>(wrap) + 2000});
  EXPECT_EQ(t.s.snd_una, wrap + 2000);
}

// --- Nagle (Minshall), cork, silly windows ---

TEST(Nagle, AShortSegmentWaitsWhileAnotherShortOneIsUnacknowledged) {
  Script t;
  t.write(10);
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+10 a0"}));
  t.write(10);
  t.write(10);
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.recv({.ack = 10});
  EXPECT_EQ(t.take_sent(), Sent({"PA 10+20 a0"}));
}

TEST(Nagle, ATailBehindFullSegmentsLeavesAtOnce) {
  Script t;
  t.write(1010);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0", "PA 1000+10 a0"}));
}

TEST(Nagle, NoDelaySendsAtOnce) {
  Script t;
  t.set_flags(shm::kNoDelay);
  for (int i = 0; i < 3; ++i) t.write(10);
  EXPECT_EQ(segments(t), 3u);
}

TEST(Cork, HoldsTheLastPartialSegmentUntilRemoved) {
  Script t;
  t.set_flags(shm::kCork);
  t.write(1300);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  t.set_flags(0);
  EXPECT_EQ(t.take_sent(), Sent({"PA 1000+300 a0"}));
}

TEST(Cork, HoldsNothingLongerThan200Ms) {
  Script t;
  t.set_flags(shm::kCork);
  t.write(300);
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.pass(millis(199));
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.pass(millis(1));
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+300 a0"}));
}

TEST(Cork, FinFreesTheTail) {
  Script t;
  t.set_flags(shm::kCork);
  t.write(300);
  t.set_flags(shm::kCork | shm::kShutWrite);
  EXPECT_EQ(t.take_sent(), Sent({"FPA 0+300 a0"}));
}

TEST(SillyWindow, APartOfTheDataWaitsForALargerWindow) {
  Script t;
  t.write(1000);
  t.recv({.window = 1100});
  t.take_sent();
  t.write(1000);
  EXPECT_EQ(t.take_sent(), Sent({})) << "100 bytes of window, 1,000 to send, some in flight";
  t.recv({.ack = 1000, .window = 1100});
  EXPECT_EQ(t.take_sent(), Sent({"PA 1000+1000 a0"}));
}

TEST(SillyWindow, APartWaitsAlsoWhenNothingIsInFlight) {
  Script t;
  t.recv({.window = 300});
  t.write(1000);
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.run_to(t.s.persist_at);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+300 a0"})) << "the override timeout";
}

// --- Acknowledgements ---

TEST(Ack, FreesTheRingAndTellsTheApplication) {
  Script t;
  t.write(1000);
  t.recv({.ack = 400});
  EXPECT_TRUE(t.last.publish);
  EXPECT_TRUE(t.last.hint_tx);
  EXPECT_EQ(t.last.tx_una, 400u);
}

TEST(Ack, HintsTheWriterOnlyWhenAThirdOfTheRingIsFree) {
  Script t;
  t.write(16384);
  t.recv({.ack = 1000});
  EXPECT_FALSE(t.last.hint_tx);
  t.recv({.ack = 6000});
  EXPECT_TRUE(t.last.hint_tx);
}

TEST(Ack, OldAcksChangeNothing) {
  Script t;
  t.write(2000);
  t.recv({.ack = 2000});
  t.recv({.ack = 1000, .window = 7});
  EXPECT_EQ(t.s.snd_una, 2000u);
  EXPECT_EQ(t.s.snd_wnd, 60000u);
}

TEST(Ack, WindowOfAnOlderSegmentIsNotTaken) {
  Script t;
  t.recv({.window = 5000, .length = 100});
  t.recv({.seq = 100, .window = 6000});
  t.recv({.seq = 50, .window = 1});
  EXPECT_EQ(t.s.snd_wnd, 6000u);
}

TEST(Ack, APureAckBehindAGapBringsItsWindow) {
  Script t;
  t.recv({.window = 5000, .length = 100});
  t.recv({.seq = 500, .window = 7000});  // what lies between has been lost
  EXPECT_EQ(t.s.snd_wnd, 7000u);
}

TEST(Ack, AnAdvancingAckBringsItsWindowEvenOnARetransmittedSegment) {
  Script t;
  t.recv({.length = 100});
  t.write(2000);
  t.take_sent();
  // The peer repeats its 100 bytes: the sequence is old, acknowledgement and window are new. With
  // the old window the right edge would move by what was acknowledged.
  t.recv({.seq = 0, .ack = 2000, .window = 0, .length = 100});
  EXPECT_EQ(t.s.snd_wnd, 0u);
}

TEST(Ack, DataSentBeforeARewindMayStillBeAcknowledged) {
  Script t;
  t.write(5000);
  t.take_sent();
  t.run_to(t.s.rto_at);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  t.recv({.ack = 5000});
  EXPECT_EQ(t.s.snd_nxt, 5000u);
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_EQ(t.s.rto_at, Time::never());
}

// --- Loss ---

TEST(FastRetransmit, TheThirdDuplicateAckSendsTheMissingSegmentOnce) {
  Script t;
  t.write(5000);
  t.take_sent();
  t.recv({});
  t.recv({});
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.recv({});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  t.recv({});
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_NE(t.events & Outcome::kLoss, 0);
  EXPECT_EQ(t.s.ca_state, CaState::kRecovery);
}

TEST(FastRetransmit, EarlyDuplicatesLetNewSegmentsOut) {
  Script t;
  t.s.cwnd = 3 * kTestMss;
  t.write(9000);
  t.take_sent();
  t.recv({});
  EXPECT_EQ(t.take_sent(), Sent({"A 3000+1000 a0"})) << "RFC 3042";
  t.recv({});
  EXPECT_EQ(t.take_sent(), Sent({"A 4000+1000 a0"}));
}

TEST(FastRetransmit, ThreeWindowUpdatesAreNoLoss) {
  Script t;
  t.write(5000);
  t.take_sent();
  for (std::uint32_t w = 50000; w < 50005; ++w) t.recv({.window = w});
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
}

TEST(FastRetransmit, AcksOnDataSegmentsAreNoDuplicates) {
  Script t;
  t.write(5000);
  t.take_sent();
  for (int i = 0; i < 4; ++i) t.recv({.length = 10});
  EXPECT_EQ(t.s.dup_acks, 0);
}

TEST(FastRetransmit, DuplicatesWithNothingOutstandingAreNone) {
  Script t;
  for (int i = 0; i < 4; ++i) t.recv({});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.counters.duplicate_acks.value(), 0u);
}

TEST(NewReno, APartialAckSendsTheNextHole) {
  Script t;
  t.write(6000);
  t.take_sent();
  for (int i = 0; i < 3; ++i) t.recv({});
  t.take_sent();
  t.recv({.ack = 3000});
  EXPECT_EQ(t.take_sent(), Sent({"A 3000+1000 a0"}));
  EXPECT_EQ(t.s.ca_state, CaState::kRecovery);
}

TEST(NewReno, AFullAckEndsTheRecoveryAtTheThreshold) {
  Script t;
  t.write(10000);
  t.take_sent();
  for (int i = 0; i < 3; ++i) t.recv({});
  t.recv({.ack = 10000});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_LE(t.s.cwnd, t.s.cc.ssthresh);
  EXPECT_EQ(t.s.cc.ssthresh, 7001u);
}

TEST(NewReno, TheHoleEndsWhereSendingEnded) {
  Script t;
  t.s.max_snd_wnd = 500;
  t.recv({.window = 500});
  t.write(3000);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+500 a0"}));
  for (int i = 0; i < 3; ++i) t.recv({});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+500 a0"})) << "no new bytes, and none beyond the window";
}

TEST(NewReno, NeitherPeersWindowNorItsEdgeGrowsOnARewind) {
  Script t;
  t.recv({.window = 5000});
  t.write(9000);
  t.take_sent();
  t.run_to(t.s.rto_at);
  EXPECT_EQ(t.s.snd_wnd, 5000u);
  t.recv({.ack = 1000, .window = 4000});
  t.recv({.ack = 2000, .window = 3000});
  t.recv({.ack = 3000, .window = 2000});
  for (const auto& sent : t.take_sent()) EXPECT_LT(sent, "A 5000") << "beyond the window";
}

TEST(Rto, BacksOffAndSendsOneSegmentEachTime) {
  Script t;
  t.write(3000);
  t.take_sent();
  Nanos gap = t.s.rto_at - t.now;
  EXPECT_EQ(gap, millis(210));
  for (int i = 0; i < 4; ++i) {
    t.run_to(t.s.rto_at);
    EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
    EXPECT_EQ(t.s.rto_at - t.now, gap * 2);
    gap = gap * 2;
  }
  EXPECT_NE(t.events & Outcome::kTimeout, 0);
}

TEST(Rto, AcksLeaveFromTheRightEdgeAlsoAfterARewind) {
  Script t;
  t.write(3000);
  t.run_to(t.s.rto_at);
  t.take_sent();
  t.hold_back = true;
  t.recv({.length = 100});
  t.recv({.seq = 0, .length = 100});
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 3000+0 a100"})) << "the peer has passed 1000 perhaps";
}

TEST(Rto, GivesUpAfterFifteenRetries) {
  Script t;
  t.write(1000);
  while (!t.closed && t.now < Time{seconds(10000).ns}) t.pass(seconds(10));
  EXPECT_EQ(t.closed, flow::Event::Close::kTimedOut);
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(ETIMEDOUT));
  EXPECT_EQ(segments(t), 16u);
  const Nanos lasted = t.now - Time{seconds(1000).ns};
  EXPECT_GT(lasted, seconds(900));
  EXPECT_LT(lasted, seconds(1100));
}

TEST(Rto, UserTimeoutGivesUpEarlier) {
  Script t;
  AppUpdate u = t.same();
  u.options_changed = true;
  u.user_timeout_ms = 3000;
  t.app(u);
  t.write(1000);
  t.pass(seconds(5));
  EXPECT_EQ(t.closed, flow::Event::Close::kTimedOut);
}

TEST(Rto, ProgressEndsTheBackoff) {
  Script t;
  t.write(3000);
  t.run_to(t.s.rto_at);
  t.run_to(t.s.rto_at);
  t.take_sent();
  t.recv({.ack = 1000});
  EXPECT_EQ(t.take_sent(), Sent({"A 1000+1000 a0", "PA 2000+1000 a0"}));
  EXPECT_EQ(t.s.backoff, 0);
  EXPECT_NE(t.events & Outcome::kProgress, 0);
}

TEST(Rto, StaysBackedOffUntilARoundTripIsMeasured) {
  Script t;
  t.write(1000);
  t.run_to(t.s.rto_at);
  t.run_to(t.s.rto_at);
  const Nanos backed_off = t.s.rto;
  t.recv({.ack = 1000});
  EXPECT_EQ(t.s.rto, backed_off) << "either copy may have been answered";
  t.write(1000);
  t.recv({.ack = 2000});
  EXPECT_LT(t.s.rto, millis(300));
}

TEST(Rto, NewDataFollowsTheRepairedWindow) {
  Script t;
  t.write(3000);
  t.run_to(t.s.rto_at);
  t.take_sent();
  t.recv({.ack = 3000});
  t.write(1000);
  EXPECT_EQ(t.take_sent(), Sent({"PA 3000+1000 a0"}));
}

TEST(Rto, AnAckedFlowHasNoTimer) {
  Script t;
  t.write(1000);
  t.recv({.ack = 1000});
  EXPECT_EQ(t.s.rto_at, Time::never());
  t.take_sent();
  t.pass(seconds(10));
  EXPECT_EQ(t.take_sent(), Sent({}));
}

TEST(Rtt, IsTakenFromTheTimedSegment) {
  Script t;
  t.s.srtt = {};
  t.write(1000);
  t.pass(millis(80));
  t.recv({.ack = 1000});
  EXPECT_EQ(t.s.srtt, millis(80));
  EXPECT_EQ(t.s.rto, millis(80) + millis(200)) << "the variance term is never below 200 ms";
}

TEST(SillyWindow, WhatWasSentLeavesAgainHoweverShort) {
  Script t;
  t.recv({.window = 456});
  t.write(3000);
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.run_to(t.s.persist_at);  // waited long enough: what fits leaves
  EXPECT_EQ(t.take_sent(), Sent({"A 0+456 a0"}));
  for (int timeout = 0; timeout < 3; ++timeout) {  // and is lost
    t.run_to(t.s.rto_at);
    EXPECT_EQ(t.take_sent(), Sent({"A 0+456 a0"}));
  }
}

TEST(Rtt, LongRoundTripsCountToo) {
  Script t;
  t.s.srtt = {};
  t.s.rto = seconds(4);
  t.write(1000);
  t.pass(millis(900));
  t.recv({.ack = 1000});
  EXPECT_EQ(t.s.srtt, millis(900));
}

TEST(Rtt, TheLeastOneIsThatOfTheLastMinutes) {
  Script t;
  const auto exchange = [&t](Nanos rtt) {
    t.write(1000);
    t.pass(rtt);
    t.recv({.ack = static_cast<std::int64_t>(t.s.snd_max)});
  };
  exchange(millis(10));
  EXPECT_EQ(t.s.min_rtt, millis(10));
  for (int minute = 0; minute < 4; ++minute) {  // another path
    t.pass(seconds(60));
    exchange(millis(40));
    EXPECT_EQ(t.s.min_rtt, millis(10)) << minute;
  }
  t.pass(seconds(61));
  exchange(millis(90));
  EXPECT_GT(t.s.min_rtt, millis(10)) << "the first path says nothing any more";
  EXPECT_LT(t.s.min_rtt, millis(40)) << "nor does one late answer say all";
  exchange(millis(20));
  EXPECT_EQ(t.s.min_rtt, millis(20));
}

TEST(Rtt, AnAnswerToALaterSegmentIsNotTimedFromTheFirst) {
  Script t;
  t.s.ts_on = true;
  t.write(1000);
  t.pass(millis(100));  // its answer is lost
  t.write(1000);
  const auto stamp = static_cast<std::uint32_t>(t.now.ns / 1'000'000);
  t.pass(millis(10));
  t.recv({.ack = 2000, .tsecr = stamp});
  EXPECT_LT(t.s.srtt, millis(11)) << "10 ms by the echo, to the millisecond";
}

TEST(Rtt, RetransmittedSegmentsAreNotTimed) {
  Script t;
  t.s.srtt = {};
  t.s.rto = seconds(1);
  t.write(1000);
  t.run_to(t.s.rto_at);
  t.pass(millis(5));
  t.recv({.ack = 1000});
  EXPECT_EQ(t.s.srtt.ns, 0) << "Karn";
}

TEST(Rtt, EchoedTimestampsTellWhichCopyArrived) {
  Script t;
  t.s.ts_on = true;
  t.s.srtt = {};
  t.s.rto = seconds(1);
  t.write(1000);
  t.run_to(t.s.rto_at);
  const auto stamp = static_cast<std::uint32_t>(t.now.ns / 1'000'000);
  t.pass(millis(30));
  t.recv({.ack = 1000, .tsecr = stamp});
  EXPECT_EQ(t.s.srtt, millis(30));
}

TEST(Congestion, SlowStartDoublesPerRound) {
  Script t;
  t.s.cwnd = 2 * kTestMss;
  t.write(16000);
  EXPECT_EQ(segments(t), 2u);
  t.recv({.ack = 1000});
  t.recv({.ack = 2000});
  EXPECT_EQ(t.s.cwnd, 4u * kTestMss);
  EXPECT_NE(t.events & Outcome::kRound, 0);
}

TEST(Congestion, AboveTheThresholdOneSegmentPerCount) {
  Script t;
  t.s.cc.ssthresh = 4000;
  t.s.cc.cwnd_cnt = 2000;
  t.s.cwnd = 4000;
  t.write(16000);
  t.recv({.ack = 1000});
  EXPECT_EQ(t.s.cwnd, 4000u);
  t.recv({.ack = 2000});
  EXPECT_EQ(t.s.cwnd, 5000u);
}

TEST(Congestion, AnIdleApplicationDoesNotGrowTheWindow) {
  Script t;
  for (int i = 1; i <= 5; ++i) {
    t.write(1000);
    t.recv({.ack = 1000 * i});
  }
  EXPECT_EQ(t.s.cwnd, 10u * kTestMss);
}

// --- Path MTU ---

class PathMtu : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Sack, PathMtu, testing::Bool());

TEST_P(PathMtu, ASmallerPathSendsEverythingOutstandingAgainWithoutAskingCongestion) {
  Script t;
  t.s.sack_on = GetParam();
  t.write(3000);
  EXPECT_EQ(segments(t), 3u);
  const std::uint32_t cwnd = t.s.cwnd;
  t.set_mss(600);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+600 a0", "A 600+600 a0", "A 1200+600 a0", "A 1800+600 a0",
                                 "PA 2400+600 a0"}));
  EXPECT_EQ(t.s.cwnd, cwnd);
  t.recv({.ack = 1200});
  t.recv({.ack = 3000});
  EXPECT_EQ(t.s.snd_una, 3000u);
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_GE(t.s.cwnd, cwnd);
  t.write(600);
  EXPECT_EQ(t.take_sent(), Sent({"PA 3000+600 a0"}));
}

TEST_P(PathMtu, ItCostsNothingAlsoWhenTheRepeatTakesSeveralRoundTrips) {
  Script t;
  t.s.sack_on = GetParam();
  t.write(6000);
  EXPECT_EQ(segments(t), 6u);
  const std::uint32_t cwnd = t.s.cwnd;
  const std::uint32_t ssthresh = t.s.cc.ssthresh;
  t.recv({.ack = 0, .window = 1200});  // two segments at a time
  t.set_mss(600);
  for (std::int64_t ack = 0; ack < 6000; ack += 1200) {
    EXPECT_EQ(segments(t), 2u) << ack;
    t.recv({.ack = ack + 1200, .window = 1200});
  }
  EXPECT_EQ(t.s.snd_una, 6000u);
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_GE(t.s.cwnd, cwnd);
  EXPECT_EQ(t.s.cc.ssthresh, ssthresh);
}

TEST(Send, ALargerPathSendsNothingAgain) {
  Script t;
  t.write(2000);
  EXPECT_EQ(segments(t), 2u);
  t.set_mss(1400);
  EXPECT_EQ(segments(t), 0u);
  t.write(1400);
  EXPECT_EQ(t.take_sent(), Sent({"PA 2000+1400 a0"}));
}

}  // namespace
}  // namespace toe::datapath
