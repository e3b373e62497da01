#include "engine/quota.h"

#include <gtest/gtest.h>

namespace toe::engine {
namespace {

TEST(Quota, AllowsSoMuchPerWindow) {
  Quota quota(10, seconds(1));
  const Time start = Time{} + seconds(100);
  EXPECT_FALSE(quota.used_up());
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(quota.take(start));
  EXPECT_FALSE(quota.used_up());
  EXPECT_TRUE(quota.take(start + millis(1)));
  EXPECT_TRUE(quota.used_up());
  EXPECT_EQ(quota.ends(), start + seconds(1));
  EXPECT_FALSE(quota.take(start + millis(999)));
  EXPECT_TRUE(quota.take(quota.ends(), 10));
  EXPECT_FALSE(quota.take(quota.ends() - millis(1)));
}

TEST(Quota, BeginsWithTheFirst) {
  Quota quota(1, seconds(1));
  EXPECT_TRUE(quota.take(Time{} + millis(1500)));
  EXPECT_EQ(quota.ends(), Time{} + millis(2500));
}

}  // namespace
}  // namespace toe::engine
