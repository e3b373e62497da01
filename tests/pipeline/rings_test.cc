// Rings end to end: switches with real bytes, and the rings of flows at rest.
#include <gtest/gtest.h>

#include "harness/bench.h"
#include "harness/pattern.h"

namespace toe::test {
namespace {

using Kind = flow::Event::Kind;
using CommandKind = flow::Command::Kind;

// --- Ring switches with real bytes ---

TEST(RingSwitch, ReceivedBytesAreReadAcrossIt) {
  Bench b;
  b.install(0);
  const Pattern pattern(9);
  const auto piece = [&](std::uint64_t at, std::size_t n) {
    return std::string(reinterpret_cast<const char*>(pattern.at(at)), n);
  };
  b.rx({b.data(0, 0, piece(0, 1000)), b.data(0, 2000, piece(2000, 1000))});
  flow::Command offer{};
  offer.kind = flow::Command::Kind::kOfferRxRing;
  offer.flow = FlowId{0};
  offer.ring = Bench::ring(20, 16);
  b.command(offer);
  b.rx({b.data(0, 1000, piece(1000, 1000)), b.data(0, 3000, piece(3000, 1400)),
        b.data(0, 4400, piece(4400, 1400))});
  EXPECT_EQ(b.recv(0), piece(0, 5800));
  b.walk();
  EXPECT_TRUE(Bench::has(b.take_events(), Kind::kRxRingFree));
}

TEST(RingSwitch, SentBytesAreTakenAcrossIt) {
  Bench b;
  b.install(0);
  const Pattern pattern(10);
  const auto piece = [&](std::uint64_t at, std::size_t n) {
    return std::string(reinterpret_cast<const char*>(pattern.at(at)), n);
  };
  ASSERT_EQ(b.send(0, piece(0, 16384)), 16384);
  flow::Command offer{};
  offer.kind = flow::Command::Kind::kOfferTxRing;
  offer.flow = FlowId{0};
  offer.ring = Bench::ring(20, 16);
  b.command(offer);
  ASSERT_EQ(b.send(0, piece(16384, 20000)), 20000);
  std::string all;
  for (int i = 0; i < 20; ++i) {
    for (const Bench::Sent& s : b.walk()) all += s.payload;
    b.rx({b.data(0, 0, "", all.size())});
  }
  EXPECT_EQ(all, piece(0, 36384));
  EXPECT_TRUE(Bench::has(b.take_events(), Kind::kTxRingFree));
}

// --- Flows at rest ---

flow::Command renewal(CommandKind kind, shm::RingRef ring) {
  flow::Command c{};
  c.kind = kind;
  c.flow = FlowId{0};
  c.ring = ring;
  return c;
}

TEST(Rest, MovingBytesAreReportedOnceAfterEachWatch) {
  Bench b;
  b.install(0);
  b.rx({b.data(0, 0, "abc")});
  EXPECT_FALSE(Bench::has(b.take_events(), Kind::kActive)) << "nobody asked";
  b.command(CommandKind::kWatch, 0);
  b.rx({b.data(0, 0, "", 0)});
  EXPECT_FALSE(Bench::has(b.take_events(), Kind::kActive)) << "no byte moved";
  b.rx({b.data(0, 3, "def")});
  EXPECT_TRUE(Bench::has(b.take_events(), Kind::kActive));
  b.rx({b.data(0, 6, "ghi")});
  EXPECT_FALSE(Bench::has(b.take_events(), Kind::kActive));
  b.command(CommandKind::kWatch, 0);
  b.send(0, "xyz");
  b.walk();
  b.rx({b.data(0, 9, "", 3)});
  EXPECT_TRUE(Bench::has(b.take_events(), Kind::kActive)) << "acknowledged bytes move as well";
}

TEST(Rest, AnEmptyReceiveRingIsFreeAtOnceAlsoWithoutAHint) {
  Bench b;
  b.install(0);
  b.rx({b.data(0, 0, "abc")});
  EXPECT_EQ(b.recv(0), "abc");  // far from a quarter of the ring: no hint
  b.take_events();
  b.command(renewal(CommandKind::kOfferRxRing, Bench::ring(20)));
  const auto events = b.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, Kind::kRxRingFree);
  EXPECT_EQ(events[0].ring, Bench::ring(0));
  b.rx({b.data(0, 3, "defg")});
  EXPECT_EQ(std::memcmp(b.segment.view().ring(Bench::ring(20)) + 3, "defg", 4), 0);
  EXPECT_EQ(b.recv(0), "defg");
}

TEST(Rest, AReceiveRingBehindTheFinIsFreeAtOnceAndTheStreamHasEnded) {
  Bench b;
  b.install(0);
  wire::TcpSegmentHeader h = Bench::header(0);
  h.flags |= wire::kFin;
  b.rx({b.frame(h, "abc")});
  EXPECT_EQ(b.recv(0), "abc");
  b.take_events();
  b.command(renewal(CommandKind::kOfferRxRing, Bench::ring(20)));
  const auto events = b.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, Kind::kRxRingFree);
  EXPECT_EQ(events[0].ring, Bench::ring(0));
  EXPECT_EQ(b.recv(0), "");
  EXPECT_NE(b.line(0).flags & shm::kRxFin, 0u);
  b.send(0, "xyz");
  EXPECT_EQ(b.walk().size(), 1u) << "our half is as it was";
}

