// The small value types of this folder.
#include <memory>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/result.h"
#include "base/types.h"

namespace toe {
namespace {

TEST(Time, DifferencesAreDurations) {
  const Time start{1000};
  EXPECT_EQ(start + micros(2), Time{3000});
  EXPECT_EQ((start + millis(3)) - start, millis(3));
  EXPECT_EQ(start - Nanos{1}, Time{999});
  EXPECT_LT(start - (start + seconds(1)), Nanos{0});
  EXPECT_LT(start + seconds(1'000'000), Time::never());
  EXPECT_EQ(millis(10) * 3 / 2, millis(15));
}

TEST(Result, HoldsAValueOrAnError) {
  Result<int> good(5);
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good.value(), 5);
  const Status bad(Error{EPERM, "no permission"});
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, EPERM);
  EXPECT_EQ(bad.error().text, "no permission");
}

TEST(Result, CarriesMoveOnlyValues) {
  Result<std::unique_ptr<int>> owner(std::make_unique<int>(3));
  const std::unique_ptr<int> taken = std::move(owner.value());
  EXPECT_EQ(*taken, 3);
}

TEST(ResultDeathTest, WrongSideAborts) {
  Result<int> bad(Error{EINVAL, "x"});
  EXPECT_DEATH(bad.value(), "ok()");
  Result<int> good(1);
  EXPECT_DEATH(good.error(), "ok()");
}

TEST(CheckDeathTest, NamesTheCondition) {
  TOE_CHECK(1 + 1 == 2);
  EXPECT_DEATH(TOE_CHECK(1 + 1 == 3), "1 \\+ 1 == 3");
}

}  // namespace
}  // namespace toe
