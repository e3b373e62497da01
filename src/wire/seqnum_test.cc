#include "wire/seqnum.h"

#include <gtest/gtest.h>

namespace toe::wire {
namespace {

constexpr std::uint32_t kTop = 0xffffffffu;

TEST(SeqNum, OrdersAcrossTheWrap) {
  EXPECT_LT(SeqNum{kTop}, SeqNum{0});
  EXPECT_GT(SeqNum{5}, SeqNum{kTop - 5});
  EXPECT_LE(SeqNum{7}, SeqNum{7});
  EXPECT_GE(SeqNum{7}, SeqNum{7});
  EXPECT_FALSE(SeqNum{7} < SeqNum{7});
}

TEST(SeqNum, OrdersUpToHalfTheSpace) {
  EXPECT_LT(SeqNum{0}, SeqNum{0x7fffffffu});
  EXPECT_GT(SeqNum{0}, SeqNum{0x80000001u});
}

TEST(SeqNum, AddsAndSubtractsModulo) {
  EXPECT_EQ(SeqNum{kTop} + 2, SeqNum{1});
  EXPECT_EQ(SeqNum{1} - 2u, SeqNum{kTop});
  EXPECT_EQ(SeqNum{1} - SeqNum{kTop}, 2);
  EXPECT_EQ(SeqNum{kTop} - SeqNum{1}, -2);
  SeqNum s{kTop};
  s += 1;
  EXPECT_EQ(s, SeqNum{0});
}

TEST(SeqNum, WindowIncludesStartAndExcludesEnd) {
  EXPECT_TRUE(SeqNum{kTop}.in_window(SeqNum{kTop}, 1));
  EXPECT_TRUE(SeqNum{3}.in_window(SeqNum{kTop}, 5));
  EXPECT_FALSE(SeqNum{4}.in_window(SeqNum{kTop}, 5));
  EXPECT_FALSE(SeqNum{kTop - 1}.in_window(SeqNum{kTop}, 5));
  EXPECT_FALSE(SeqNum{9}.in_window(SeqNum{9}, 0));
}

TEST(Unwrap, FindsThePositionNearTheReference) {
  const SeqNum base{kTop - 9};  // position 10 has sequence number 0
  EXPECT_EQ(unwrap(base, base, 0), 0);
  EXPECT_EQ(unwrap(SeqNum{0}, base, 0), 10);
  EXPECT_EQ(unwrap(base - 1u, base, 0), -1);
  const std::uint64_t far = 7'000'000'000;  // past the first wrap of the low 32 bits
  for (const std::int64_t step : {-1'000'000, -1, 0, 1, 1'000'000}) {
    const std::int64_t position = static_cast<std::int64_t>(far) + step;
    const SeqNum seq = base + static_cast<std::uint32_t>(position);
    EXPECT_EQ(unwrap(seq, base, far), position);
  }
}

}  // namespace
}  // namespace toe::wire
