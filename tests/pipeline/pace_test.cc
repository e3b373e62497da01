// Paced flows through the whole data path.
#include <gtest/gtest.h>

#include "harness/bench.h"

namespace toe::test {
namespace {

// Connection 0 with a pace, as control gives it.
struct PacedBench : Bench {
  explicit PacedBench(std::uint64_t bytes_per_s) {
    install(0);
    flows[0].protocol.quick_acks = 100;
    flows[0].protocol.cc.pacing_bytes_per_s = bytes_per_s;
  }
  void set_pace(std::uint64_t bytes_per_s) {
    flow::Command c{};
    c.kind = flow::Command::Kind::kCongestion;
    c.flow = FlowId{0};
    c.cc = flows[0].protocol.cc;
    c.cc.pacing_bytes_per_s = bytes_per_s;
    command(c);
  }
};

TEST(Pace, SegmentsLeaveAtTheirInstants) {
  for (const std::uint64_t rate : {125ull, 1'000'000ull, 1'250'000'000ull}) {
    PacedBench b(rate);
    ASSERT_EQ(b.send(0, std::string(8000, 'x')), 8000);
    const Time start = b.now;
    for (std::int64_t i = 0; i < 8; ++i) {
      ASSERT_EQ(b.walk().size(), 1u) << i;
      ASSERT_EQ((b.now - start).ns, i * 1'000'000'000'000 / static_cast<std::int64_t>(rate));
      if (i == 7) break;
      b.now = b.pipeline.next_deadline() - Nanos{1};
      ASSERT_TRUE(b.walk().empty());
      b.now = b.pipeline.next_deadline();
    }
  }
}

TEST(Pace, AnAcknowledgementDoesNotWaitForThePaceOfData) {
  PacedBench b(125);  // 1 kbit/s: a segment takes 8 seconds
  ASSERT_EQ(b.send(0, std::string(3000, 'x')), 3000);
  ASSERT_EQ(b.walk().size(), 1u);
  b.now = b.now + seconds(1);
  b.rx({b.data(0, 0, "what the peer says")});
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload, "");
  EXPECT_EQ(sent[0].ack, 18u);
  EXPECT_TRUE(b.walk().empty());
  b.now = b.now + seconds(7);
  const auto data = b.walk();
  ASSERT_EQ(data.size(), 1u);
  EXPECT_EQ(data[0].position, 1000u);
}

TEST(Pace, AResetDoesNotWaitEither) {
  PacedBench b(125);
  ASSERT_EQ(b.send(0, std::string(3000, 'x')), 3000);
  ASSERT_EQ(b.walk().size(), 1u);
  flow::Command c{};
  c.kind = flow::Command::Kind::kAbort;
  c.flow = FlowId{0};
  c.reset = true;
  b.command(c);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_NE(sent[0].flags & wire::kRst, 0);
}

TEST(Pace, WithoutPaceDataLeavesAtOnce) {
  PacedBench b(125);
  ASSERT_EQ(b.send(0, std::string(3000, 'x')), 3000);
  ASSERT_EQ(b.walk().size(), 1u);
  b.set_pace(0);
  EXPECT_EQ(b.walk().size(), 2u);
}

TEST(Pace, TheNextConnectionOfTheRecordDoesNotWait) {
  PacedBench b(125);
  ASSERT_EQ(b.send(0, std::string(3000, 'x')), 3000);
  ASSERT_EQ(b.walk().size(), 1u);
  b.command(flow::Command::Kind::kRemove, 0);
  b.walk();
  b.line(0).tx_tail.store(0);
  b.line(0).tx_una.store(0);
  b.install(0);
  b.walk();
  b.rx({b.data(0, 0, "abc")});
  ASSERT_EQ(b.send(0, "answer"), 6);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload, "answer");
}

}  // namespace
}  // namespace toe::test
