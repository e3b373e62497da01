// Received data: placement, trimming, acknowledgement policy, receive window.
#include <gtest/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

using flow::Event;

/// Payload positions that the last segment made dma copy, as "pos+length@offset".
std::string copied(const Script& t) {
  return std::to_string(t.last.copy_pos) + '+' + std::to_string(t.last.copy_length) + '@' +
         std::to_string(t.last.copy_offset);
}

// --- Placement ---

TEST(Receive, InOrderDataIsCopiedThenPublished) {
  Script t;
  t.recv({.length = 100});
  EXPECT_EQ(copied(t), "0+100@54");
  EXPECT_TRUE(t.last.publish);
  EXPECT_TRUE(t.last.hint_rx);
  EXPECT_EQ(t.last.rx_tail, 100u);
  EXPECT_EQ(t.s.rcv_nxt, 100u);
}

TEST(Receive, HeadReceivedBeforeIsTrimmed) {
  Script t;
  t.recv({.length = 100});
  t.recv({.seq = 60, .length = 100});
  EXPECT_EQ(copied(t), "100+60@94");
  EXPECT_EQ(t.s.rcv_nxt, 160u);
}

TEST(Receive, TailBeyondTheRingIsTrimmedAndNotAcknowledged) {
  Script t;
  t.s.rcv_limit = t.s.rcv_adv = 50;
  t.recv({.length = 100});
  EXPECT_EQ(copied(t), "0+50@54");
  EXPECT_EQ(t.s.rcv_nxt, 50u);
}

TEST(Receive, DataThatStartsBeyondTheWindowIsRefusedWithAnAck) {
  Script t;
  t.recv({.seq = 16385, .length = 100});
  EXPECT_EQ(t.last.copy_length, 0);
  EXPECT_EQ(t.counters.drops.out_of_window.value(), 1u);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
}

TEST(Receive, DataInAGapIsStoredUnpublishedAndAnsweredByADuplicateAck) {
  Script t;
  t.recv({.seq = 200, .length = 100});
  EXPECT_EQ(copied(t), "200+100@54");
  EXPECT_FALSE(t.last.publish);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
  EXPECT_EQ(t.counters.out_of_order.value(), 1u);
}

TEST(Receive, AFilledGapPublishesBothPartsAndIsAcknowledgedAtOnce) {
  Script t;
  t.recv({.seq = 200, .length = 100});
  t.take_sent();
  t.recv({.seq = 0, .length = 200});
  EXPECT_EQ(t.last.rx_tail, 300u);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a300"}));
}

TEST(Receive, InOrderDataThatOverrunsAStoredRangeAbsorbsIt) {
  Script t;
  t.recv({.seq = 200, .length = 100});
  t.recv({.seq = 0, .length = 250});
  EXPECT_EQ(t.s.rcv_nxt, 300u);
  EXPECT_EQ(t.s.ranges, 0u);
}

TEST(Receive, AsManyGapsAsRangesAreKeptTheNextIsDroppedWithAnAck) {
  Script t;
  constexpr int kRanges = kOutOfOrderRanges;
  for (int i = 1; i <= kRanges; ++i) t.recv({.seq = 20 * i, .length = 10});
  t.take_sent();
  t.recv({.seq = 20 * (kRanges + 1), .length = 10});
  EXPECT_EQ(t.last.copy_length, 0);
  EXPECT_EQ(t.counters.drops.no_range.value(), 1u);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
}

TEST(Receive, PositionsCrossTheWrapOfSequenceNumbers) {
  Script t;
  const std::uint64_t wrap = (1ull << 32) - 50;
  t.s.rcv_nxt = t.s.rcv_head = t.s.last_ack_sent = t.s.rcv_switch = wrap;
  t.s.rcv_limit = t.s.rcv_adv = wrap + 16384;
  t.recv({.length = 100});
  EXPECT_EQ(t.last.rx_tail, wrap + 100);
  t.recv({.seq = static_cast<std::int64_t>(wrap) + 200, .length = 10});
  EXPECT_EQ(t.last.copy_pos, wrap + 200);
}

// --- The acknowledgement of segments whose data is of no use ---

