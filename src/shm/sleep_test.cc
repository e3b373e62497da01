#include "shm/sleep.h"

#include <gtest/gtest.h>

namespace toe::shm {
namespace {

TEST(Sleep, EpochIsOddWhileAsleep) {
  std::atomic<std::uint32_t> epoch{4};
  fall_asleep(epoch);
  EXPECT_EQ(epoch.load(), 5u);
  wake_up(epoch);
  EXPECT_EQ(epoch.load(), 6u);
  wake_up(epoch);
  EXPECT_EQ(epoch.load(), 6u);
}

TEST(Ringer, RingsOncePerSleep) {
  std::atomic<std::uint32_t> epoch{0};
  Ringer ringer;
  EXPECT_FALSE(ringer.must_ring(epoch));
  fall_asleep(epoch);
  EXPECT_TRUE(ringer.must_ring(epoch));
  EXPECT_FALSE(ringer.must_ring(epoch));
  wake_up(epoch);
  EXPECT_FALSE(ringer.must_ring(epoch));
  fall_asleep(epoch);
  EXPECT_TRUE(ringer.must_ring(epoch));
}

TEST(Ringer, ProcessesRingForThemselves) {
  std::atomic<std::uint32_t> epoch{0};
  Ringer first;
  Ringer second;
  fall_asleep(epoch);
  EXPECT_TRUE(first.must_ring(epoch));
  EXPECT_TRUE(second.must_ring(epoch));
}

}  // namespace
}  // namespace toe::shm
