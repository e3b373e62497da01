// Rings of connections at rest: when they are replaced, and what that costs.
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;

class IdleTest : public ControlTest {
 protected:
  void connect() {
    serve();
    const std::uint32_t slot = context(1, 1);
    in = establish(40000);
    accept(1, slot, in, 9001);
  }
  flow::Flow& f() { return flows[index_of(in.flow)]; }
  shm::Line& l() { return line(1, f().post.line); }
  /// So many bytes went each way, everything was read and acknowledged.
  void move(std::uint64_t rx, std::uint64_t tx) {
    f().protocol.rcv_nxt += rx;
    l().rx_head = f().protocol.rcv_nxt;
    f().protocol.snd_end += tx;
    f().protocol.snd_una = f().protocol.snd_end;
    flow::Event e{};
    e.kind = flow::Event::Kind::kActive;
    e.flow = in.flow;
    event(e);
  }
  /// The data path's answer to an offer: the ring before it is free.
  void free_ring(bool rx, shm::RingRef ring) {
    auto& now_used = rx ? f().post.rx_ring[1] : f().post.tx_ring[1];
    flow::Event e{};
    e.kind = rx ? flow::Event::Kind::kRxRingFree : flow::Event::Kind::kTxRingFree;
    e.flow = in.flow;
    e.ring = now_used;
    now_used = ring;
    (rx ? f().post.rx_switch : f().post.tx_switch) =
        rx ? f().protocol.rcv_nxt : f().protocol.snd_end;
    event(e);
  }
  void wait(Nanos d) {
    for (const Time end = now + d; now < end;) pass(millis(100));
  }
  std::size_t renewed(bool rx) {
    return commanded(rx ? Kind::kOfferRxRing : Kind::kRenewTxRing).size();
  }

  flow::Command in;
};

TEST_F(IdleTest, EmptyRingsGiveTheirPagesBackAndNothingIsDoneAfterwards) {
  connect();
  move(65536, 65536);
  pass(millis(999));
  EXPECT_TRUE(commanded(Kind::kWatch).empty());
  pass(millis(2));
  EXPECT_EQ(commanded(Kind::kWatch).size(), 1u);
  pass(millis(1000));
  ASSERT_EQ(renewed(true), 1u);
  ASSERT_EQ(renewed(false), 1u);
  EXPECT_EQ(world.returned, 0u) << "nobody has let go of them yet";
  free_ring(true, commanded(Kind::kOfferRxRing)[0].ring);
  free_ring(false, commanded(Kind::kRenewTxRing)[0].ring);
  EXPECT_EQ(world.returned, 2u * 16384);
  EXPECT_EQ(control->next_deadline(), Time::never()) << "an idle connection costs nothing";
  wait(seconds(100));
  EXPECT_EQ(world.returned, 2u * 16384);
  EXPECT_EQ(control->counters().rings_renewed, 2u);
}

TEST_F(IdleTest, ABusyConnectionIsAskedAboutOncePerSecondAndKeepsItsRings) {
  connect();
  for (int i = 0; i < 50; ++i) {
    pass(millis(1100));
    EXPECT_EQ(commanded(Kind::kWatch).size(), static_cast<std::size_t>(i) + 1);
    move(1000, 1000);
  }
  EXPECT_EQ(renewed(true) + renewed(false), 0u);
}

TEST_F(IdleTest, OnePageIsKept) {
  connect();
  move(100, 0);
  wait(seconds(3));
  EXPECT_EQ(renewed(true) + renewed(false), 0u);
  move(100, 100);  // one page each: one of them goes
  wait(seconds(3));
  EXPECT_EQ(renewed(true), 0u);
  ASSERT_EQ(renewed(false), 1u);
  free_ring(false, commanded(Kind::kRenewTxRing)[0].ring);
  move(4000, 0);  // a second page of the receive ring
  wait(seconds(3));
  EXPECT_EQ(renewed(true), 1u);
}

TEST_F(IdleTest, BytesInTheRingsAreWaitedFor) {
  connect();
  move(65536, 65536);
  l().rx_head = 65000;
  f().protocol.snd_una -= 1;
  wait(seconds(3));
  EXPECT_EQ(renewed(true) + renewed(false), 0u);
  EXPECT_GE((control->next_deadline() - now).ns, seconds(20).ns) << "not every second";
  l().rx_head = 65536;
  f().protocol.snd_una += 1;
  wait(seconds(31));
  EXPECT_EQ(renewed(true), 1u);
  EXPECT_EQ(renewed(false), 1u);
}

TEST_F(IdleTest, BehindTheFinAReadRingIsGivenBackToo) {
  connect();
  move(65536, 0);
  f().protocol.rcv_fin = f().protocol.rcv_nxt++;
  wait(millis(2200));
  ASSERT_EQ(renewed(true), 1u);
  free_ring(true, commanded(Kind::kOfferRxRing)[0].ring);
  EXPECT_EQ(world.returned, 16384u);
}

TEST_F(IdleTest, AFinBehindAGapKeepsTheRing) {
  connect();
  move(65536, 0);
  f().protocol.rcv_fin = f().protocol.rcv_nxt + 10;
  wait(seconds(40));
  EXPECT_EQ(renewed(true), 0u);
}

TEST_F(IdleTest, ARingWithPagesOfEarlierUseIsWashedBeforeItIsOffered) {
  serve();
  const std::uint32_t slot = context(1, 1);
  const auto gone = establish(40001);
  accept(1, slot, gone, 9000);
  const std::uint32_t gone_line = flows[index_of(gone.flow)].post.line;
  in = establish(40000);
  accept(1, slot, in, 9001);
  release(1, 1, gone_line);
  close_flow(gone.flow, flow::Event::Close::kDone);  // its two rings lie about with their pages
  move(65536, 0);
  wait(millis(2200));
  ASSERT_EQ(renewed(true), 1u);
  EXPECT_EQ(world.returned, 16384u) << "one of the two, before it was offered";
}

TEST_F(IdleTest, AConnectionThatEndsWhileItsRingsAreReplacedLeavesNothing) {
  connect();
  move(65536, 65536);
  wait(millis(2200));
  ASSERT_EQ(renewed(true), 1u);
  close_flow(in.flow, flow::Event::Close::kDone);
  leave(1);
  EXPECT_EQ(control->flows_in_use(), 0u);
  EXPECT_EQ(world.freed, std::vector<SegmentId>{SegmentId{1}});
  EXPECT_TRUE(control->quiet());
}

TEST_F(IdleTest, ASegmentStaysUntilThePagesOfItsRingsAreReturned) {
  connect();
  move(65536, 0);
  wait(millis(2200));
  const auto offer = commanded(Kind::kOfferRxRing);
  ASSERT_EQ(offer.size(), 1u);
  flow::Event e{};
  e.kind = flow::Event::Kind::kRxRingFree;
  e.flow = in.flow;
  e.ring = f().post.rx_ring[1];
  ASSERT_TRUE(events.push(e));
  control->poll(now);
  ASSERT_EQ(world.returning.size(), 1u);
  const auto late = std::exchange(world.returning, {});
  close_flow(in.flow, flow::Event::Close::kDone);
  leave(1);
  EXPECT_TRUE(world.freed.empty());
  world.returning = late;
  poll();
  EXPECT_EQ(world.freed.size(), 1u);
}

}  // namespace
}  // namespace toe::control