TEST(Receive, AckFieldOfWhollyOldDataIsProcessed) {
  Script t;
  t.recv({.length = 100});
  t.write(500);
  t.recv({.seq = 0, .ack = 500, .length = 100});  // a retransmission crossed our data
  EXPECT_EQ(t.s.snd_una, 500u);
  EXPECT_EQ(t.last.copy_length, 0);
}

TEST(Receive, WhollyOldDataIsAnsweredEveryTime) {
  Script t;
  t.recv({.length = 100});
  t.recv({.length = 100});
  t.pass(millis(50));  // the delayed ACK leaves and is lost
  t.take_sent();
  for (int i = 0; i < 3; ++i) {
    t.recv({.seq = 0, .length = 100});
    EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a200"})) << i;
  }
}

TEST(Receive, OldFinIsAnsweredEveryTime) {
  Script t;
  t.recv({.flags = wire::kFin | wire::kAck});
  t.take_sent();
  t.recv({.seq = -5});  // spends the allowance for empty segments
  t.take_sent();
  for (int i = 0; i < 3; ++i) {
    t.recv({.seq = 0, .flags = wire::kFin | wire::kAck});
    EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a1"})) << i;
  }
}

TEST(Receive, EmptySegmentsBeforeTheWindowAreAnsweredAtABoundedRate) {
  Script t;
  t.recv({.length = 100});
  t.pass(millis(50));
  t.take_sent();
  for (int i = 0; i < 5; ++i) t.recv({.seq = 0});  // could be an ACK war
  EXPECT_EQ(t.take_sent().size(), 1u);
  t.pass(millis(501));
  t.recv({.seq = 0});
  EXPECT_EQ(t.take_sent().size(), 1u);
}

TEST(Receive, KeepAliveProbeOfThePeerIsAnswered) {
  Script t;
  t.recv({.seq = -1});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
}

// --- When to acknowledge ---

/// Sixteen segments, too small to be two, are acknowledged each, and the next is not.
void expect_quick_mode(Script& t) {
  for (int i = 0; i < 16; ++i) {
    t.recv({.length = 500});
    EXPECT_EQ(t.take_sent().size(), 1u) << i;
  }
  t.recv({.length = 500});
  EXPECT_EQ(t.take_sent().size(), 0u);
}

TEST(AckPolicy, TheFirstSegmentsAreAcknowledgedAtOnce) {
  Script t;
  t.s.quick_acks = 2;
  t.recv({.length = 100});
  t.recv({.length = 100});
  EXPECT_EQ(t.take_sent().size(), 2u);
  t.recv({.length = 100});
  EXPECT_EQ(t.take_sent().size(), 0u);
}

TEST(AckPolicy, ASingleSegmentIsAcknowledgedAfterTheDelay) {
  Script t;
  t.recv({.length = 100});
  EXPECT_EQ(t.ack_due, t.now + millis(40));
  t.pass(millis(39));
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.pass(millis(1));
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a100"}));
  EXPECT_EQ(t.counters.delayed_acks.value(), 1u);
}

TEST(AckPolicy, EverySecondFullSegmentIsAcknowledgedAtOnce) {
  Script t;
  t.recv({.length = kTestMss});
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.recv({.length = kTestMss});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a2000"}));
}

TEST(AckPolicy, ABurstIsAcknowledgedOnce) {
  Script t;
  t.hold_back = true;
  for (int i = 0; i < 8; ++i) t.recv({.length = kTestMss});
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a8000"}));
}

TEST(AckPolicy, SegmentsOutOfOrderAreAnsweredEachInABurstToo) {
  Script t;
  t.hold_back = true;
  for (int i = 1; i <= 2; ++i) t.recv({.seq = i * kTestMss, .length = kTestMss});
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0", "A 0+0 a0"}));
  for (int i = 3; i <= 9; ++i) t.recv({.seq = i * kTestMss, .length = kTestMss});
  t.transmit();
  EXPECT_EQ(t.take_sent().size(), 4u) << "the bound";
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({})) << "the debt is paid";
}

TEST(AckPolicy, AClosedGapIsAcknowledgedTwiceAtMost) {
  Script t;
  t.recv({.seq = 3 * kTestMss, .length = kTestMss});
  t.take_sent();
  t.hold_back = true;
  t.recv({.seq = 5 * kTestMss, .length = kTestMss});
  for (int i = 0; i < 3; ++i) t.recv({.seq = i * kTestMss, .length = kTestMss});
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a4000", "A 0+0 a4000"}));
  t.recv({.seq = 4 * kTestMss, .length = kTestMss});
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a6000"}));
}

