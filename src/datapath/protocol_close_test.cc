// Ending a connection in every order; orphans, aborts.
#include <cerrno>

#include <gtest/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

using flow::Event;
constexpr std::uint8_t kFinAck = wire::kFin | wire::kAck;

TEST(Close, ActiveCloseEndsInTimeWait) {
  Script t;
  t.shut_write();
  EXPECT_EQ(t.take_sent(), Sent({"FA 0+0 a0"}));
  t.recv({.ack = 1});
  EXPECT_TRUE(t.s.fin_acked);
  EXPECT_NE(t.last.line_flags & shm::kTxFinAcked, 0u);
  EXPECT_FALSE(t.closed);
  t.recv({.flags = kFinAck});
  EXPECT_EQ(t.closed, Event::Close::kTimeWait);
  EXPECT_EQ(t.take_sent(), Sent({"A 1+0 a1"}));
}

TEST(Close, PassiveCloseEndsWithTheAckOfOurFin) {
  Script t;
  t.recv({.flags = kFinAck});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a1"}));
  EXPECT_NE(t.last.line_flags & shm::kRxFin, 0u);
  EXPECT_EQ(t.last.rx_tail, 0u) << "the FIN is no byte";
  t.shut_write();
  EXPECT_EQ(t.take_sent(), Sent({"FA 0+0 a1"}));
  t.recv({.ack = 1});
  EXPECT_EQ(t.closed, Event::Close::kDone);
  EXPECT_EQ(t.error, 0u);
}

TEST(Close, SimultaneousCloseEndsInTimeWait) {
  Script t;
  t.shut_write();
  t.take_sent();
  t.recv({.flags = kFinAck});  // does not acknowledge our FIN
  EXPECT_FALSE(t.closed);
  EXPECT_EQ(t.take_sent(), Sent({"A 1+0 a1"}));
  t.recv({.ack = 1});
  EXPECT_EQ(t.closed, Event::Close::kTimeWait);
}

TEST(Close, FinWithTheAckOfOursEndsAtOnce) {
  Script t;
  t.shut_write();
  t.take_sent();
  t.recv({.ack = 1, .flags = kFinAck});
  EXPECT_EQ(t.closed, Event::Close::kTimeWait);
  EXPECT_EQ(t.take_sent(), Sent({"A 1+0 a1"}));
}

TEST(Close, FinRidesOnTheLastData) {
  Script t;
  t.hold_back = true;
  t.write(1500);
  t.shut_write();
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0", "FPA 1000+500 a0"}));
  t.hold_back = false;
  t.recv({.ack = 1501});
  EXPECT_TRUE(t.s.fin_acked);
  EXPECT_EQ(t.last.tx_una, 1500u);
}

TEST(Close, FinWaitsForDataThatTheWindowHoldsBack) {
  Script t;
  t.recv({.window = 1000});
  t.write(2000);
  t.shut_write();
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"})) << "the FIN belongs behind the last byte";
  t.recv({.ack = 1000, .window = 2000});
  EXPECT_EQ(t.take_sent(), Sent({"FPA 1000+1000 a0"}));
}

TEST(Close, LostFinIsRepeated) {
  Script t;
  t.shut_write();
  t.take_sent();
  t.run_to(t.s.rto_at);
  EXPECT_EQ(t.take_sent(), Sent({"FA 0+0 a0"}));
}

TEST(Close, LostDataAndFinAreRepeatedInOrder) {
  Script t;
  t.hold_back = true;
  t.write(1500);
  t.shut_write();
  t.transmit();
  t.hold_back = false;
  t.take_sent();
  t.run_to(t.s.rto_at);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+1000 a0"}));
  t.recv({.ack = 1000});
  EXPECT_EQ(t.take_sent(), Sent({"FPA 1000+500 a0"}));
}

TEST(Close, LostFinIsRepeatedByFastRetransmit) {
  Script t;
  t.hold_back = true;
  t.write(500);
  t.shut_write();
  t.transmit();
  t.hold_back = false;
  t.take_sent();
  for (int i = 0; i < 3; ++i) t.recv({});
  EXPECT_EQ(t.take_sent(), Sent({"FPA 0+500 a0"}));
}

TEST(Close, DataArrivesInFinWait) {
  Script t;
  t.shut_write();
  t.recv({.ack = 1, .length = 100});
  EXPECT_EQ(t.last.rx_tail, 100u);
  EXPECT_EQ(t.last.copy_length, 100);
}

TEST(Close, DataLeavesInCloseWait) {
  Script t;
  t.recv({.flags = kFinAck});
  t.take_sent();
  t.write(100);
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+100 a1"}));
}

TEST(Close, FinBehindAGapWaitsForTheGap) {
  Script t;
  t.recv({.seq = 100, .length = 50, .flags = kFinAck});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
  EXPECT_FALSE(fin_received(t.s));
  t.recv({.seq = 0, .length = 100});
  EXPECT_EQ(t.last.rx_tail, 150u);
  EXPECT_NE(t.last.line_flags & shm::kRxFin, 0u);
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a151"}));
}

TEST(Close, BareFinBehindAGapIsAnsweredByADuplicateAck) {
  Script t;
  t.recv({.seq = 100, .flags = kFinAck});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a0"}));
  t.recv({.seq = 0, .length = 100});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a101"}));
}

TEST(Close, DataBehindTheFinIsNotStored) {
  Script t;
  t.recv({.length = 10, .flags = kFinAck});
  t.recv({.seq = 11, .length = 100});
  EXPECT_EQ(t.s.rcv_nxt, 11u);
  EXPECT_EQ(t.last.copy_length, 0);
}

