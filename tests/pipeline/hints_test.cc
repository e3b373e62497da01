// Hints, doorbells and programs that lie.
#include <gtest/gtest.h>

#include "harness/bench.h"
#include "harness/random.h"

namespace toe::test {
namespace {

using Kind = flow::Event::Kind;

TEST(Hints, OneIsOutstandingPerLineAndContext) {
  Bench b;
  b.install(0);
  b.take_hints();
  for (std::uint64_t i = 0; i < 5; ++i) b.rx({b.data(0, i * 3, "abc")});
  EXPECT_EQ(b.take_hints().size(), 1u);
  b.rx({b.data(0, 15, "abc")});
  EXPECT_EQ(b.take_hints().size(), 1u) << "taken, so the next change is told again";
}

TEST(Hints, AContextIsReportedOpenBeforeItMayBeUsed) {
  Bench b;
  b.take_events();
  b.open_context(7, 12);
  const auto events = b.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, flow::Event::Kind::kContextOpened);
  EXPECT_EQ(events[0].slot, 7u);
}

TEST(Hints, OnlyInterestedContextsAreTold) {
  Bench b;
  b.install(0);
  b.take_hints();
  b.line(0).rx_interest = 0;
  b.rx({b.data(0, 0, "abc")});
  EXPECT_TRUE(b.take_hints().empty());
}

TEST(Hints, NoChangeIsEverLost) {
  Bench b;
  for (std::uint32_t n = 0; n < 16; ++n) b.install(n);
  Random random(7);
  std::uint64_t sent[16] = {}, seen[16] = {};
  for (int i = 0; i < 5000; ++i) {
    const auto n = static_cast<std::uint32_t>(random.below(16));
    if (sent[n] - seen[n] < 1000) {
      b.rx({b.data(n, sent[n], "xy")});
      sent[n] += 2;
    }
    if (!random.chance(0.3)) continue;
    for (const std::uint32_t line : b.take_hints()) seen[line - 1] += b.recv(line - 1).size();
    for (std::uint32_t k = 0; k < 16; ++k) ASSERT_EQ(seen[k], sent[k]) << "no hint for line " << k;
    b.walk();
  }
}

TEST(Hints, EveryPostIsSeen) {
  Bench b;
  for (std::uint32_t n = 0; n < 100; ++n) b.install(n);
  for (std::uint32_t n = 0; n < 100; ++n) b.send(n, "hi");
  EXPECT_TRUE(b.pipeline.posted());
  EXPECT_EQ(b.walk().size(), 100u);
  EXPECT_FALSE(b.pipeline.posted());
}

TEST(Hints, AStaleOneIsCountedAndHarmless) {
  Bench b;
  b.lane.post(77);
  b.walk();
  EXPECT_EQ(b.pipeline.counters().drops.stale_hint.value(), 1u);
}

TEST(Hints, ClosesAndAcceptsBecomeEvents) {
  Bench b;
  b.install(0);
  b.take_events();
  b.lane.post(1, shm::HintOp::kAccept);
  b.connection(0).close(true);
  b.walk();
  const auto events = b.take_events();
  ASSERT_TRUE(Bench::has(events, Kind::kHold));
  ASSERT_TRUE(Bench::has(events, Kind::kRelease));
  EXPECT_TRUE(events.back().reset);
}

// --- Doorbells ---

TEST(Doorbells, RingOnlyForSleepersAndOncePerSleep) {
  Bench b;
  b.install(0);
  b.take_hints();
  shm::Context& context = b.segment.view().context(Bench::kSlot);
  b.rx({b.data(0, 0, "a")});
  EXPECT_TRUE(b.pipeline.doorbells().empty()) << "awake";
  b.take_hints();
  shm::fall_asleep(context.sleep_epoch);
  b.rx({b.data(0, 1, "b")});
  ASSERT_EQ(b.pipeline.doorbells().size(), 1u);
  EXPECT_EQ(b.pipeline.doorbells()[0], 11u);
  b.pipeline.clear_doorbells();
  b.take_hints();  // without waking up
  b.rx({b.data(0, 2, "c")});
  EXPECT_TRUE(b.pipeline.doorbells().empty()) << "rung in this sleep already";
  shm::wake_up(context.sleep_epoch);
  b.take_hints();
  shm::fall_asleep(context.sleep_epoch);
  b.rx({b.data(0, 3, "d")});
  EXPECT_EQ(b.pipeline.doorbells().size(), 1u);
}

TEST(Doorbells, TheEngineIsRungOnlyWhenItSleeps) {
  Bench b;
  b.install(0);
  b.send(0, "a");
  EXPECT_EQ(b.link.rings, 0);
  b.walk();
  shm::fall_asleep(b.page.sleep_epoch);
  b.send(0, "b");
  EXPECT_EQ(b.link.rings, 1);
}

/// Contexts that never sleep twice in one epoch, as a program without rules might: each hint then
/// asks for a doorbell.
TEST(Doorbells, MoreSleepersThanRoomAreRungLater) {
  Bench b;
  for (std::uint32_t slot = 2; slot < shm::kContexts; ++slot) b.open_context(slot, 100 + slot);
  for (std::uint32_t n = 0; n < 60; ++n) {
    b.install(n);
    b.line(n).rx_interest = ~std::uint64_t{0};
  }
  b.pipeline.clear_doorbells();
  std::size_t rung = 0;
  std::uint32_t epoch = 1;
  for (std::uint64_t round = 0; round < 30; ++round) {
    epoch += 2;
    for (std::uint32_t slot = 1; slot < shm::kContexts; ++slot) {
      b.segment.view().context(slot).sleep_epoch = epoch;
    }
    std::vector<Frame> burst;
    for (std::uint32_t n = 0; n < 60; ++n) {
      b.line(n).hinted_app = 0;
      burst.push_back(b.data(n, round, "x"));
    }
    b.rx(burst);  // the doorbells are not taken between bursts
  }
  for (int i = 0; i < 100; ++i) {
    rung += b.pipeline.doorbells().size();
    b.pipeline.clear_doorbells();
    b.pipeline.hc(b.now);
  }
  EXPECT_GE(rung, shm::kContexts - 1) << "each sleeper at least once";
  EXPECT_EQ(b.pipeline.counters().misbehaved.value(), 0u);
}

// --- Floods ---

/// A program that posts without end what means nothing; two others that post once.
class Flood : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kNoLine = 77;
  static constexpr std::uint32_t kNeighbour = 2;  ///< a context of the same segment