TEST(AckPolicy, ABurstInQuickModeIsAcknowledgedTwice) {
  Script t;
  t.s.quick_acks = 3;
  t.hold_back = true;
  for (int i = 0; i < 3; ++i) t.recv({.length = kTestMss});
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a3000", "A 0+0 a3000"})) << "one of them may be lost";
  for (int i = 0; i < 3; ++i) t.recv({.length = kTestMss});
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a6000"})) << "the mode is over";
}

TEST(AckPolicy, BehindAClosedGapEverySegmentIsAcknowledgedAtOnce) {
  Script t;
  t.recv({.seq = kTestMss, .length = kTestMss});
  t.recv({.seq = 0, .length = kTestMss});
  t.take_sent();
  expect_quick_mode(t);
}

TEST(AckPolicy, TheAnswerCarriesTheAck) {
  Script t;
  t.recv({.length = 100});
  t.write(50);
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+50 a100"}));
  t.pass(millis(100));
  EXPECT_EQ(t.take_sent(), Sent({})) << "no second ACK from the delayed-ACK queue";
}

TEST(AckPolicy, AnAnsweringApplicationDelaysAcksFromTheStart) {
  Script t;
  t.s.quick_acks = 16;
  t.recv({.length = 100});
  t.write(50);
  t.recv({.ack = 50, .length = 100});
  t.take_sent();
  t.write(50);
  EXPECT_EQ(t.take_sent(), Sent({"PA 50+50 a200"}));
}

TEST(AckPolicy, ImmediateModeAcknowledgesEverySegment) {
  Script t;
  t.options.immediate_ack = true;
  for (int i = 0; i < 3; ++i) t.recv({.length = 10});
  EXPECT_EQ(t.take_sent().size(), 3u);
}

TEST(AckPolicy, ADelayedAckIsNeverLaterThanTheDelay) {
  Script t;
  t.recv({.length = 100});
  const Time first = t.now;
  t.write(10);  // pays the first ACK
  t.pass(millis(30));
  t.take_sent();
  t.recv({.ack = 10, .length = 100});  // owed anew while the old entry still waits
  t.run_to(first + millis(40));
  EXPECT_EQ(t.take_sent(), Sent({"A 10+0 a200"}));
}

// --- Receive window ---

TEST(Window, ShrinksByWhatArrivedAndNeverMovesItsEdgeBack) {
  Script t;
  t.options.immediate_ack = true;
  t.recv({.length = 1000});
  EXPECT_EQ(t.sent_window, 16384 - 1000);
  t.recv({.length = 1000});
  EXPECT_EQ(t.sent_window, 16384 - 2000);
}

TEST(Window, ClosesWhenTheRingIsFull) {
  Script t;
  for (int i = 0; i < 16; ++i) t.recv({.length = 1000});
  t.recv({.length = 384});
  t.pass(millis(50));
  EXPECT_EQ(t.sent_window, 0);
}

TEST(Window, ClosesWhenTheRingIsFullWithWindowScale) {
  Script t;
  t.s.rcv_wscale = 7;
  for (int i = 0; i < 1000; ++i) {  // odd sizes, and nobody reads
    t.recv({.length = 33});
    t.pass(millis(50));
    ASSERT_LE(t.s.rcv_nxt + t.window_bytes(), 16384u) << "a promise beyond the ring";
  }
  EXPECT_EQ(t.sent_window, 0);
}

TEST(Window, OpensAtOnceWhenTheApplicationReads) {
  Script t;
  for (int i = 0; i < 17; ++i) t.recv({.length = 1000});
  t.pass(millis(50));
  t.take_sent();
  t.read(8192);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a16384"}));
  EXPECT_EQ(t.sent_window, 8192);
}

TEST(Window, SmallReadsDoNotOpenIt) {
  Script t;
  for (int i = 0; i < 17; ++i) t.recv({.length = 1000});
  t.pass(millis(50));
  t.take_sent();
  t.read(100);  // less than a segment: RFC 9293 section 3.8.6.2.2
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.recv({.seq = static_cast<std::int64_t>(t.s.rcv_nxt) - 1});  // a probe
  EXPECT_EQ(t.sent_window, 0);
}

