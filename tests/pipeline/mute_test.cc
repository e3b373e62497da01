// Connections whose address or route is gone for a while: what they would send counts as lost.
#include <gtest/gtest.h>

#include "harness/bench.h"

namespace toe::test {
namespace {

using Kind = flow::Command::Kind;

void set_mute(Bench& b, bool mute) {
  wire::HeaderTemplate header = b.flows[0].post.header;
  header.mute = mute;
  flow::Command command{};
  command.kind = Kind::kSetHeader;
  command.flow = FlowId{0};
  command.header = &header;
  b.command(command);
}

std::uint64_t muted(const Bench& b) { return b.pipeline.counters().drops.mute.value(); }

TEST(Mute, NothingLeavesUntilTheHeaderIsGoodAgain) {
  Bench b;
  b.install(0);
  set_mute(b, true);
  EXPECT_EQ(b.send(0, "value"), 5);
  EXPECT_TRUE(b.walk().empty());
  EXPECT_EQ(muted(b), 1u);
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
  EXPECT_EQ(b.pipeline.held().tickets, 0u);

  // The time-out comes as for a loss, and the second attempt arrives.
  set_mute(b, false);
  EXPECT_TRUE(b.walk().empty()) << "nothing is due by itself";
  b.now = b.now + seconds(2);
  b.command(Kind::kTimer, 0);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload, "value");
  EXPECT_EQ(sent[0].position, 0u);
}

TEST(Mute, AWindowOfDataIsBoundedByTheWindow) {
  Bench b;
  b.install(0);
  set_mute(b, true);
  EXPECT_EQ(b.send(0, std::string(30'000, 'x')), 30'000);
  EXPECT_TRUE(b.walk().empty());
  EXPECT_EQ(muted(b), 10u) << "cwnd holds ten segments";
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
}

TEST(Mute, AResetIsNotSentEither) {
  Bench b;
  b.install(0);
  set_mute(b, true);
  flow::Command abort{};
  abort.kind = Kind::kAbort;
  abort.flow = FlowId{0};
  abort.error = ECONNABORTED;
  abort.reset = true;
  b.command(abort);
  b.command(Kind::kRemove, 0);
  EXPECT_TRUE(b.walk().empty());
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
  EXPECT_EQ(b.pipeline.held().tickets, 0u);
}

}  // namespace
}  // namespace toe::test