  Flood() : other_segment(4) {
    flow::Command add{};
    add.kind = flow::Command::Kind::kAddSegment;
    add.segment = SegmentId{4};
    add.base = other_segment.base();
    b.command(add);
    open(SegmentId{4}, Bench::kSlot);
    open(SegmentId{3}, kNeighbour);
    other_mapped = {other_segment.view(), 4, 0};
    other.open(&other_mapped, Bench::kSlot, &b.bell);
    neighbour.open(&b.mapped, kNeighbour, &b.bell);
    b.take_events();
  }
  void open(SegmentId segment, std::uint32_t slot) {
    flow::Command c{};
    c.kind = flow::Command::Kind::kOpenContext;
    c.segment = segment;
    c.slot = slot;
    c.client = ClientId{20};
    b.command(c);
  }
  /// Without the marks that keep libtoe from saying a thing twice.
  void flood(std::uint32_t line, shm::HintOp op, int count = 10'000) {
    const shm::SegmentView view = b.segment.view();
    std::atomic<std::uint32_t>& tail = view.context(Bench::kSlot).engine_tail;
    for (int i = 0; i < count; ++i) {
      view.engine_queue(Bench::kSlot)[tail++ % shm::kQueueEntries] = shm::make_hint(op, line);
    }
    view.header().posted |= std::uint64_t{1} << Bench::kSlot;
  }
  /// How many HC walks it takes until both others are heard.
  int walks_until_heard() {
    other.post(kNoLine, shm::HintOp::kClose);
    neighbour.post(kNoLine, shm::HintOp::kClose);
    std::size_t heard = 0;
    int walks = 0;
    for (; walks < 50 && heard < 2; ++walks) {
      b.pipeline.hc(b.now);
      for (const flow::Event& e : b.take_events()) {
        heard += e.kind == Kind::kRelease && e.client == ClientId{20} ? 1 : 0;
      }
    }
    EXPECT_EQ(heard, 2u);
    return walks;
  }

  Bench b;
  PlainSegment other_segment;
  libtoe::MappedSegment other_mapped;
  libtoe::Lane other, neighbour;
};