TEST(Window, ReadsWithPlentyOfWindowSendNothing) {
  Script t;
  t.recv({.length = 1000});
  t.pass(millis(50));
  t.take_sent();
  t.read(1000);
  EXPECT_EQ(t.take_sent(), Sent({}));
}

// As Linux's quick mode: a sender that repeats itself or restarts has a small window and waits for
// every ACK.
TEST(AckPolicy, AfterARepeatedSegmentEveryOneIsAcknowledgedAtOnce) {
  Script t;
  t.recv({.length = 1000});
  t.pass(millis(50));
  t.recv({.length = 1000});
  t.take_sent();
  t.recv({.seq = 0, .length = 1000});
  EXPECT_EQ(t.take_sent().size(), 1u);
  t.pass(millis(50));
  t.take_sent();
  expect_quick_mode(t);
}

TEST(AckPolicy, AfterARestEveryOneIsAcknowledgedAtOnce) {
  Script t;
  t.recv({.length = 1000});
  t.pass(millis(50));
  t.recv({.length = 1000});
  t.pass(millis(50));
  EXPECT_EQ(t.take_sent().size(), 2u);
  EXPECT_EQ(t.counters.delayed_acks.value(), 2u);
  t.pass(t.s.rto + millis(1));
  t.take_sent();
  t.recv({.length = 1000});
  EXPECT_EQ(t.take_sent().size(), 1u);
}

// --- Receive ring switch ---

TEST(RxRing, AFastPeerAsksForALargerRingOnce) {
  Script t;
  for (int i = 0; i < 12; ++i) t.recv({.length = 1000});
  EXPECT_NE(t.events & Outcome::kWantRxRing, 0);
  t.events = 0;
  t.recv({.length = 1000});
  EXPECT_EQ(t.events & Outcome::kWantRxRing, 0);
}

// A peer in slow start: the round after the one that shows a quarter of the ring fills it.
TEST(RxRing, APeerThatDoublesIsAheadOfWhatArrived) {
  for (const int before : {2, 4}) {
    Script t;
    for (int i = 0; i < before; ++i) t.recv({.length = 1000});
    t.read(t.s.rcv_nxt);
    t.pass(millis(11));
    t.recv({.length = 1000});  // ends the first round: `before` and this one
    t.read(t.s.rcv_nxt);
    for (int i = 0; i < 5; ++i) {
      t.recv({.length = 1000});
      t.read(t.s.rcv_nxt);
    }
    EXPECT_EQ((t.events & Outcome::kWantRxRing) != 0, before == 2) << before;
  }
}

TEST(RxRing, SwitchesBeyondEveryByteReceivedSoFar) {
  Script t;
  t.recv({.length = 1000});
  t.recv({.seq = 3000, .length = 1000});
  t.offer_rx_ring(65536);
  EXPECT_NE(t.last.events & Outcome::kRxSwitch, 0);
  EXPECT_EQ(t.last.rx_switch, 4000u);
  EXPECT_EQ(t.s.rcv_limit, 4000u + 65536u);
  EXPECT_EQ(t.counters.ring_switches_rx.value(), 1u);
}

TEST(RxRing, AStalledPeerLearnsOfTheLargerWindow) {
  Script t;
  for (int i = 0; i < 17; ++i) t.recv({.length = 1000});
  t.pass(millis(50));
  t.take_sent();
  t.offer_rx_ring(65536);
  EXPECT_EQ(t.take_sent().size(), 1u);
  EXPECT_EQ(t.sent_window, 65535);
}

TEST(RxRing, IsRefusedWhileTheOldOneHoldsUnreadBytesOfALastSwitch) {
  Script t;
  t.recv({.length = 1000});
  t.offer_rx_ring(32768);
  t.offer_rx_ring(65536);
  EXPECT_NE(t.last.events & Outcome::kRxSwitchRefused, 0);
  t.read(1000);
  t.offer_rx_ring(65536);
  EXPECT_NE(t.last.events & Outcome::kRxSwitch, 0);
}

