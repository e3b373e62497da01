#include "cli/text.h"

#include <gtest/gtest.h>

namespace toe::cli {
namespace {

TEST(Text, ColumnsAreAligned) {
  EXPECT_EQ(table_text({{"A", "LONGER", "C"}, {"long cell", "x", ""}}),
            "A          LONGER  C\nlong cell  x\n");
  EXPECT_EQ(table_text({}), "");
}

TEST(Text, Connections) {
  const std::string text = conns_text(
      R"({"schema":1,"conns":[{"local":"10.0.0.1:80","remote":"10.0.0.2:4000","state":"ESTAB",
          "pid":null,"rx_bytes":5,"tx_bytes":6,"ecn":"seen","cc":"reno"}],
          "listeners":[{"local":"0.0.0.0:80","state":"LISTEN","pid":7,"waiting":0,"backlog":9}]})");
  EXPECT_NE(text.find("LISTEN  0.0.0.0:80"), std::string::npos) << text;
  EXPECT_NE(text.find("ESTAB   10.0.0.1:80  10.0.0.2:4000  -"), std::string::npos) << text;
  EXPECT_NE(text.find("seen  reno\n"), std::string::npos) << text;
}

TEST(Text, StatsShowsOnlyDropsThatHappened) {
  const std::string text =
      stats_text(R"({"schema":1,"counters":{"a":0,"b":2},"drops":{"paws":0,"bad_flags":3},
          "levels":{"held":4}})");
  EXPECT_EQ(text, "a               0\nb               2\ndrop bad_flags  3\nnow held        4\n");
}

TEST(Text, StatusHidesControlCharacters) {
  const std::string text = status_text(
      R"({"schema":1,"name":"default","processes":[{"pid":1,"comm":"a\u001b[31m","offloaded":1,
          "kernel":2,"reasons":{"option":2}}]})");
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(text.find("option=2"), std::string::npos);
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