TEST_F(Flood, OfHintsForNoFlowLetsOthersBeHeard) {
  flood(kNoLine, shm::HintOp::kLook);
  EXPECT_LE(walks_until_heard(), 4);
}

TEST_F(Flood, OfHintsForAFlowLetsOthersBeHeard) {
  b.install(0);
  b.take_events();
  flood(1, shm::HintOp::kLook);
  EXPECT_LE(walks_until_heard(), 4);
}

// --- Lies ---

void expect_closed(Bench& b) {
  const auto events = b.take_events();
  EXPECT_TRUE(Bench::has(events, Kind::kMisbehaved));
  EXPECT_FALSE(Bench::has(events, Kind::kContextClosed)) << "control has not asked for it";
  EXPECT_EQ(b.pipeline.counters().misbehaved.value(), 1u);
  b.walk();
  EXPECT_EQ(b.pipeline.counters().misbehaved.value(), 1u) << "closed, so not looked at again";
  flow::Command close{};
  close.kind = flow::Command::Kind::kCloseContext;
  close.segment = SegmentId{3};
  close.slot = Bench::kSlot;
  b.command(close);
  const auto answer = b.take_events();
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].kind, Kind::kContextClosed);
  EXPECT_EQ(answer[0].slot, Bench::kSlot);
}

TEST(Lies, AQueueIndexFromNowhereClosesTheContext) {
  Bench b;
  b.install(0);
  b.take_events();
  b.segment.view().context(Bench::kSlot).engine_tail = 0x40000000;
  b.segment.view().header().posted = ~std::uint64_t{0};
  b.walk();
  expect_closed(b);
}

TEST(Lies, HintsOfNoLineOrOperationCloseTheContext) {
  for (const std::uint32_t entry : {0u, shm::kLines, 0x04000001u, 0xffffffffu}) {
    Bench b;
    b.install(0);
    b.take_events();
    const shm::SegmentView view = b.segment.view();
    view.engine_queue(Bench::kSlot)[0] = entry;
    view.context(Bench::kSlot).engine_tail = 1;
    view.header().posted = 1u << Bench::kSlot;
    b.walk();
    expect_closed(b);
  }
}

TEST(Lies, PositionsThatCannotBeTrueResetTheConnection) {
  Bench b;
  b.install(0);
  b.take_events();
  b.line(0).tx_tail = 1'000'000;
  b.lane.post(1);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_NE(sent[0].flags & wire::kRst, 0);
  const auto events = b.take_events();
  EXPECT_TRUE(Bench::has(events, Kind::kMisbehaved));
  EXPECT_TRUE(Bench::has(events, Kind::kClosed));
}

TEST(Lies, ScribblingOverTheEnginesWordsHurtsNobodyElse) {
  Bench b;
  b.install(0);
  b.install(1);
  b.line(0).rx_tail = 0xdeadbeef;
  b.line(0).rx_ring[0] = 0xffffffff;
  b.line(0).tx_ring[0] = 0xffffffff;
  b.open_context(2, 12);
  b.segment.view().context(2).engine_head = 12345;
  b.segment.view().context(2).app_tail = 54321;
  b.rx({b.data(0, 0, "abc"), b.data(1, 0, "def")});
  EXPECT_EQ(b.recv(1), "def");
  EXPECT_EQ(b.send(1, "ghi"), 3);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload, "ghi");
}

TEST(Lies, AnAppQueueThatSeemsFullClosesTheContext) {
  Bench b;
  b.install(0);
  b.take_hints();
  b.take_events();
  shm::Context& context = b.segment.view().context(Bench::kSlot);
  context.app_head = context.app_tail.load() - shm::kQueueEntries;  // no hint is ever taken
  b.rx({b.data(0, 0, "abc")});
  EXPECT_TRUE(Bench::has(b.take_events(), Kind::kMisbehaved));
  b.line(0).hinted_app = 0;
  b.rx({b.data(0, 3, "def")});
  EXPECT_EQ(b.pipeline.counters().misbehaved.value(), 1u) << "closed, so not told again";
  EXPECT_FALSE(Bench::has(b.take_events(), Kind::kContextClosed)) << "control has not asked for it";
}

}  // namespace
}  // namespace toe::test
