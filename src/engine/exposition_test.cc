#include "engine/exposition.h"

#include <algorithm>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace toe::engine {
namespace {

StatusFacts engine_facts() {
  StatusFacts facts;
  facts.name = "default";
  facts.dev = "eth0";
  facts.version = "1.2";
  return facts;
}

TEST(Exposition, OneOfEachKind) {
  StatsFacts facts;
  facts.counters = {{"passive_opens", 7}};
  facts.drops = {{"paws", 3}};
  facts.levels = {{"frames_held", 2}};
  EXPECT_EQ(exposition_text(facts, engine_facts(), 12),
            R"(# HELP flextoe_info The engine; the value is always 1.
# TYPE flextoe_info gauge
flextoe_info{engine="default",dev="eth0",version="1.2",xdp="driver"} 1
# HELP flextoe_uptime_seconds Seconds since the engine started.
# TYPE flextoe_uptime_seconds gauge
flextoe_uptime_seconds{engine="default"} 12
# HELP flextoe_frames_held The level frames_held of flextoe stats.
# TYPE flextoe_frames_held gauge
flextoe_frames_held{engine="default"} 2
# HELP flextoe_passive_opens_total The counter passive_opens of flextoe stats.
# TYPE flextoe_passive_opens_total counter
flextoe_passive_opens_total{engine="default"} 7
# HELP flextoe_drops_total Frames and segments dropped, by reason.
# TYPE flextoe_drops_total counter
flextoe_drops_total{engine="default",reason="paws"} 3
)");
}

TEST(Exposition, LabelsAreEscaped) {
  StatusFacts engine = engine_facts();
  engine.dev = "a\"b\\c\nd";
  EXPECT_NE(exposition_text({}, engine, 0).find("dev=\"a\\\"b\\\\c\\nd\","), std::string::npos);
}

// What a scraper refuses: names of other letters, a sample said twice, a line that is neither
// comment nor sample.
TEST(Exposition, EveryCounterIsAValidSampleAndUnique) {
  control::Counters control;
  datapath::Counters datapath;
  StatsFacts facts;
  add_control_counters(control, facts);
  add_datapath_counters(datapath, facts);
  add_core_losses({}, facts);
  add_port_counters({}, facts);
  const auto sample = testing::MatchesRegex(
      R"re([a-z][a-z0-9_]*\{engine="default"(,[a-z]+="[^"\\]*")*\} [0-9]+)re");
  std::set<std::string> seen;
  std::istringstream lines(exposition_text(facts, engine_facts(), 0));
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("# HELP ", 0) == 0) continue;
    const bool type = line.rfind("# TYPE ", 0) == 0;
    if (!type) {
      EXPECT_THAT(line, sample);
    }
    const std::string name = type ? line : line.substr(0, line.rfind(' '));
    EXPECT_TRUE(seen.insert(name).second) << "twice: " << line;
  }
  EXPECT_GT(seen.size(), facts.counters.size() + facts.drops.size());
}

}  // namespace
}  // namespace toe::engine
