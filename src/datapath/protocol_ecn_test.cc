// Explicit congestion notification as scripts (RFC 3168, RFC 8257).
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

using flow::CaState;

constexpr std::uint8_t kEcho = wire::kAck | wire::kEce;

struct EcnScript : LossScript {
  EcnScript() {
    s.ecn = flow::kEcnOn;
    s.quick_acks = 0;
  }
  void data(std::uint8_t ecn, std::uint8_t flags = wire::kAck) {
    recv({.length = kTestMss, .flags = flags, .ecn = ecn});
  }
};

struct DctcpScript : EcnScript {
  DctcpScript() {
    s.cc.exact_marks = true;
    s.cc.loss_beta = 512;
    s.cc.ecn_beta = 1000;
  }
};

// --- What is ECN-capable ---

TEST(Ect, NewDataOnly) {
  EcnScript t;
  t.write(2000);
  EXPECT_EQ(t.take_sent(), (Sent{"A 0+1000 a0 ect", "PA 1000+1000 a0 ect"}));
  t.data(wire::kEct0);
  t.data(wire::kEct0);
  EXPECT_EQ(t.take_sent(), Sent{"A 2000+0 a2000"});
  t.recv({.ack = 0, .sack = {{1000, 2000}}});
  t.pass(millis(30));
  EXPECT_EQ(t.take_sent().front(), "A 0+1000 a2000");  // sent again: RFC 3168 section 6.1.5
}

TEST(Ect, NeitherProbesNorResets) {
  EcnScript t;
  t.recv({.window = 0});
  t.write(1000);
  t.pass(millis(250));
  EXPECT_EQ(t.take_sent(), Sent{"A -1+0 a0"});
  t.abort(ECONNRESET, true);
  EXPECT_EQ(t.take_sent(), Sent{"RA 0+0 a0"});
}

TEST(Ect, NothingWithoutEcn) {
  EcnScript t;
  t.s.ecn = 0;
  t.data(wire::kCe, wire::kAck | wire::kCwr);
  t.data(wire::kCe);
  t.write(1000);
  EXPECT_EQ(t.take_sent(), (Sent{"A 0+0 a2000", "PA 0+1000 a2000"}));
  t.recv({.ack = 1000, .flags = kEcho});
  EXPECT_EQ(t.s.ecn, 0);
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.counters.ce_in.value() + t.counters.ece_in.value(), 0u);
}

TEST(Ect, EverythingUnderDctcp) {
  DctcpScript t;
  t.write(2000);
  t.data(wire::kEct0);
  t.data(wire::kEct0);
  t.recv({.ack = 0, .sack = {{1000, 2000}}});
  t.pass(millis(30));
  for (const std::string& sent : t.take_sent()) EXPECT_NE(sent.find(" ect"), sent.npos) << sent;
}

// --- Receiver, RFC 3168 section 6.1.3 ---

TEST(EcnEcho, FromTheFirstMarkUntilCwr) {
  EcnScript t;
  t.data(wire::kEct0);
  EXPECT_TRUE(t.take_sent().empty());
  t.data(wire::kCe);
  EXPECT_EQ(t.take_sent(), Sent{"AE 0+0 a2000"});
  t.data(wire::kEct0);
  t.data(wire::kEct0);
  EXPECT_EQ(t.take_sent(), Sent{"AE 0+0 a4000"});
  t.write(1000);
  EXPECT_EQ(t.take_sent(), Sent{"PAE 0+1000 a4000 ect"});  // data echoes as well
  t.data(wire::kEct0, wire::kAck | wire::kCwr);
  EXPECT_EQ(t.take_sent(), Sent{"A 1000+0 a5000"});  // at once: the peer's window may be small
  EXPECT_EQ(t.counters.ce_in.value(), 1u);
  EXPECT_EQ(t.counters.cwr_in.value(), 1u);
}

