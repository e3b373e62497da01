// Urgent data: RFC 9293 section 3.8.5 and RFC 6093, as Linux reads them.
#include <gtest/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

using Pair = std::pair<std::uint64_t, std::uint64_t>;

Pair skipped(const Outcome& out) { return {out.rx_skip.begin, out.rx_skip.end}; }

// --- Receiving ---

TEST(UrgentIn, ThePointerStandsBehindTheByte) {
  Script t;
  t.recv({.length = 3, .urgent = 3});
  EXPECT_TRUE(t.last.urgent_news && t.last.urgent_here && t.last.hint_rx);
  EXPECT_EQ(t.last.rx_urgent, 3u);
  EXPECT_EQ(t.last.rx_tail, 3u);
  EXPECT_NE(t.last.line_flags & shm::kRxUrgent, 0u);
  EXPECT_EQ(t.counters.urgent_in.value(), 1u);
  t.recv({.length = 3});
  EXPECT_FALSE(t.last.urgent_news);
  EXPECT_NE(t.last.line_flags & shm::kRxUrgent, 0u);
}

TEST(UrgentIn, APointerOfZeroMeansTheFirstByte) {
  Script t;
  t.recv({.length = 3, .flags = wire::kAck | wire::kUrg});
  EXPECT_EQ(t.last.rx_urgent, 1u);
}

TEST(UrgentIn, IsAnnouncedBeforeTheByteComes) {
  Script t;
  t.recv({.urgent = 5});  // a pure ACK, from a sender that our window stops
  EXPECT_TRUE(t.last.publish && t.last.urgent_news && !t.last.urgent_here);
  EXPECT_EQ(t.last.rx_urgent, 5u);
  t.recv({.length = 4, .urgent = 5});
  EXPECT_FALSE(t.last.urgent_news);
  t.recv({.length = 1});
  EXPECT_TRUE(t.last.urgent_news && t.last.urgent_here);
  EXPECT_EQ(t.last.rx_urgent, 5u);
}

TEST(UrgentIn, TheByteBehindAGapIsThere) {
  Script t;
  t.recv({.seq = 1000, .length = 3, .urgent = 3});
  EXPECT_TRUE(t.last.urgent_here && t.last.publish && t.last.hint_rx);
  EXPECT_EQ(t.last.rx_urgent, 1003u);
  EXPECT_EQ(t.last.rx_tail, 0u);
}

TEST(UrgentIn, AByteBeyondTheRingIsNotThere) {
  Script t;
  t.recv({.seq = 16380, .length = 10, .urgent = 10});
  EXPECT_TRUE(t.last.urgent_news && !t.last.urgent_here);
  EXPECT_EQ(t.last.rx_urgent, 16390u);
}

TEST(UrgentIn, OldPointersAreNotTakenAgain) {
  Script t;
  t.recv({.length = 3, .urgent = 3});
  t.recv({.seq = 0, .length = 3, .urgent = 3});  // repeated
  EXPECT_FALSE(t.last.urgent_news);
  t.recv({.length = 5, .urgent = 60000});
  EXPECT_EQ(t.last.rx_urgent, 60003u);
  t.recv({.length = 5, .urgent = 2});  // lower than one that was announced
  EXPECT_FALSE(t.last.urgent_news);
  EXPECT_EQ(t.s.urgent.rcv_up, 60003u);
}

TEST(UrgentIn, SegmentsThatAreRefusedSayNothing) {
  Script t;
  t.recv({.seq = 40000, .length = 3, .urgent = 3});
  t.recv({.seq = -1, .urgent = 60000});  // a probe of Linux for an answer
  EXPECT_FALSE(t.s.urgent_seen);
}

TEST(UrgentIn, AFinIsNoByte) {
  Script t;
  t.recv({.length = 3, .flags = wire::kAck | wire::kFin, .urgent = 4});
  EXPECT_TRUE(t.last.urgent_news && !t.last.urgent_here);
}

TEST(UrgentIn, AReaderBeforeTheOldByteSkipsIt) {
  Script t;
  t.recv({.length = 3, .urgent = 3});
  t.read(2);
  t.recv({.length = 1, .urgent = 1});
  EXPECT_EQ(t.last.rx_urgent, 4u);
  EXPECT_EQ(skipped(t.last), (Pair{2, 3}));
  t.recv({.length = 3, .urgent = 3});  // it stands before that one now
  EXPECT_EQ(skipped(t.last), (Pair{2, 4}));
  t.recv({.length = 1, .urgent = 1});  // but not before the one behind "xy"
  EXPECT_EQ(skipped(t.last), (Pair{2, 4}));
}

TEST(UrgentIn, AReaderFurtherBackFindsTheOldByteInTheStream) {
  Script t;
  t.recv({.length = 3, .urgent = 3});
  t.read(1);
  t.recv({.length = 1, .urgent = 1});
  EXPECT_EQ(skipped(t.last), (Pair{}));
}

TEST(UrgentIn, NothingIsSkippedInLine) {
  Script t;
  t.set_flags(shm::kUrgentInline);
  t.recv({.length = 1, .urgent = 1});
  t.recv({.length = 1, .urgent = 1});
  EXPECT_EQ(skipped(t.last), (Pair{}));
}