TEST(RxRing, BehindTheFinOnlyAnEmptyOneIsReplaced) {
  Script t;
  t.recv({.length = 10, .flags = wire::kFin | wire::kAck});
  t.offer_rx_ring(65536);
  EXPECT_NE(t.last.events & Outcome::kRxSwitchRefused, 0) << "nothing more comes";
  t.offer_rx_ring(16384);
  EXPECT_NE(t.last.events & Outcome::kRxSwitchRefused, 0) << "not read yet";
  t.read(10);
  t.take_sent();
  t.offer_rx_ring(16384);
  EXPECT_NE(t.last.events & Outcome::kRxSwitch, 0);
  EXPECT_EQ(t.last.rx_switch, 10u) << "where the FIN stands: the old ring is free at once";
  EXPECT_EQ(t.take_sent(), Sent({})) << "no window for nobody";
}

TEST(RxRing, AFinBehindAGapKeepsIt) {
  Script t;
  t.recv({.seq = 100, .length = 10, .flags = wire::kFin | wire::kAck});
  t.offer_rx_ring(16384);
  EXPECT_NE(t.last.events & Outcome::kRxSwitchRefused, 0);
}

// --- Checks in front (RFC 9293 section 3.10.7.4, RFC 5961, RFC 7323) ---

TEST(Checks, ResetAtTheEdgeEndsTheConnection) {
  Script t;
  t.recv({.flags = wire::kRst});
  EXPECT_EQ(t.closed, Event::Close::kReset);
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(ECONNRESET));
  EXPECT_TRUE(t.last.line_closed);
  EXPECT_EQ(t.take_sent(), Sent({}));
}

TEST(Checks, ResetInsideTheWindowIsChallenged) {
  Script t;
  t.recv({.seq = 1, .flags = wire::kRst});
  EXPECT_FALSE(t.closed);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
  EXPECT_EQ(t.counters.drops.bad_rst.value(), 1u);
}

TEST(Receive, OverlappingHeadBeyondAGapKeepsTheEarlierBytes) {
  Script t;
  t.recv({.seq = 1000, .length = 500});
  t.recv({.seq = 1300, .length = 500});
  EXPECT_EQ(t.last.copy_pos, 1500u);
  EXPECT_EQ(t.last.copy_length, 300u);
  EXPECT_EQ(t.last.copy_offset, kPayloadOffset + 200);
}

TEST(Checks, ResetBehindWhatSackReportsEndsTheConnection) {
  for (const bool sack : {false, true}) {
    Script t;
    t.s.sack_on = sack;
    t.recv({.seq = 1000, .length = 500});
    t.recv({.seq = 1500, .flags = wire::kRst});
    EXPECT_EQ(t.closed.has_value(), sack);
  }
}

TEST(Checks, ResetOutsideTheWindowIsIgnored) {
  Script t;
  t.recv({.seq = 20000, .flags = wire::kRst});
  EXPECT_FALSE(t.closed);
  EXPECT_EQ(t.take_sent(), Sent({}));
}

TEST(Checks, ResetAfterThePeersFinReadsAsBrokenPipe) {
  Script t;
  t.recv({.flags = wire::kFin | wire::kAck});
  t.recv({.flags = wire::kRst});
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(EPIPE));
}

TEST(Checks, SynIsChallenged) {
  Script t;
  t.recv({.seq = 5, .flags = wire::kSyn});
  EXPECT_FALSE(t.closed);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
  EXPECT_EQ(t.counters.drops.bad_syn.value(), 1u);
}

TEST(Checks, RepeatedSynAckIsAcknowledged) {
  Script t;
  t.recv({.seq = -1, .flags = wire::kSyn | wire::kAck});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
}

TEST(Checks, SegmentsWithoutAckBitAreDropped) {
  Script t;
  t.recv({.length = 100, .flags = wire::kPsh});
  EXPECT_EQ(t.s.rcv_nxt, 0u);
  EXPECT_EQ(t.counters.drops.no_ack_flag.value(), 1u);
}

TEST(Checks, AcksOfWhatWasNeverSentAreChallengedAndTheirDataDropped) {
  Script t;
  t.recv({.ack = 1, .length = 100});
  EXPECT_EQ(t.s.rcv_nxt, 0u);
  EXPECT_EQ(t.counters.drops.bad_ack.value(), 1u);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
}