TEST(EcnEcho, AMarkIsAnsweredAtOnce) {
  EcnScript t;
  t.data(wire::kCe);
  EXPECT_EQ(t.take_sent(), Sent{"AE 0+0 a1000"});
}

TEST(EcnEcho, AMarkOnTheSegmentThatBringsCwrIsANewOne) {
  EcnScript t;
  t.data(wire::kCe);
  t.data(wire::kCe, wire::kAck | wire::kCwr);
  EXPECT_EQ(t.take_sent(), (Sent{"AE 0+0 a1000", "AE 0+0 a2000"}));
}

TEST(EcnEcho, MarkAndCwrInOneBurst) {
  EcnScript t;
  t.hold_back = true;
  t.data(wire::kCe);
  t.data(wire::kEct0, wire::kAck | wire::kCwr);  // answers an earlier mark: this one is untold
  t.hold_back = false;
  t.transmit();
  EXPECT_EQ(t.take_sent(), Sent{"AE 0+0 a2000"});
  t.data(wire::kEct0, wire::kAck | wire::kCwr);
  EXPECT_EQ(t.take_sent(), Sent{"A 0+0 a3000"});
}

TEST(EcnEcho, CwrOnAnAckAlone) {
  EcnScript t;
  t.data(wire::kCe);
  t.recv({.flags = wire::kAck | wire::kCwr});
  t.write(1000);
  EXPECT_EQ(t.take_sent().back(), "PA 0+1000 a1000 ect");
}