TEST(UrgentIn, AByteThatHasNotComeIsNotSkipped) {
  Script t;
  t.recv({.urgent = 1});
  t.recv({.urgent = 2});
  EXPECT_EQ(t.last.rx_urgent, 2u);
  EXPECT_EQ(skipped(t.last), (Pair{}));
}

TEST(UrgentIn, ALieOfTheReaderIsNotTaken) {
  Script t;
  t.recv({.length = 3, .urgent = 3});
  RxSummary seg;
  seg.seq = 3;
  seg.flags = wire::kAck | wire::kUrg;
  seg.urgent = 1;
  seg.app_head = 1'000'000;
  Outcome out;
  Step step{t.options, t.counters, t.pools, t.s, t.now, out};
  on_segment(step, seg);
  EXPECT_EQ(out.rx_urgent, 4u);
  EXPECT_EQ(skipped(out), (Pair{}));
}

// --- Sending ---

/// As the application's send(MSG_OOB): the last of `bytes` is urgent.
void write_urgent(Script& t, std::uint64_t bytes, std::uint32_t flags = 0) {
  AppUpdate u = t.same();
  u.tx_tail += bytes;
  u.tx_urgent = u.tx_tail;
  u.app_flags |= shm::kUrgentSent | shm::kPush | flags;
  t.app(u);
}

TEST(UrgentOut, EverySegmentBeforeItCarriesThePointer) {
  Script t;
  write_urgent(t, 2500);
  EXPECT_EQ(t.take_sent(),
            Sent({"UA 0+1000 a0 u2500", "UA 1000+1000 a0 u1500", "PUA 2000+500 a0 u500"}));
  t.write(10, shm::kNoDelay);
  EXPECT_EQ(t.take_sent(), Sent({"PA 2500+10 a0"}));
}

TEST(UrgentOut, ARetransmissionCarriesItAgainUntilItIsAcknowledged) {
  Script t;
  write_urgent(t, 1500);
  t.take_sent();
  t.recv({.ack = 1000});
  t.pass(millis(300));
  EXPECT_EQ(t.take_sent(), Sent({"PUA 1000+500 a0 u500"}));
  t.recv({.ack = 1500});
  t.write(10);
  EXPECT_EQ(t.take_sent(), Sent({"PA 1500+10 a0"}));
}

TEST(UrgentOut, WaitsNeitherForNagleNorForTheCork) {
  Script t;
  t.write(10);
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+10 a0"}));
  write_urgent(t, 1, shm::kCork);
  EXPECT_EQ(t.take_sent(), Sent({"PUA 10+1 a0 u1"}));
  t.recv({.ack = 11});
  AppUpdate u = t.same();
  u.tx_tail += 10;
  u.tx_urgent = 11;
  u.app_flags |= shm::kUrgentSent | shm::kCork;
  t.app(u);
  EXPECT_EQ(t.take_sent(), Sent({}));  // the cork holds ordinary bytes
}

TEST(UrgentOut, AFarPointerIsSaidAsFarAsItGoes) {
  Script t;
  t.s.snd_ring_bytes = 1 << 20;
  t.s.snd_wscale = 7;
  t.s.cwnd = 1000;
  write_urgent(t, 100'000);
  EXPECT_EQ(t.take_sent(), Sent({"UA 0+1000 a0 u65535"}));
  t.s.cwnd = t.s.snd_wnd = 80'000;
  t.recv({.ack = 1000});
  EXPECT_EQ(t.take_sent().back(), "UA 80000+1000 a0 u20000");
  t.pass(millis(300));  // 1000 again: the farthest pointer would stand amid what was sent
  EXPECT_EQ(t.take_sent().front(), "A 1000+1000 a0");
}

TEST(UrgentOut, AProbeOfAClosedWindowTellsOfItFirst) {
  Script t;
  t.recv({.window = 0});
  write_urgent(t, 100);
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.pass(millis(210));
  EXPECT_EQ(t.take_sent(), Sent({"UA 0+0 a0 u100", "UA -1+0 a0 u101"}));
}

TEST(UrgentOut, AcknowledgementsCarryIt) {
  Script t;
  t.recv({.window = 0});
  write_urgent(t, 100);
  t.recv({.seq = 1000, .window = 0, .length = 10});
  EXPECT_EQ(t.take_sent(), Sent({"UA 0+0 a0 u100"}));
}

TEST(UrgentOut, APointerBeyondWhatWasWrittenWaits) {
  Script t;
  AppUpdate u = t.same();
  u.tx_tail = 10;
  u.tx_urgent = 1000;
  u.app_flags = shm::kUrgentSent | shm::kPush;
  t.app(u);
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+10 a0"}));
  u.tx_tail = 1000;
  u.app_flags |= shm::kNoDelay;
  t.app(u);
  EXPECT_EQ(t.take_sent(), Sent({"PUA 10+990 a0 u990"}));
}

}  // namespace
}  // namespace toe::datapath
