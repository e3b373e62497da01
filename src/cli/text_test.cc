#include "cli/text.h"

#include <gtest/gtest.h>

namespace toe::cli {
namespace {

TEST(Text, ColumnsAreAligned) {
  EXPECT_EQ(table_text({{"A", "LONGER", "C"}, {"long cell", "x", ""}}),
            "A          LONGER  C\nlong cell  x\n");
  EXPECT_EQ(table_text({}), "");
}

TEST(Text, StatsShowsOnlyDropsThatHappened) {
  const std::string text =
      stats_text(R"({"schema":1,"counters":{"a":0,"b":2},"drops":{"paws":0,"bad_flags":3},
          "levels":{"held":4}})");
  EXPECT_EQ(text, "a               0\nb               2\ndrop bad_flags  3\nnow held        4\n");
}

TEST(Text, StatusHidesControlCharacters) {
  const std::string text = status_text(
      R"({"schema":1,"name":"default","processes":[{"pid":1,"comm":"a\u001b[31m","uid":0,
          "offloaded":1,"kernel":2,"reasons":{"option":2}}]})");
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(Text, StatusTellsPerProcessWhatAndWhyNot) {
  const std::string text = status_text(
      R"({"schema":1,"name":"default","users":[{"uid":33,"programs":1,"refused":2}],
          "processes":[{"pid":7,"comm":"memcached","uid":33,
          "offloaded":3,"connections":2,"listeners":["0.0.0.0:11211"],"kernel":3,
          "reasons":{"own-address":2,"of-tomorrow":1}}]})");
  EXPECT_EQ(text, R"(name  default

user 33: programs 1 refused 2

7 memcached (uid 33): 3 offloaded, 3 left to the kernel
    listens on 0.0.0.0:11211
    connections: 2
    2 to the kernel, own-address: the peer is this machine
    1 to the kernel, of-tomorrow
)");
}

TEST(Text, Config) {
  const std::string text = config_text(
      R"({"schema":1,"options":{"cc":{"value":"reno","source":"flag","default":"cubic",
          "reason":"why","choices":"cubic|reno"},
          "dev":{"value":"v0","source":"flag","default":"","reason":"where"}}})");
  EXPECT_NE(text.find("cc      reno   flag  why (cubic|reno)"), std::string::npos) << text;
  EXPECT_NE(text.find("flag  where\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace toe::cli