TEST(Close, AFinBeforeDataAlreadyStoredIsNotBelieved) {
  Script t;
  t.recv({.seq = 100, .length = 100});
  t.recv({.seq = 0, .length = 50, .flags = kFinAck});
  EXPECT_FALSE(fin_received(t.s));
  EXPECT_EQ(t.s.rcv_fin, UINT64_MAX);
}

TEST(Close, AFinThatDoesNotFitIsTakenLater) {
  Script t;
  t.s.rcv_limit = t.s.rcv_adv = 50;
  t.recv({.length = 100, .flags = kFinAck});
  EXPECT_EQ(t.s.rcv_nxt, 50u);
  EXPECT_FALSE(fin_received(t.s));
}

TEST(Close, AFinExactlyBehindAFullRingIsTaken) {
  Script t;
  t.s.rcv_limit = t.s.rcv_adv = 100;
  t.recv({.length = 100, .flags = kFinAck});
  EXPECT_TRUE(fin_received(t.s));
}

TEST(Close, RepeatedFinIsAcknowledgedAgain) {
  Script t;
  t.recv({.flags = kFinAck});
  t.take_sent();
  t.recv({.seq = 0, .flags = kFinAck});
  EXPECT_EQ(t.take_sent(), Sent({"A 0+0 a1"}));
  EXPECT_EQ(t.s.rcv_nxt, 1u);
}

TEST(Close, ClosedFlowsTakeNothing) {
  Script t;
  t.recv({.flags = wire::kRst});
  t.take_sent();
  t.recv({.length = 100});
  EXPECT_EQ(t.counters.drops.closed_flow.value(), 1u);
  EXPECT_EQ(t.last.copy_length, 0);
  EXPECT_TRUE(t.write(10));
  t.pass(seconds(1));
  EXPECT_EQ(t.take_sent(), Sent({}));
}

// --- Orphans and aborts ---

TEST(Orphan, SendsWhatWasWrittenThenFin) {
  Script t;
  t.hold_back = true;
  t.write(100);
  t.orphan(false);
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent({"FPA 0+100 a0"}));
}

TEST(Orphan, UnreadInputIsAnsweredByReset) {
  Script t;
  t.recv({.length = 100});
  t.orphan(false);
  EXPECT_EQ(t.take_sent(), Sent({"RA 0+0 a100"}));
  EXPECT_EQ(t.closed, Event::Close::kAborted);
}

TEST(Orphan, NewDataIsAnsweredByReset) {
  Script t;
  t.orphan(false);
  t.take_sent();
  t.recv({.ack = 1, .length = 10});
  EXPECT_EQ(t.take_sent(), Sent({"RA 1+0 a0"}));
  EXPECT_EQ(t.closed, Event::Close::kAborted);
}

TEST(Orphan, TellsControlWhenOnlyThePeersFinIsMissing) {
  Script t;
  t.orphan(false);
  t.recv({.ack = 1});
  EXPECT_NE(t.events & Outcome::kHalfClosed, 0);
}

TEST(Orphan, TellsControlAlsoIfOurFinWasAcknowledgedBefore) {
  Script t;
  t.shut_write();
  t.recv({.ack = 1});
  EXPECT_EQ(t.events & Outcome::kHalfClosed, 0);
  t.orphan(false);
  EXPECT_NE(t.events & Outcome::kHalfClosed, 0);
}

TEST(Orphan, ResetOnDemand) {
  Script t;
  t.orphan(true);
  EXPECT_EQ(t.take_sent(), Sent({"RA 0+0 a0"}));
}

TEST(Abort, SendsResetAtTheRightEdgeOfWhatWasSent) {
  Script t;
  t.write(3000);
  t.take_sent();
  t.abort(ECONNABORTED, true);
  EXPECT_EQ(t.take_sent(), Sent({"RA 3000+0 a0"}));
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(ECONNABORTED));
}

TEST(Abort, ResetLeavesFromTheHighestPositionSentAlsoAfterARewind) {
  Script t;
  t.write(3000);
  t.run_to(t.s.rto_at);
  t.take_sent();
  t.abort(ECONNABORTED, true);
  // The peer may have received all 3,000 bytes: an RST below its rcv_nxt would be ignored.
  EXPECT_EQ(t.take_sent(), Sent({"RA 3000+0 a0"}));
}

TEST(Abort, ResetIsInsideAWindowThatHasShrunk) {
  Script t;
  t.write(3000);
  t.take_sent();
  t.recv({.ack = 1448, .window = 0});  // it had no memory for the rest
  t.take_sent();
  t.abort(ECONNABORTED, true);
  EXPECT_EQ(t.take_sent(), Sent({"RA 1448+0 a0"}));
}

TEST(Abort, CanBeSilent) {
  Script t;
  t.abort(ETIMEDOUT, false);
  EXPECT_EQ(t.take_sent(), Sent({}));
  EXPECT_EQ(t.closed, Event::Close::kAborted);
}

TEST(Close, DataAfterBothDirectionsWereShutIsAnsweredByReset) {
  Script t;
  t.set_flags(shm::kShutRead | shm::kShutWrite);
  EXPECT_EQ(t.take_sent(), Sent({"FA 0+0 a0"}));
  t.recv({.ack = 1});
  EXPECT_FALSE(t.closed);
  t.recv({.ack = 1, .length = 10});
  EXPECT_EQ(t.closed, flow::Event::Close::kAborted);
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(ECONNRESET));
  EXPECT_EQ(t.take_sent(), Sent({"RA 1+0 a0"}));
}

TEST(Close, ShuttingReadingAloneTakesDataAsBefore) {
  Script t;
  t.set_flags(shm::kShutRead);
  t.recv({.length = 10});
  EXPECT_FALSE(t.closed);
  EXPECT_EQ(t.s.rcv_nxt, 10u);
}

}  // namespace
}  // namespace toe::datapath
