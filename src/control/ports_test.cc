#include "control/ports.h"

#include "control/test_world.h"

namespace toe::control {
namespace {

class PortsTest : public ::testing::Test {
 protected:
  std::vector<std::uint8_t> memory = std::vector<std::uint8_t>(4096);
  FramePool frames{memory, 2048};
  RecordingWorld world{frames};
  const IpAddr any4 = IpAddr::v4(0, 0, 0, 0);
};

TEST_F(PortsTest, PortIsReleasedWhenNothingUsesIt) {
  PortUses uses(world);
  uses.open_listener(kHere, 80);
  uses.add(kHere, 80);
  uses.add(kHere, 80);
  uses.close_listener(kHere, 80);
  uses.remove(kHere, 80);
  EXPECT_TRUE(world.ports_released.empty());
  uses.remove(kHere, 80);
  EXPECT_EQ(world.ports_released.size(), 1u);
  EXPECT_TRUE(uses.empty());
}

TEST_F(PortsTest, WildcardCoversItsAddresses) {
  PortUses uses(world);
  uses.open_listener(any4, 80);
  uses.add(kHere, 80);
  uses.remove(kHere, 80);
  EXPECT_TRUE(world.ports_released.empty());
  uses.add(kHere, 80);
  uses.close_listener(any4, 80);
  EXPECT_TRUE(world.ports_released.empty());  // a connection of the port lives
  uses.remove(kHere, 80);
  EXPECT_EQ(world.ports_released.size(), 2u);
  EXPECT_TRUE(uses.empty());
}

TEST_F(PortsTest, ReopenedListenerKeepsThePort) {
  PortUses uses(world);
  uses.open_listener(any4, 80);
  uses.add(kHere, 80);
  uses.close_listener(any4, 80);
  uses.open_listener(any4, 80);
  uses.remove(kHere, 80);
  EXPECT_TRUE(world.ports_released.empty());
}

TEST_F(PortsTest, ListenerOnOneAddressIsReleasedBesideAWildcard) {
  PortUses uses(world);
  uses.open_listener(any4, 80);
  uses.open_listener(kHere, 80);
  uses.add(kHere, 80);
  uses.close_listener(kHere, 80);
  EXPECT_TRUE(world.ports_released.empty());  // its connection lives
  uses.remove(kHere, 80);
  ASSERT_EQ(world.ports_released.size(), 1u);
  EXPECT_EQ(world.ports_released[0].first, kHere);
  uses.close_listener(any4, 80);
  ASSERT_EQ(world.ports_released.size(), 2u);
  EXPECT_EQ(world.ports_released[1].first, any4);
  EXPECT_TRUE(uses.empty());
}

TEST_F(PortsTest, ConnectionsOfTheOtherFamilyDoNotHoldAWildcard) {
  const IpAddr any6{};
  const IpAddr six = IpAddr::v6("\xfd\x77\0\0\0\0\0\0\0\0\0\0\0\0\0\1");
  PortUses uses(world);
  uses.open_listener(any4, 80);
  uses.open_listener(any6, 80, true);
  uses.add(six, 80);
  uses.close_listener(any4, 80);
  ASSERT_EQ(world.ports_released.size(), 1u);
  EXPECT_EQ(world.ports_released[0].first, any4);
  uses.close_listener(any6, 80, true);
  EXPECT_EQ(world.ports_released.size(), 1u);
  uses.remove(six, 80);
  EXPECT_EQ(world.ports_released.size(), 3u);
  EXPECT_TRUE(uses.empty());
}

TEST_F(PortsTest, ConnectionsOfBothFamiliesHoldADualStackWildcard) {
  PortUses uses(world);
  uses.open_listener(IpAddr{}, 80);
  uses.add(kHere, 80);
  uses.close_listener(IpAddr{}, 80);
  EXPECT_TRUE(world.ports_released.empty());
  uses.remove(kHere, 80);
  EXPECT_EQ(world.ports_released.size(), 2u);
  EXPECT_TRUE(uses.empty());
}

TEST_F(PortsTest, PoolAsksInTimeAndGivesBackWhatItDoesNotNeed) {
  PortPool pool(world, kHere);
  const auto all = [](std::uint16_t) { return true; };
  EXPECT_EQ(pool.take(0, all), 0);
  pool.refill();
  EXPECT_EQ(world.ports_wanted, static_cast<int>(PortPool::kBatch));
  pool.refill();  // they are on their way
  EXPECT_EQ(world.ports_wanted, static_cast<int>(PortPool::kBatch));
  for (std::uint16_t p = 0; p < 700; ++p) pool.on_answer(static_cast<std::uint16_t>(20000 + p));
  std::vector<std::uint16_t> taken;
  for (std::uint32_t i = 0; i < 700; ++i) {
    const std::uint16_t p =
        pool.take(i, [&](std::uint16_t q) { return taken.empty() || q != taken.back(); });
    ASSERT_NE(p, 0);
    taken.push_back(p);
  }
  for (const std::uint16_t p : taken) pool.give_back(p);
  EXPECT_EQ(world.ports_released.size(), 700 - PortPool::kHigh);
  EXPECT_EQ(pool.size(), PortPool::kHigh);
  EXPECT_FALSE(pool.holds(world.ports_released[0].second));
}

TEST_F(PortsTest, AnUnusedPortIsFoundAmongManyUsedOnes) {
  PortPool pool(world, kHere);
  for (std::uint16_t p = 0; p < 700; ++p) pool.on_answer(static_cast<std::uint16_t>(20000 + p));
  std::vector<bool> used(700);
  const auto unused = [&](std::uint16_t p) { return !used[p - 20000u]; };
  for (std::uint32_t i = 0; i < 700; ++i) {
    const std::uint16_t p = pool.take(i * 7, unused);
    ASSERT_NE(p, 0) << i;
    used[p - 20000u] = true;
  }
  EXPECT_EQ(pool.take(0, unused), 0);
  EXPECT_EQ(pool.in_use(), 700u);
  used[333] = false;
  pool.give_back(20333);
  EXPECT_EQ(pool.take(0, unused), 20333);
}

TEST_F(PortsTest, ShedsWhatNothingUses) {
  PortPool pool(world, kHere);
  for (std::uint16_t p = 0; p < 10; ++p) pool.on_answer(static_cast<std::uint16_t>(20000 + p));
  const auto all = [](std::uint16_t) { return true; };
  const std::uint16_t used = pool.take(3, all);
  pool.shed();
  EXPECT_EQ(world.ports_released.size(), 9u);
  EXPECT_EQ(pool.size(), 1u);
  EXPECT_TRUE(pool.holds(used));
  EXPECT_FALSE(pool.idle());
  pool.give_back(used);
  EXPECT_TRUE(pool.idle());
  EXPECT_EQ(pool.take(0, all), used);
}

TEST_F(PortsTest, AKernelWithoutPortsIsAskedForOneAtATime) {
  PortPool pool(world, kHere);
  pool.refill();
  for (std::uint32_t i = 0; i < PortPool::kBatch; ++i) pool.on_answer(0);
  world.ports_wanted = 0;
  pool.refill();
  pool.refill();
  EXPECT_EQ(world.ports_wanted, 1);
  pool.on_answer(20000);  // again it has some
  pool.refill();
  EXPECT_EQ(world.ports_wanted, static_cast<int>(PortPool::kBatch));
}

}  // namespace
}  // namespace toe::control
