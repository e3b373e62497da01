#include "flow/reassembly.h"

#include <random>
#include <set>

#include <gtest/gtest.h>

namespace toe::flow {
namespace {

TEST(Reassembly, MergesWhatTouches) {
  Reassembly r;
  EXPECT_TRUE(r.add(100, 200));
  EXPECT_TRUE(r.add(300, 400));
  EXPECT_EQ(r.count(), 2u);
  EXPECT_TRUE(r.add(200, 300));
  EXPECT_EQ(r.count(), 1u);
  EXPECT_EQ(r.at(0).begin, 100u);
  EXPECT_EQ(r.at(0).end, 400u);
}

TEST(Reassembly, AdvanceJoinsTheRangesThatItReaches) {
  Reassembly r;
  r.add(100, 200);
  r.add(300, 400);
  EXPECT_EQ(r.advance(50), 50u);
  EXPECT_EQ(r.advance(150), 200u);
  EXPECT_EQ(r.count(), 1u);
  EXPECT_EQ(r.advance(500), 500u);
  EXPECT_TRUE(r.empty());
}

TEST(Reassembly, RefusesOneRangeTooMany) {
  Reassembly r;
  for (std::uint64_t i = 0; i < kOutOfOrderRanges; ++i) EXPECT_TRUE(r.add(i * 10, i * 10 + 5));
  EXPECT_FALSE(r.add(kOutOfOrderRanges * 10, kOutOfOrderRanges * 10 + 1));
  EXPECT_TRUE(r.add(5, 10));  // joins two: no new range
  EXPECT_EQ(r.count(), kOutOfOrderRanges - 1);
  EXPECT_EQ(r.highest(), (kOutOfOrderRanges - 1) * 10 + 5);
}

TEST(Reassembly, AgreesWithASetOfBytes) {
  std::mt19937 random(99);
  for (int round = 0; round < 2000; ++round) {
    Reassembly r;
    std::set<std::uint64_t> bytes;
    std::uint64_t next = 0;
    for (int step = 0; step < 20; ++step) {
      const std::uint64_t begin = next + random() % 60;
      const std::uint64_t end = begin + 1 + random() % 20;
      if (r.add(begin, end)) {
        for (std::uint64_t b = begin; b < end; ++b) bytes.insert(b);
      }
      if (random() % 4 == 0) {
        std::uint64_t expected = next + random() % 20;
        next = r.advance(expected);
        while (bytes.count(expected) != 0) ++expected;
        EXPECT_EQ(next, expected);
      }
      const std::uint64_t from = next + random() % 60, to = from + 1 + random() % 20;
      const Range common = r.first_common(from, to);
      const auto first = bytes.lower_bound(from);
      const bool some = first != bytes.end() && *first < to && *first >= next;
      EXPECT_EQ(common.begin < common.end, some);
      if (some) {
        EXPECT_EQ(common.begin, *first);
      }
      EXPECT_EQ(r.find(from) != Reassembly::kNowhere, bytes.count(from) != 0);
      std::uint64_t covered = 0;
      for (std::uint32_t i = 0; i < r.count(); ++i) {
        covered += r.at(i).end - r.at(i).begin;
        if (i > 0) {
          EXPECT_GT(r.at(i).begin, r.at(i - 1).end);
        }
      }
      EXPECT_EQ(covered,
                static_cast<std::uint64_t>(std::distance(bytes.lower_bound(next), bytes.end())));
    }
  }
}

}  // namespace
}  // namespace toe::flow
