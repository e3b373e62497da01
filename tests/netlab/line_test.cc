#include "netlab/line.h"

#include <vector>

#include <gtest/gtest.h>

namespace toe::netlab {
namespace {

std::vector<Line::Handle> all(Line& line, Time now) {
  std::vector<Line::Handle> frames;
  while (const auto frame = line.pop(now)) frames.push_back(*frame);
  return frames;
}

using Handles = std::vector<Line::Handle>;

TEST(Line, DepartsByTimeAndKeepsOrderAmongEquals) {
  Line line;
  line.push(1, Time{30});
  line.push(2, Time{10});
  line.push(3, Time{10});
  EXPECT_EQ(line.next(), Time{10});
  EXPECT_EQ(all(line, Time{9}), Handles{});
  EXPECT_EQ(all(line, Time{10}), (Handles{2, 3}));
  EXPECT_EQ(line.next(), Time{30});
  EXPECT_EQ(all(line, Time{40}), Handles{1});
  EXPECT_EQ(line.next(), Time::never());
  EXPECT_EQ(line.size(), 0u);
}

TEST(Line, HeldFrameGoesAfterItsOvertakers) {
  Line line;
  line.push(0, Time{1});
  line.push(1, Time{1000}, 2);
  for (Line::Handle i = 2; i < 6; ++i) line.push(i, Time{static_cast<std::int64_t>(i)});
  EXPECT_EQ(all(line, Time{10}), (Handles{0, 2, 3, 1, 4, 5}));
}

TEST(Line, HeldFrameGoesAtItsInstantWithoutOvertakers) {
  Line line;
  line.push(1, Time{1000}, 2);
  line.push(2, Time{5});
  EXPECT_EQ(all(line, Time{10}), Handles{2});
  EXPECT_EQ(line.next(), Time{1000});
  EXPECT_EQ(all(line, Time{1000}), Handles{1});
}

}  // namespace
}  // namespace toe::netlab
