#include "cli/verbs.h"

#include <gtest/gtest.h>

namespace toe::cli {
namespace {

using Words = std::vector<std::string>;

TEST(Verbs, SplitCommand) {
  Words line = {"exec", "--strict", "--", "memcached", "--name", "x"};
  EXPECT_EQ(split_command(line), (Words{"memcached", "--name", "x"}));
  EXPECT_EQ(line, (Words{"exec", "--strict"}));
  line = {"exec", "--name", "engine", "memcached", "-t", "1"};
  EXPECT_EQ(split_command(line), (Words{"memcached", "-t", "1"}));
  EXPECT_EQ(line, (Words{"exec", "--name", "engine"}));
  line = {"exec", "--name=engine", "--", "--odd"};
  EXPECT_EQ(split_command(line), (Words{"--odd"}));
  line = {"exec"};
  EXPECT_EQ(split_command(line), Words{});
  line = {"exec", "--"};
  EXPECT_EQ(split_command(line), Words{});
  line = {"exec", "--name"};
  EXPECT_EQ(split_command(line), Words{});
  line = {"run", "--dev", "v0"};
  EXPECT_EQ(split_command(line), Words{});
  EXPECT_EQ(line, (Words{"run", "--dev", "v0"}));
}

}  // namespace
}  // namespace toe::cli
