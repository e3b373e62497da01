#include "flow/table.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

namespace toe::flow {
namespace {

FlowKey key_of(std::uint32_t n) {
  FlowKey key;
  key.local = IpAddr::v4(10, 0, 0, 1);
  key.remote = IpAddr::v4(10, 0, static_cast<std::uint8_t>(n >> 8), static_cast<std::uint8_t>(n));
  key.local_port = 80;
  key.remote_port = static_cast<std::uint16_t>(n);
  return key;
}

TEST(FlowTable, FindsWhatWasInsertedAndOnlyThat) {
  FlowTable table(4, {1, 2});
  EXPECT_TRUE(table.insert(key_of(1), FlowId{7}));
  EXPECT_EQ(table.find(key_of(1)), FlowId{7});
  EXPECT_EQ(table.find(key_of(2)), kNoFlow);
  FlowKey swapped = key_of(1);
  std::swap(swapped.local, swapped.remote);
  std::swap(swapped.local_port, swapped.remote_port);
  EXPECT_EQ(table.find(swapped), kNoFlow);
}

TEST(FlowTable, RefusesDuplicatesAndOverflow) {
  FlowTable table(2, {1, 2});
  EXPECT_TRUE(table.insert(key_of(1), FlowId{1}));
  EXPECT_FALSE(table.insert(key_of(1), FlowId{2}));
  EXPECT_TRUE(table.insert(key_of(2), FlowId{2}));
  EXPECT_FALSE(table.insert(key_of(3), FlowId{3}));
  EXPECT_TRUE(table.erase(key_of(1)));
  EXPECT_FALSE(table.erase(key_of(1)));
  EXPECT_TRUE(table.insert(key_of(3), FlowId{3}));
}

TEST(FlowTable, AgreesWithAMapUnderRandomOperations) {
  constexpr std::uint32_t kFlows = 500;
  FlowTable table(kFlows, {11, 22});
  std::map<std::uint32_t, FlowId> model;
  std::mt19937 random(4711);
  for (int i = 0; i < 50'000; ++i) {
    const auto n = static_cast<std::uint32_t>(random() % (2 * kFlows));
    if (random() % 2 == 0) {
      const bool fits = model.count(n) == 0 && model.size() < kFlows;
      EXPECT_EQ(table.insert(key_of(n), FlowId{n}), fits);
      if (fits) model[n] = FlowId{n};
    } else {
      EXPECT_EQ(table.erase(key_of(n)), model.erase(n) == 1);
    }
    const auto probe = static_cast<std::uint32_t>(random() % (2 * kFlows));
    const auto it = model.find(probe);
    EXPECT_EQ(table.find(key_of(probe)), it == model.end() ? kNoFlow : it->second);
  }
  EXPECT_EQ(table.size(), model.size());
}

TEST(HashOf, DependsOnSecretAndEveryField) {
  const FlowKey key = key_of(1);
  const std::uint64_t hash = hash_of(key, {1, 2});
  EXPECT_NE(hash, hash_of(key, {1, 3}));
  FlowKey other = key;
  other.local_port ^= 1;
  EXPECT_NE(hash, hash_of(other, {1, 2}));
  other = key;
  other.local.bytes[0] ^= 1;
  EXPECT_NE(hash, hash_of(other, {1, 2}));
}

}  // namespace
}  // namespace toe::flow
