#include "flow/pool.h"

#include <set>

#include <gtest/gtest.h>

namespace toe::flow {
namespace {

struct Record {
  int value = 7;
};

TEST(Pool, LendsAsManyAsItHasAndNoneTwice) {
  Pool<Record> pool(3);
  std::set<PoolId> lent;
  for (int i = 0; i < 3; ++i) {
    const PoolId id = pool.take();
    EXPECT_NE(id, Pool<Record>::kNone);
    EXPECT_TRUE(lent.insert(id).second);
  }
  EXPECT_EQ(pool.take(), Pool<Record>::kNone);
  EXPECT_EQ(pool.in_use(), 3u);
  pool.give(*lent.begin());
  EXPECT_EQ(pool.in_use(), 2u);
  EXPECT_EQ(pool.take(), *lent.begin());
}

TEST(Pool, ARecordIsFreshEachTime) {
  Pool<Record> pool(1);
  const PoolId id = pool.take();
  pool.at(id).value = 99;
  pool.give(id);
  EXPECT_EQ(pool.at(pool.take()).value, 7);
}

TEST(Pool, AnEmptyOneLendsNothing) {
  Pool<Record> pool(0);
  EXPECT_EQ(pool.take(), Pool<Record>::kNone);
}

}  // namespace
}  // namespace toe::flow