TEST(EcnEcho, OnlyWantedDataCounts) {
  EcnScript t;
  t.data(wire::kEct0);
  t.recv({.seq = 0, .length = kTestMss, .ecn = wire::kCe});  // came before
  t.recv({.ecn = wire::kCe});                                // no data
  t.recv({.seq = 900'000, .length = kTestMss, .ecn = wire::kCe});
  for (const std::string& sent : t.take_sent()) EXPECT_EQ(sent.find('E'), sent.npos) << sent;
  t.recv({.seq = 3000, .length = kTestMss, .ecn = wire::kCe});  // out of order, and kept
  EXPECT_EQ(t.take_sent(), Sent{"AE 0+0 a1000 3000-4000"});
}

// --- Receiver, RFC 8257 section 3.2 ---

TEST(DctcpEcho, FollowsTheMarks) {
  DctcpScript t;
  t.data(wire::kCe);
  t.data(wire::kCe);
  t.data(wire::kCe);
  EXPECT_EQ(t.take_sent(), (Sent{"AE 0+0 a1000 ect", "AE 0+0 a3000 ect"}));
  t.data(wire::kEct0);  // the change is told at once
  EXPECT_EQ(t.take_sent(), Sent{"A 0+0 a4000 ect"});
}

TEST(DctcpEcho, AChangeAcknowledgesWhatCameBeforeByItself) {
  DctcpScript t;
  t.data(wire::kEct0);
  t.data(wire::kCe);
  EXPECT_EQ(t.take_sent(), (Sent{"A 0+0 a1000 ect", "AE 0+0 a2000 ect"}));
  t.data(wire::kCe);
  t.data(wire::kEct0);
  EXPECT_EQ(t.take_sent(), (Sent{"AE 0+0 a3000 ect", "A 0+0 a4000 ect"}));
}

TEST(DctcpEcho, TheSecondPartRidesOnData) {
  DctcpScript t;
  t.hold_back = true;
  t.data(wire::kEct0);
  t.data(wire::kCe);
  t.write(1000);
  t.hold_back = false;
  t.transmit();
  EXPECT_EQ(t.take_sent(), (Sent{"A 0+0 a1000 ect", "PAE 0+1000 a2000 ect"}));
}

TEST(DctcpEcho, WindowsOfSplitAcksKeepTheEdge) {
  DctcpScript t;
  t.hold_back = true;
  t.data(wire::kEct0);
  t.data(wire::kCe);
  t.hold_back = false;
  const std::uint64_t edge = t.s.rcv_adv;
  t.transmit();
  ASSERT_EQ(t.take_sent().size(), 2u);
  EXPECT_EQ(t.s.rcv_adv, edge);
}

TEST(DctcpEcho, MarksThatCameOutOfOrderCountWhenTheyAreAcknowledged) {
  DctcpScript t;
  t.recv({.seq = 1000, .length = kTestMss, .ecn = wire::kCe});
  EXPECT_EQ(t.take_sent(), Sent{"AE 0+0 a0 1000-2000 ect"});
  t.recv({.seq = 0, .length = kTestMss, .ecn = wire::kEct0});
  EXPECT_EQ(t.take_sent(), (Sent{"AE 0+0 a1000 ect", "A 0+0 a2000 ect"}));
}

/// Bytes acknowledged with ECE by what left, from `una` on.
std::uint64_t told(const Sent& sent, std::uint64_t& una) {
  std::uint64_t marked = 0;
  for (const std::string& text : sent) {
    const std::uint64_t ack = std::stoull(text.substr(text.find(" a") + 2));
    if (text.substr(0, text.find(' ')).find('E') != text.npos) marked += ack - una;
    una = ack;
  }
  return marked;
}

// However marks and bursts fall, the peer counts exactly the bytes that came marked.
RC_GTEST_PROP(DctcpEcho, CountsEveryMarkedByteOnce, ()) {
  DctcpScript t;
  t.options.immediate_ack = *rc::gen::arbitrary<bool>();
  std::uint64_t marked = 0, heard = 0, una = 0;
  for (int i = 0; i < 100; ++i) {
    t.hold_back = *rc::gen::arbitrary<bool>();
    const bool ce = *rc::gen::arbitrary<bool>();
    const auto length = *rc::gen::inRange<std::uint16_t>(1, kTestMss + 1);
    t.recv({.length = length, .ecn = ce ? wire::kCe : wire::kEct0});
    if (ce) marked += length;
    if (*rc::gen::inRange(0, 4) == 0) t.write(700);
    heard += told(t.take_sent(), una);
    t.read(t.s.rcv_nxt - t.s.rcv_head);
  }
  t.hold_back = false;
  t.transmit();
  t.pass(millis(50));
  heard += told(t.take_sent(), una);
  RC_ASSERT(una == t.s.rcv_nxt);
  RC_ASSERT(heard == marked);
  RC_ASSERT(t.s.ce_pending == 0u);
}

// --- Sender ---

TEST(EcnSender, ReducesOncePerWindowAndSaysSo) {
  EcnScript t;
  t.flight();
  t.write(50'000);
  t.recv({.ack = 1000, .flags = kEcho});
  EXPECT_EQ(t.s.ca_state, CaState::kCwr);
  EXPECT_EQ(t.s.cc.ssthresh, 10'000u * 717 / 1024);
  EXPECT_NE(t.events & Outcome::kMarks, 0);
  t.events = 0;
  for (std::uint64_t ack = 2000; ack <= 10'000; ack += 1000) {
    t.recv({.ack = static_cast<std::int64_t>(ack), .flags = kEcho});
  }
  EXPECT_EQ(t.events & Outcome::kMarks, 0);
  EXPECT_EQ(t.counters.mark_reductions.value(), 1u);
  EXPECT_EQ(t.counters.ece_in.value(), 10u);
  EXPECT_EQ(t.s.ce_acked, 10'000u);
  int cwr = 0;
  const Sent sent = t.take_sent();
  for (const std::string& text : sent) cwr += text.find('C') != text.npos ? 1 : 0;
  EXPECT_EQ(cwr, 1);
  EXPECT_EQ(sent.front(), "AC 10000+1000 a0 ect");
  t.recv({.ack = 11'000});  // CWR has arrived
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.s.cwnd, 10'000u * 717 / 1024);
  t.recv({.ack = 12'000, .flags = kEcho});
  EXPECT_EQ(t.counters.mark_reductions.value(), 2u);
}

TEST(EcnSender, TheFlightShrinksInProportion) {
  EcnScript t;
  t.flight();
  t.write(50'000);
  std::size_t sent = 0;
  for (std::int64_t ack = 1000; ack <= 10'000; ack += 1000) {
    t.recv({.ack = ack, .flags = kEcho});
    EXPECT_LE(t.s.snd_max - t.s.snd_una, 11'000u - 250u * static_cast<std::uint64_t>(ack) / 1000);
    sent += t.take_sent().size();
  }
  EXPECT_EQ(sent, 7u);  // 0.7 of ten
}

TEST(EcnSender, AMarkOnTheLastAckOfAWindowBeginsTheNext) {
  EcnScript t;
  t.flight();
  t.write(50'000);
  t.recv({.ack = 1000, .flags = kEcho});
  t.recv({.ack = 10'000});
  const std::uint32_t first = t.s.cc.ssthresh;
  t.recv({.ack = 11'000, .flags = kEcho});
  EXPECT_EQ(t.counters.mark_reductions.value(), 2u);
  EXPECT_EQ(t.s.cc.ssthresh, first * 717 / 1024);
}

TEST(EcnSender, NothingOutstandingNothingToReduce) {
  EcnScript t;
  t.recv({.length = 100, .flags = kEcho});
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.counters.mark_reductions.value(), 0u);
}

TEST(EcnSender, LossAlsoSendsCwrOnNewDataOnly) {
  EcnScript t;
  t.flight();
  t.write(50'000);
  t.recv({.ack = 0, .sack = {{1000, 2000}}});
  t.recv({.ack = 0, .sack = {{1000, 3000}}});
  t.recv({.ack = 0, .sack = {{1000, 4000}}});
  ASSERT_EQ(t.s.ca_state, CaState::kRecovery);
  EXPECT_NE(t.s.ecn & flow::kEcnCwrDue, 0);
  t.take_sent();
  t.recv({.ack = 10'000});
  EXPECT_EQ(t.take_sent().front().substr(0, 3), "AC ");
  EXPECT_EQ(t.s.ecn & flow::kEcnCwrDue, 0);
}

TEST(EcnSender, MarksDuringRecoveryReduceNoMoreAndForbidTheUndo) {
  EcnScript t;
  t.s.ts_on = true;
  t.flight();
  const std::uint32_t before = t.stamp();
  t.pass(millis(20));
  for (const std::uint64_t end : {2000u, 3000u, 4000u}) {
    t.recv({.ack = 0, .flags = kEcho, .sack = {{1000, end}}});
  }
  ASSERT_EQ(t.s.ca_state, CaState::kRecovery);
  const std::uint32_t ssthresh = t.s.cc.ssthresh;
  t.recv({.ack = 10'000, .flags = kEcho, .tsecr = before});  // the first transmission arrived
  EXPECT_EQ(t.s.cc.ssthresh, ssthresh);
  EXPECT_EQ(t.events & Outcome::kUndo, 0);
  EXPECT_LE(t.s.cwnd, ssthresh);
}

TEST(EcnSender, AnUndoTakesCwrBack) {
  EcnScript t;
  t.s.ts_on = true;
  t.flight();
  const std::uint32_t before = t.stamp() - 10;
  for (const std::uint64_t end : {2000u, 3000u, 4000u}) {
    t.recv({.ack = 0, .sack = {{1000, end}}});
  }
  ASSERT_NE(t.s.ecn & flow::kEcnCwrDue, 0);
  t.recv({.ack = 10'000, .tsecr = before});
  EXPECT_NE(t.events & Outcome::kUndo, 0);
  EXPECT_EQ(t.s.ecn & flow::kEcnCwrDue, 0);
}

/// A mark, then a loss in the same window.
template <typename T>
void mark_and_lose(T& t) {
  t.flight();
  t.recv({.ack = 1000, .flags = kEcho});
  for (const std::uint64_t end : {3000u, 4000u, 5000u}) {
    t.recv({.ack = 1000, .sack = {{2000, end}}});
  }
  ASSERT_EQ(t.s.ca_state, CaState::kRecovery);
}

TEST(EcnSender, ALossInAMarkedWindowIsRepairedWithoutASecondReduction) {
  EcnScript t;
  mark_and_lose(t);
  EXPECT_EQ(t.s.cc.ssthresh, 10'000u * 717 / 1024);
  EXPECT_EQ(t.events & Outcome::kLoss, 0);
  EXPECT_EQ(t.counters.fast_retransmits.value(), 1u) << "counted all the same";
  EXPECT_FALSE(t.s.loss.undo.possible);
  const Sent sent = t.take_sent();
  EXPECT_NE(std::find(sent.begin(), sent.end(), "A 1000+1000 a0"), sent.end());
}

TEST(EcnSender, UnderDctcpALossCostsAsAlways) {
  DctcpScript t;
  mark_and_lose(t);
  EXPECT_LE(t.s.cc.ssthresh, 5000u);
  EXPECT_NE(t.events & Outcome::kLoss, 0);
  EXPECT_FALSE(t.s.loss.undo.possible);
}

TEST(EcnSender, ATimeoutInAMarkedWindowDoesNotReduceAgain) {
  EcnScript t;
  t.flight();
  t.recv({.ack = 1000, .flags = kEcho});
  t.pass(seconds(1));
  EXPECT_EQ(t.s.ca_state, CaState::kLoss);
  EXPECT_EQ(t.s.cc.ssthresh, 10'000u * 717 / 1024);
  EXPECT_FALSE(t.s.loss.undo.possible);
}

TEST(EcnSender, WithoutSackDuplicatesInAMarkedWindowAreALoss) {
  EcnScript t;
  t.s.sack_on = false;
  t.flight();
  t.recv({.ack = 1000, .flags = kEcho});
  t.take_sent();
  for (int i = 0; i < 3; ++i) t.recv({.ack = 1000});
  EXPECT_EQ(t.s.ca_state, CaState::kRecovery);
  EXPECT_EQ(t.s.cc.ssthresh, 10'000u * 717 / 1024);
  EXPECT_EQ(t.take_sent().front(), "A 1000+1000 a0");
}

TEST(EcnSender, ATailProbeGoesOutInAMarkedWindow) {
  EcnScript t;
  t.s.rto = seconds(1);
  t.flight();
  t.recv({.ack = 1000, .flags = kEcho});
  t.take_sent();
  t.pass(millis(60));
  EXPECT_EQ(t.counters.tail_probes.value(), 1u);
}

TEST(EcnSender, AnAlgorithmWithARateKeepsItsWindow) {
  DctcpScript t;
  t.s.cc.ecn_beta = 1024;
  t.flight();
  t.write(50'000);
  t.recv({.ack = 1000, .flags = kEcho});
  t.recv({.ack = 2000, .flags = kEcho});
  EXPECT_GE(t.s.cwnd, 10'000u);
  EXPECT_EQ(t.s.ca_state, CaState::kOpen);
  EXPECT_EQ(t.counters.mark_reductions.value(), 1u);
  EXPECT_EQ(t.take_sent().front(), "AC 10000+1000 a0 ect");
}

TEST(EcnSender, DctcpHearsOfRoundsWhileTheWindowFalls) {
  for (const bool exact : {true, false}) {
    DctcpScript t;
    t.s.cc.exact_marks = exact;
    t.s.cc.every_round = true;
    t.s.ecn = flow::kEcnOn;
    t.flight();
    t.s.round_end = 5000;
    t.recv({.ack = 1000, .flags = kEcho});
    t.events = 0;
    t.recv({.ack = 5000});
    EXPECT_EQ((t.events & Outcome::kRound) != 0, exact);
  }
}

}  // namespace
}  // namespace toe::datapath
