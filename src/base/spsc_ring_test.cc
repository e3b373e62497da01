#include "base/spsc_ring.h"

#include <thread>

#include <gtest/gtest.h>

namespace toe {
namespace {

TEST(SpscRing, FullRefusesAndChangesNothing) {
  SpscRing<int> ring(4);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.push(i));
  EXPECT_FALSE(ring.push(99));
  EXPECT_EQ(ring.size(), ring.capacity());
  for (int i = 0; i < 4; ++i) {
    int value = -1;
    ASSERT_TRUE(ring.pop(value));
    EXPECT_EQ(value, i);
  }
  int value = 7;
  EXPECT_FALSE(ring.pop(value));
  EXPECT_EQ(value, 7);
  EXPECT_TRUE(ring.empty());
}

TEST(SpscRing, KeepsOrderAcrossManyTurns) {
  SpscRing<std::uint64_t> ring(8);
  std::uint64_t next_in = 0;
  std::uint64_t next_out = 0;
  for (std::uint64_t round = 0; round < 1000; ++round) {
    for (std::uint64_t i = 0; i <= round % 8; ++i) ASSERT_TRUE(ring.push(next_in++));
    std::uint64_t value;
    while (ring.pop(value)) ASSERT_EQ(value, next_out++);
  }
  EXPECT_EQ(next_in, next_out);
}

TEST(SpscRing, TwoThreadsLoseNothing) {
  constexpr std::uint64_t kCount = 100'000;
  struct Wide {
    std::uint64_t a, b;
  };
  SpscRing<Wide> ring(16);
  std::thread producer([&ring] {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      while (!ring.push({i, ~i})) std::this_thread::yield();
    }
  });
  std::uint64_t wrong = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    Wide w;
    while (!ring.pop(w)) std::this_thread::yield();
    if (w.a != i || w.b != ~i) ++wrong;
  }
  producer.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_TRUE(ring.empty());
}

TEST(SpscRingDeathTest, CapacityMustBeAPowerOfTwo) {
  EXPECT_DEATH(SpscRing<int>(3), "capacity");
  EXPECT_DEATH(SpscRing<int>(0), "capacity");
}

}  // namespace
}  // namespace toe
