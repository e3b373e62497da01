// Order points, delayed-ACK queue, order of a burst.
#include "datapath/order.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "datapath/delayed_acks.h"
#include "datapath/sequencer.h"

namespace toe::datapath {
namespace {

constexpr Time kStart{seconds(1000).ns};

TEST(Sequencer, GivesItemsBackInTheOrderOfTheirTickets) {
  Sequencer<int> s;
  std::mt19937 random(5);
  int next_in = 0, next_out = 0;
  for (int round = 0; round < 100; ++round) {
    std::vector<std::pair<std::uint32_t, int>> items;
    for (int i = 0; i < 100; ++i) items.emplace_back(s.take(), next_in++);
    std::shuffle(items.begin(), items.end(), random);
    for (const auto& [ticket, item] : items) s.put(ticket, item);
    int item = 0;
    while (s.pop(item)) EXPECT_EQ(item, next_out++);
    EXPECT_EQ(s.in_flight(), 0u);
  }
  EXPECT_EQ(next_in, next_out);
}

TEST(Sequencer, HoldsBackWhatIsBehindAMissingTicket) {
  Sequencer<int> s;
  const std::uint32_t first = s.take(), second = s.take();
  s.put(second, 2);
  int item = 0;
  EXPECT_FALSE(s.pop(item));
  s.put(first, 1);
  EXPECT_TRUE(s.pop(item));
  EXPECT_EQ(item, 1);
  EXPECT_TRUE(s.pop(item));
  EXPECT_EQ(item, 2);
}

TEST(Order, IsAPermutationForEverySeed) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    Order order(seed);
    for (std::size_t n = 0; n <= kBurst; ++n) {
      const auto span = order.of(n);
      std::vector<std::uint16_t> got(span.begin(), span.end());
      std::sort(got.begin(), got.end());
      std::vector<std::uint16_t> all(n);
      std::iota(all.begin(), all.end(), std::uint16_t{0});
      EXPECT_EQ(got, all);
    }
  }
}

TEST(DelayedAcks, FallDueInOrderAndOncePerFlow) {
  DelayedAcks d(3);
  EXPECT_EQ(d.next_deadline(), Time::never());
  d.push(FlowId{1}, kStart + millis(40));
  d.push(FlowId{0}, kStart + millis(50));
  d.push(FlowId{1}, kStart + millis(60));
  EXPECT_EQ(d.next_deadline(), kStart + millis(40));
  EXPECT_EQ(d.pop(kStart + millis(39)), kNoFlow);
  EXPECT_EQ(d.pop(kStart + millis(40)), FlowId{1});
  EXPECT_EQ(d.pop(kStart + millis(60)), FlowId{0});
  EXPECT_EQ(d.pop(kStart + millis(99)), kNoFlow);
}

TEST(DelayedAcks, TakeAllFlowsAtOnceManyTimes) {
  DelayedAcks d(8);
  for (int round = 0; round < 5; ++round) {
    for (std::uint32_t f = 0; f < 8; ++f) d.push(FlowId{f}, kStart);
    for (std::uint32_t f = 0; f < 8; ++f) EXPECT_EQ(d.pop(kStart), FlowId{f});
  }
}

}  // namespace
}  // namespace toe::datapath
