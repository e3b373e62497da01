#include "flow/loans.h"

#include <gtest/gtest.h>

namespace toe::flow {
namespace {

struct Record {
  int value = 7;
};

TEST(Loans, AreLentWhileThereAreSome) {
  Loans<Record> loans(2);
  int a = 0, b = 0;
  const PoolId first = loans.take(&a);
  const PoolId second = loans.take(&b);
  EXPECT_NE(first, second);
  EXPECT_TRUE(loans.holds(first, &a));
  EXPECT_FALSE(loans.holds(first, &b));
  EXPECT_FALSE(loans.holds(0, &a));
  loans.at(first).value = 99;
  loans.give(first);
  EXPECT_FALSE(loans.holds(first, &a));
  EXPECT_EQ(loans.in_use(), 1u);
  EXPECT_EQ(loans.at(loans.take(&b)).value, 7) << "a record is fresh each time";
  EXPECT_TRUE(loans.full());
}

TEST(Loans, TheOneThatIsNotUsedIsTakenBack) {
  Loans<Record> loans(3);
  int holder[4] = {};
  PoolId id[4] = {};
  for (int i = 0; i < 3; ++i) id[i] = loans.take(&holder[i]);
  id[3] = loans.take(&holder[3]);  // all are in use: one of them all the same
  int lost = 0;
  for (int i = 0; i < 4; ++i) lost += loans.holds(id[i], &holder[i]) ? 0 : 1;
  EXPECT_EQ(lost, 1);
  EXPECT_TRUE(loans.holds(id[3], &holder[3]));

  int late = 0;
  for (int i = 0; i < 4; ++i) {
    if (i != 1 && loans.holds(id[i], &holder[i])) loans.at(id[i]);
  }
  const bool second_had = loans.holds(id[1], &holder[1]);
  loans.take(&late);
  EXPECT_TRUE(second_had);
  EXPECT_FALSE(loans.holds(id[1], &holder[1]));
  EXPECT_EQ(loans.in_use(), 3u);
}

TEST(Loans, ABorrowerThatLostItsRecordMayHaveTheSameAgain) {
  Loans<Record> loans(1);
  int a = 0, b = 0;
  const PoolId id = loans.take(&a);
  EXPECT_EQ(loans.take(&b), id);
  EXPECT_FALSE(loans.holds(id, &a));
  EXPECT_EQ(loans.take(&a), id);
  EXPECT_TRUE(loans.holds(id, &a));
  EXPECT_FALSE(loans.holds(id, &b));
}

}  // namespace
}  // namespace toe::flow
