#include "engine/users.h"

#include <gtest/gtest.h>

namespace toe::engine {
namespace {

UserLimits limits() {
  UserLimits l;
  l.most = {3, 2, 4};
  l.requests_per_second = 1000;
  return l;
}

constexpr Time kStart{1'000'000'000'000};

/// Questions of cost 1 that `uid` may ask at `now` until it is told to wait.
int questions(Users& users, std::uint32_t uid, Time now, int most = 10'000) {
  int asked = 0;
  while (asked < most && users.may_ask(uid, now)) {
    users.charge(uid, 1);
    ++asked;
  }
  return asked;
}

TEST(Users, EachShareHasItsLimitForEachUser) {
  Users users(limits());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(users.take(1000, Share::kPrograms));
  EXPECT_FALSE(users.take(1000, Share::kPrograms));
  EXPECT_TRUE(users.take(1000, Share::kSegments)) << "another share";
  EXPECT_TRUE(users.take(1001, Share::kPrograms)) << "another user";
  users.give_back(1000, Share::kPrograms);
  EXPECT_TRUE(users.take(1000, Share::kPrograms));
  EXPECT_FALSE(users.take(1000, Share::kPrograms));
  EXPECT_EQ(users.all().at(1000).refused, 2u);
  EXPECT_EQ(users.all().at(1001).refused, 0u);
  EXPECT_EQ(users.refused(), 2u);
}

TEST(Users, RootIsCountedButNotLimited) {
  Users users(limits());
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(users.take(Users::kRoot, Share::kSegments));
  EXPECT_EQ(users.all().at(Users::kRoot).has[static_cast<std::size_t>(Share::kSegments)], 100u);
  EXPECT_EQ(questions(users, Users::kRoot, kStart), 10'000);
}

TEST(Users, QuestionsWaitBeyondTheRate) {
  Users users(limits());
  EXPECT_EQ(questions(users, 1000, kStart), 100) << "a tenth of a second's worth at once";
  EXPECT_EQ(questions(users, 1000, kStart), 0);
  EXPECT_EQ(questions(users, 1001, kStart), 100) << "another user does not wait for it";
  EXPECT_EQ(questions(users, 1000, kStart + millis(10)), 10);
  EXPECT_EQ(questions(users, 1000, kStart + seconds(100)), 100) << "no credit beyond the burst";
  EXPECT_EQ(users.all().at(1000).delayed, 4u);
  EXPECT_EQ(users.delayed(), 5u);
}

TEST(Users, ALargeQuestionIsPaidForAfterwards) {
  Users users(limits());
  ASSERT_TRUE(users.may_ask(1000, kStart));
  users.charge(1000, 200);
  EXPECT_FALSE(users.may_ask(1000, kStart + millis(100)));
  EXPECT_TRUE(users.may_ask(1000, kStart + millis(101)));
}

TEST(Users, LeavingDoesNotRenewTheCredit) {
  Users users(limits());
  EXPECT_TRUE(users.take(1000, Share::kPrograms));
  EXPECT_EQ(questions(users, 1000, kStart), 100);
  users.give_back(1000, Share::kPrograms);
  for (std::uint32_t uid = 2000; uid < 2000 + 2 * Users::kMaxIdle; ++uid) {
    EXPECT_TRUE(users.may_ask(uid, kStart));
  }
  EXPECT_TRUE(users.take(1000, Share::kPrograms));
  EXPECT_FALSE(users.may_ask(1000, kStart));
}

TEST(Users, ThoseWhoHaveNothingAreForgotten) {
  Users users(limits());
  EXPECT_TRUE(users.take(500, Share::kBells));
  for (std::uint32_t uid = 1000; uid < 1000 + 10 * Users::kMaxIdle; ++uid) {
    EXPECT_TRUE(users.may_ask(uid, kStart));
  }
  EXPECT_LE(users.all().size(), Users::kMaxIdle);
  EXPECT_TRUE(users.all().contains(500));
}

}  // namespace
}  // namespace toe::engine
