#include "engine/json.h"

#include <cstring>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace toe::engine {
namespace {

using control::ConnRecord;
using nlohmann::json;

ConnRecord record(ConnRecord::Kind kind, std::uint8_t state) {
  ConnRecord r;
  r.kind = kind;
  r.state = state;
  r.key.local = IpAddr::v4(10, 0, 0, 1);
  r.key.local_port = 80;
  r.key.remote = IpAddr::v4(10, 0, 0, 2);
  r.key.remote_port = 40000;
  return r;
}

TEST(Json, Addresses) {
  EXPECT_EQ(address_text(IpAddr::v4(10, 0, 0, 1), 80), "10.0.0.1:80");
  EXPECT_EQ(address_text(IpAddr::v4(0, 0, 0, 0), 80), "0.0.0.0:80");
  IpAddr v6;
  EXPECT_EQ(address_text(v6, 65535), "[::]:65535");
  v6.bytes[0] = 0xfd;
  v6.bytes[15] = 1;
  EXPECT_EQ(address_text(v6, 80), "[fd00::1]:80");
}

TEST(Json, StateWords) {
  EXPECT_STREQ(state_word(1), "ESTAB");
  EXPECT_STREQ(state_word(6), "TIME-WAIT");
  EXPECT_STREQ(state_word(8), "CLOSE-WAIT");
  EXPECT_STREQ(state_word(200), "UNKNOWN");
}

TEST(Json, EcnAsSsShowsIt) {
  std::vector<ConnRecord> rows = {record(ConnRecord::Kind::kConnection, 1)};
  rows[0].info.options = 1 | 8;
  rows[0].ce_acked = 7;
  rows[0].alpha = 0.25;
  json shown = json::parse(conns_json(rows, {}))["conns"][0];
  EXPECT_EQ(shown["ecn"], "on");
  EXPECT_EQ(shown["ce_acked"], 7);
  EXPECT_EQ(shown["dctcp_alpha"], 0.25);
  rows[0].info.options |= 16;
  shown = json::parse(conns_json(rows, {}))["conns"][0];
  EXPECT_EQ(shown["ecn"], "seen");
}

TEST(Json, ConnectionsAndListeners) {
  std::vector<ConnRecord> rows = {record(ConnRecord::Kind::kConnection, 1),
                                  record(ConnRecord::Kind::kListener, 10),
                                  record(ConnRecord::Kind::kTimeWait, 6)};
  rows[0].pid = 42;
  rows[0].rx_bytes = 1ull << 40;
  std::memcpy(rows[0].congestion, "cubic", 6);
  const json without = json::parse(conns_json(rows, {}));
  EXPECT_EQ(without["schema"], 1);
  ASSERT_EQ(without["conns"].size(), 1u);
  EXPECT_EQ(without["conns"][0]["local"], "10.0.0.1:80");
  EXPECT_EQ(without["conns"][0]["remote"], "10.0.0.2:40000");
  EXPECT_EQ(without["conns"][0]["state"], "ESTAB");
  EXPECT_EQ(without["conns"][0]["pid"], 42);
  EXPECT_EQ(without["conns"][0]["rx_bytes"], 1ull << 40);
  EXPECT_EQ(without["conns"][0]["cc"], "cubic");
  EXPECT_EQ(without["conns"][0]["ecn"], "off");
  EXPECT_FALSE(without["conns"][0].contains("dctcp_alpha"));
  ASSERT_EQ(without["listeners"].size(), 1u);
  EXPECT_TRUE(without["listeners"][0]["pid"].is_null());
  EXPECT_FALSE(without.contains("truncated"));
  const json with = json::parse(conns_json(rows, {true, true, {{42, "memcached"}}}));
  ASSERT_EQ(with["conns"].size(), 2u);
  EXPECT_EQ(with["conns"][1]["state"], "TIME-WAIT");
  EXPECT_EQ(with["truncated"], true);
  EXPECT_EQ(with["conns"][0]["comm"], "memcached");
  EXPECT_FALSE(with["conns"][1].contains("comm"));
}

TEST(Json, DetailsOnlyOfWhatIsKnown) {
  std::vector<ConnRecord> rows = {record(ConnRecord::Kind::kConnection, 1)};
  json shown = json::parse(conns_json(rows, {}))["conns"][0];
  EXPECT_FALSE(shown.contains("pmtu"));  // a handshake has agreed on nothing yet
  rows[0].info.snd_mss = 1448;
  rows[0].info.options = 1 | 2 | 4;
  rows[0].info.snd_wscale = 7;
  rows[0].info.rcv_wscale = 9;
  rows[0].info.min_rtt_us = UINT32_MAX;
  rows[0].last_data_ms = 12;
  shown = json::parse(conns_json(rows, {}))["conns"][0];
  EXPECT_EQ(shown["wscale"], json({7, 9}));
  EXPECT_EQ(shown["ts"], true);
  EXPECT_EQ(shown["lastrcv_ms"], 12);
  EXPECT_FALSE(shown.contains("lastsnd_ms"));
  EXPECT_FALSE(shown.contains("min_rtt_us"));
}

TEST(Json, Stats) {
  control::Counters control;
  control.passive_opens.store(7);
  control.misbehaved.store(2);
  datapath::Counters datapath;
  datapath.drops.paws.add(3);
  datapath.misbehaved.add(3);
  port::PortStats port;
  port.rx_frames = 9;
  StatsFacts facts;
  add_control_counters(control, facts);
  add_datapath_counters(datapath, facts);
  add_port_counters(port, facts);
  facts.levels = {{"frames_held", 2}};
  const json stats = json::parse(stats_json(facts));
  EXPECT_EQ(stats["counters"]["passive_opens"], 7);
  EXPECT_EQ(stats["counters"]["misbehaved"], 5) << "both parts count it";
  EXPECT_EQ(stats["counters"]["port_rx_frames"], 9);
  EXPECT_EQ(stats["drops"]["paws"], 3);
  EXPECT_EQ(stats["levels"]["frames_held"], 2);
  EXPECT_EQ(stats["drops"]["bad_tcp_checksum"], 0);
}

TEST(Json, StatusWithHostileProcessName) {
  StatusFacts facts;
  facts.name = "default";
  facts.dev = "v0";
  facts.processes.push_back({7, 0, "a\"\xff\n", 2, 1, {"10.0.0.1:80"}, 1, {{"option", 1}}});
  facts.users.push_back({1000, 1, 2, 3, 4, 5});
  const json status = json::parse(status_json(facts));
  EXPECT_EQ(status["users"][0]["uid"], 1000);
  EXPECT_EQ(status["users"][0]["delayed"], 5);
  EXPECT_EQ(status["processes"][0]["pid"], 7);
  EXPECT_EQ(status["processes"][0]["connections"], 1);
  EXPECT_EQ(status["processes"][0]["listeners"][0], "10.0.0.1:80");
  EXPECT_EQ(status["processes"][0]["reasons"]["option"], 1);
}

TEST(Json, ConfigNamesEveryOption) {
  Settings settings;
  ASSERT_TRUE(settings.set("cc", "reno", Source::kFlag).ok());
  const json config = json::parse(config_json(settings));
  EXPECT_EQ(config["options"].size(), option_table().size());
  EXPECT_EQ(config["options"]["cc"]["value"], "reno");
  EXPECT_EQ(config["options"]["cc"]["source"], "flag");
  EXPECT_EQ(config["options"]["cc"]["default"], "cubic");
  EXPECT_EQ(config["options"]["cc"]["choices"], "cubic|reno|dctcp|dctcp-rate|timely|constant");
  EXPECT_FALSE(config["options"]["dev"].contains("choices"));
}

}  // namespace
}  // namespace toe::engine