TEST(Checks, AcksOlderThanTheLargestWindowAreChallenged) {
  Script t;
  t.s.snd_una = t.s.snd_nxt = t.s.snd_max = t.s.snd_end = 100000;
  t.recv({.ack = 100000 - 60000, .length = 10});
  EXPECT_EQ(t.s.rcv_nxt, 10u) << "old, but possible";
  t.recv({.ack = 100000 - 60001, .length = 10});
  EXPECT_EQ(t.s.rcv_nxt, 10u);
  EXPECT_EQ(t.counters.drops.bad_ack.value(), 1u);
}

TEST(Checks, AcksFromBeforeTheFirstByteAreChallenged) {
  Script t;
  t.recv({.ack = -1, .length = 10});
  EXPECT_EQ(t.s.rcv_nxt, 0u);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
  EXPECT_EQ(t.counters.drops.bad_ack.value(), 1u);
}

TEST(Paws, OldTimestampsAreDroppedWithAnAck) {
  Script t;
  t.s.ts_on = true;
  t.s.ts_recent = 1000;
  t.s.ts_recent_age = t.now;
  t.recv({.length = 100, .tsval = 998});
  EXPECT_EQ(t.s.rcv_nxt, 0u);
  EXPECT_EQ(t.counters.drops.paws.value(), 1u);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
}

// As Linux: data and FIN may wait for their ACK; an empty segment may itself be an answer, and two
// sides that refuse each other's timestamps would answer for ever.
TEST(Paws, EmptyOnesAreAnsweredTwiceASecondAtMost) {
  Script t;
  t.s.ts_on = true;
  t.s.ts_recent = 1000;
  t.s.ts_recent_age = t.now;
  for (int i = 0; i < 5; ++i) t.recv({.tsval = 998});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
  t.now = t.now + millis(500);
  t.recv({.tsval = 998});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
  EXPECT_EQ(t.counters.drops.paws.value(), 6u);
}

TEST(Paws, OneTickLateIsNotOld) {  // as Linux
  Script t;
  t.s.ts_on = true;
  t.s.ts_recent = 1000;
  t.s.ts_recent_age = t.now;
  t.recv({.length = 100, .tsval = 999});
  EXPECT_EQ(t.s.rcv_nxt, 100u);
  EXPECT_EQ(t.s.ts_recent, 1000u) << "and never goes back";
}

TEST(Paws, TimestampsWrap) {
  Script t;
  t.s.ts_on = true;
  t.s.ts_recent = 0xfffffff0u;
  t.s.ts_recent_age = t.now;
  t.recv({.length = 100, .tsval = 5});
  EXPECT_EQ(t.s.rcv_nxt, 100u);
  EXPECT_EQ(t.s.ts_recent, 5u);
}

TEST(Paws, AnOldTimestampCountsNothingAfter24IdleDays) {
  Script t;
  t.s.ts_on = true;
  t.s.ts_recent = 0x90000000u;
  t.s.ts_recent_age = t.now;
  t.now = t.now + seconds(25 * 24 * 3600);
  t.recv({.length = 100, .tsval = 1});
  EXPECT_EQ(t.s.rcv_nxt, 100u);
}

TEST(Paws, ResetsAreTakenWhateverTheirTimestamp) {
  Script t;
  t.s.ts_on = true;
  t.s.ts_recent = 1000;
  t.s.ts_recent_age = t.now;
  t.recv({.flags = wire::kRst, .tsval = 1});
  EXPECT_EQ(t.closed, Event::Close::kReset);
}

TEST(Timestamps, AreTakenOnlyFromTheSegmentTheLastAckAskedFor) {
  Script t;
  t.s.ts_on = true;
  t.recv({.length = 100, .tsval = 10});  // its ACK is delayed
  t.recv({.length = 100, .tsval = 20});
  EXPECT_EQ(t.s.ts_recent, 10u) << "RFC 7323 section 4.3: the oldest unacknowledged segment's";
  t.recv({.seq = 500, .length = 100, .tsval = 30});
  EXPECT_EQ(t.s.ts_recent, 10u);
}

}  // namespace
}  // namespace toe::datapath
