#include "datapath/sack_report.h"

#include <gtest/gtest.h>

namespace toe::datapath {
namespace {

using Blocks = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

Blocks blocks(const ReceiveRanges& r, flow::Range duplicate = {}, std::uint32_t most = 4) {
  const SackReport report = report_sack(&r, duplicate, most);
  Blocks all;
  for (std::uint8_t i = 0; i < report.count; ++i) {
    all.emplace_back(report.block[i].start, report.block[i].end);
  }
  return all;
}

void arrive(ReceiveRanges& r, std::uint64_t begin, std::uint64_t end) {
  ASSERT_TRUE(r.ranges.add(begin, end));
  note_arrival(r, begin);
}

TEST(SackReport, TheBlockThatChangedLastComesFirst) {
  ReceiveRanges r;
  arrive(r, 5000, 5500);
  arrive(r, 6000, 6500);
  arrive(r, 7000, 7500);
  EXPECT_EQ(blocks(r), (Blocks{{7000, 7500}, {6000, 6500}, {5000, 5500}}));
  arrive(r, 5500, 5600);
  EXPECT_EQ(blocks(r), (Blocks{{5000, 5600}, {7000, 7500}, {6000, 6500}}));
}

TEST(SackReport, TheLossExampleOfTheRfc) {  // RFC 2018 section 7, case 3
  ReceiveRanges r;
  arrive(r, 5500, 6000);
  arrive(r, 6500, 7000);
  arrive(r, 7500, 8000);
  arrive(r, 8500, 9000);
  EXPECT_EQ(blocks(r, {}, 3), (Blocks{{8500, 9000}, {7500, 8000}, {6500, 7000}}));
  arrive(r, 7000, 7500);  // joins two
  EXPECT_EQ(blocks(r, {}, 3), (Blocks{{6500, 8000}, {8500, 9000}, {5500, 6000}}));
}

TEST(SackReport, DuplicatesStandInFront) {  // RFC 2883 section 4
  ReceiveRanges r;
  arrive(r, 5000, 5500);
  arrive(r, 6000, 6500);
  EXPECT_EQ(blocks(r, {3000, 3500}), (Blocks{{3000, 3500}, {6000, 6500}, {5000, 5500}}));
  // Within a range: the range itself is the second block.
  note_arrival(r, 5000);
  EXPECT_EQ(blocks(r, {5000, 5100}), (Blocks{{5000, 5100}, {5000, 5500}, {6000, 6500}}));
}

TEST(SackReport, WithoutRangesThereIsOnlyTheDuplicate) {
  EXPECT_EQ(report_sack(nullptr, {}, 3).count, 0);
  EXPECT_EQ(report_sack(nullptr, {10, 20}, 3).count, 1);
  EXPECT_EQ(report_sack(nullptr, {10, 20}, 0).count, 0);
}

TEST(SackReport, RangesThatTheStreamHasReachedAreNotReported) {
  ReceiveRanges r;
  arrive(r, 1000, 2000);
  arrive(r, 3000, 4000);
  arrive(r, 5000, 6000);
  r.ranges.advance(3500);
  EXPECT_EQ(blocks(r), (Blocks{{5000, 6000}}));
  arrive(r, 7000, 8000);
  EXPECT_EQ(blocks(r), (Blocks{{7000, 8000}, {5000, 6000}}));
}

TEST(SackReport, SpaceIsFilledWithRangesThatHaveFallenOutOfTheHistory) {
  ReceiveRanges r;
  for (std::uint64_t i = 1; i <= 8; ++i) arrive(r, i * 1000, i * 1000 + 100);
  r.recent_count = 1;
  EXPECT_EQ(blocks(r, {}, 3), (Blocks{{8000, 8100}, {1000, 1100}, {2000, 2100}}));
}

TEST(SackReport, AllRangesCanBeTheOneThatChanged) {
  ReceiveRanges r;
  for (std::uint64_t i = 1; i <= kOutOfOrderRanges; ++i) arrive(r, i * 1000, i * 1000 + 100);
  for (std::uint64_t i = kOutOfOrderRanges; i >= 1; --i) {
    note_arrival(r, i * 1000 + 50);
    ASSERT_EQ(blocks(r, {}, 1), (Blocks{{static_cast<std::uint32_t>(i * 1000),
                                         static_cast<std::uint32_t>(i * 1000 + 100)}}));
  }
}

}  // namespace
}  // namespace toe::datapath
