#include "engine/wait_policy.h"

#include <gtest/gtest.h>

namespace toe::engine {
namespace {

using Next = WaitPolicy::Next;

TEST(WaitPolicy, SpinsThenYieldsThenSleeps) {
  WaitPolicy policy(micros(50));
  policy.on_work(1);
  EXPECT_EQ(policy.on_idle({1000}), Next::kSpin);
  EXPECT_EQ(policy.on_idle({1499}), Next::kSpin);
  EXPECT_EQ(policy.on_idle({1500}), Next::kYield);
  EXPECT_EQ(policy.on_idle({50'999}), Next::kYield);
  EXPECT_EQ(policy.on_idle({51'000}), Next::kSleep);
}

TEST(WaitPolicy, EcoNeverYields) {
  WaitPolicy policy(Nanos{0});
  policy.on_work(1);
  EXPECT_EQ(policy.on_idle({0}), Next::kSpin);
  EXPECT_EQ(policy.on_idle({500}), Next::kSleep);
}

TEST(WaitPolicy, VainYieldsBecomeRareAndSuccessBringsThemBack) {
  WaitPolicy policy(micros(50));
  Time now{0};
  std::uint32_t yielding = 0;
  for (int period = 0; period < 1000; ++period) {
    policy.on_work(1);
    now = now + micros(100);
    policy.on_idle(now);
    if (policy.on_idle(now + micros(1)) == Next::kYield) ++yielding;
    policy.on_slept();
  }
  EXPECT_GE(yielding, 1000 / (WaitPolicy::kMaxSkipped + 1));
  EXPECT_LE(yielding, 30u);
  std::uint32_t waited = 0;  // until a yield is tried again and finds work
  do {
    policy.on_work(1);
    now = now + micros(100);
    policy.on_idle(now);
    ++waited;
  } while (policy.on_idle(now + micros(1)) != Next::kYield);
  EXPECT_LE(waited, WaitPolicy::kMaxSkipped + 1);
  policy.on_work(1);
  policy.on_idle(now + micros(3));
  EXPECT_EQ(policy.on_idle(now + micros(4)), Next::kYield);
}

TEST(WaitPolicy, BusyLoadSleepsForWholeBatches) {
  WaitPolicy policy(micros(50));
  Time now{0};
  for (int period = 0; period < 200; ++period) {
    policy.on_work(32);
    now = now + micros(100);
    policy.on_idle(now);
  }
  EXPECT_TRUE(policy.busy());
  EXPECT_EQ(policy.on_idle(now + micros(1)), Next::kSleep);
  for (int period = 0; period < 200; ++period) {
    policy.on_work(1);
    now = now + micros(100);
    policy.on_idle(now);
  }
  EXPECT_FALSE(policy.busy());
  EXPECT_EQ(policy.on_idle(now + micros(1)), Next::kYield);
}

}  // namespace
}  // namespace toe::engine
