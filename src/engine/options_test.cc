#include "engine/options.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <gtest/gtest.h>

#include "engine/command_line.h"

namespace toe::engine {
namespace {

class File {
 public:
  explicit File(const std::string& text) {
    char name[] = "/tmp/toe-options-XXXXXX";
    const int fd = ::mkstemp(name);
    EXPECT_GE(fd, 0);
    ::close(fd);
    path_ = name;
    std::ofstream(path_) << text;
  }
  ~File() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Result<Settings> collect(std::vector<std::string> flags,
                         const std::map<std::string, std::string>& environment = {}) {
  CLI::App command("run");
  add_flags(command);
  std::reverse(flags.begin(), flags.end());  // CLI11 takes its vector from the back
  command.parse(flags);
  return collect_settings(command, [&](const std::string& name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(Options, DefaultsOfTheTableAreLegal) {
  for (const OptionSpec& option : option_table()) {
    Settings settings;
    if (option.initial.empty()) continue;
    const Status status = settings.set(option.name, std::string(option.initial), Source::kFlag);
    EXPECT_TRUE(status.ok()) << option.name;
    EXPECT_FALSE(option.reason.empty()) << option.name;
  }
}

TEST(Options, FlagBeatsEnvironmentBeatsFile) {
  const File file(
      "cc = \"reno\"\nmin-rto = \"7ms\"\nmax-flows = 1000\nvlan = [3, 4]\n"
      "socket-mode = 0o660\nignore-netfilter = true\n");
  auto settings = collect({"--dev", "v0", "--config", file.path(), "--max-flows", "3000"},
                          {{"FLEXTOE_MAX_FLOWS", "2000"}, {"FLEXTOE_MIN_RTO", "9ms"}});
  ASSERT_TRUE(settings.ok()) << settings.error().text;
  EXPECT_EQ(settings.value().number("max-flows"), 3000);
  EXPECT_EQ(settings.value().source("max-flows"), Source::kFlag);
  EXPECT_EQ(settings.value().duration("min-rto"), millis(9));
  EXPECT_EQ(settings.value().source("min-rto"), Source::kEnvironment);
  EXPECT_EQ(settings.value().text("cc"), "reno");
  EXPECT_EQ(settings.value().numbers("vlan"), (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(settings.value().number("socket-mode"), 0660);
  EXPECT_TRUE(settings.value().on("ignore-netfilter"));
  EXPECT_EQ(settings.value().text("profile"), "balanced");
  EXPECT_EQ(settings.value().source("profile"), Source::kDefault);
}

TEST(Options, FlagsOfAllKinds) {
  auto settings = collect(
      {"--dev=v0", "--vlan", "5", "--vlan", "6,7", "--ignore-netfilter", "--ack=immediate"});
  ASSERT_TRUE(settings.ok()) << settings.error().text;
  EXPECT_EQ(settings.value().numbers("vlan"), (std::vector<std::int64_t>{5, 6, 7}));
  EXPECT_TRUE(settings.value().on("ignore-netfilter"));
  EXPECT_EQ(settings.value().text("ack"), "immediate");
}

TEST(Options, PrefixesFromFlagsAndFile) {
  auto settings =
      collect({"--dev=v0", "--cc-route", "10.0.0.0/8=dctcp", "--cc-route", "fd00::/8=timely"});
  ASSERT_TRUE(settings.ok()) << settings.error().text;
  EXPECT_EQ(settings.value().text("cc-route"), "10.0.0.0/8=dctcp,fd00::/8=timely");
  const File file("dev = \"v0\"\ncc-route = [\"10.0.0.0/8=dctcp\", \"10.1.0.0/16=reno\"]\n");
  settings = collect({"--config", file.path()});
  ASSERT_TRUE(settings.ok()) << settings.error().text;
  EXPECT_EQ(settings.value().text("cc-route"), "10.0.0.0/8=dctcp,10.1.0.0/16=reno");
  EXPECT_EQ(collect({"--dev", "v0", "--cc-route", "10.0.0.0/8"}).error().text,
            "--cc-route: '10.0.0.0/8' is not PREFIX=ALGORITHM");
}

TEST(Options, RefusedWithOneSentence) {
  EXPECT_EQ(collect({}).error().text, "name the network interface with --dev IFACE");
  EXPECT_EQ(collect({"--dev", "v0", "--cc", "bbr"}).error().text,
            "--cc is 'bbr', but must be one of "
            "cubic|reno|dctcp|dctcp-rate|timely|constant");
  EXPECT_EQ(collect({"--dev", "v0"}, {{"FLEXTOE_MAX_FLOWS", "many"}}).error().text,
            "environment FLEXTOE_MAX_FLOWS: max-flows is 'many', but must be a number from 64 to "
            "1048576");
  EXPECT_FALSE(collect({"--dev", "v0", "--vlan", "0"}).ok());
  EXPECT_FALSE(collect({"--dev", "v0", "--vlan", "4,,5"}).ok());
  EXPECT_FALSE(collect({"--dev", "v0", "--min-rto", "200"}).ok());
  EXPECT_FALSE(collect({"--dev", "v0", "--name", "../x"}).ok());
}

TEST(Options, UnknownKeyOfTheFile) {
  const File file("dev = \"v0\"\nspeed = 3\n");
  EXPECT_EQ(collect({"--config", file.path()}).error().text,
            file.path() + ", line 2: there is no option 'speed'");
}

TEST(Options, BrokenFile) {
  EXPECT_FALSE(collect({"--config", "/does/not/exist"}).ok());
  const File text("dev = \n");
  EXPECT_NE(collect({"--config", text.path()}).error().text.find("line 1"), std::string::npos);
  const File table("[dev]\nname = \"v0\"\n");
  EXPECT_FALSE(collect({"--config", table.path()}).ok());
}

TEST(Options, Durations) {
  Nanos out;
  EXPECT_TRUE(parse_duration("1500us", out));
  EXPECT_EQ(out, micros(1500));
  EXPECT_TRUE(parse_duration("2s", out));
  EXPECT_EQ(out, seconds(2));
  for (const char* bad :
       {"", "5", "ms", "-1ms", "1.5ms", "1h", "9999999999999s", "999999999999s"}) {
    EXPECT_FALSE(parse_duration(bad, out)) << bad;
  }
}

}  // namespace
}  // namespace toe::engine