TEST(Rest, AnEmptySendRingIsFreeAtOnceAndTheNextWriteGoesToTheNewOne) {
  Bench b;
  b.install(0);
  b.send(0, "abc");
  b.walk();
  b.rx({b.data(0, 0, "", 3)});
  b.take_events();
  b.command(renewal(CommandKind::kRenewTxRing, Bench::ring(20)));
  auto events = b.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, Kind::kTxRingFree);
  EXPECT_EQ(events[0].ring, Bench::ring(1));
  EXPECT_TRUE(b.walk().empty());
  std::memset(b.segment.view().ring(Bench::ring(1)), 0xdd, 1u << Bench::kRingLog2);
  b.send(0, "defg");
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload, "defg");
  b.rx({b.data(0, 0, "", 7)});
  for (const auto& e : b.take_events()) EXPECT_NE(e.kind, Kind::kTxRingFree) << "was free before";
  b.send(0, std::string(20'000, 'x'));
  EXPECT_EQ(b.line(0).tx_tail, 7u + 16'384) << "the whole new ring";
  EXPECT_FALSE(Bench::has(b.take_events(), Kind::kMisbehaved));
}

TEST(Rest, ASendRingUnderAWriterOrWithBytesIsFreeLater) {
  for (const bool writing : {false, true}) {
    Bench b;
    b.install(0);
    if (writing) {
      b.line(0).tx_writing = 1;
    } else {
      b.send(0, "abc");  // not taken in yet
    }
    b.command(renewal(CommandKind::kRenewTxRing, Bench::ring(20)));
    EXPECT_FALSE(Bench::has(b.take_events(), Kind::kTxRingFree));
    b.line(0).tx_writing = 0;
    b.send(0, "defg");
    std::string all;
    for (const auto& s : b.walk()) all += s.payload;
    EXPECT_EQ(all, writing ? "defg" : "abcdefg");
    b.rx({b.data(0, 0, "", all.size())});
    EXPECT_TRUE(Bench::has(b.take_events(), Kind::kTxRingFree));
  }
}

TEST(Rest, BytesWrittenIntoARingThatWasTakenBackAreALie) {
  Bench b;
  b.install(0);
  b.command(renewal(CommandKind::kRenewTxRing, Bench::ring(20)));
  ASSERT_TRUE(Bench::has(b.take_events(), Kind::kTxRingFree));
  b.line(0).tx_tail = 3;
  b.lane.post(1);
  b.walk();
  EXPECT_TRUE(Bench::has(b.take_events(), Kind::kMisbehaved));
}

}  // namespace
}  // namespace toe::test
