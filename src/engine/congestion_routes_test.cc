#include "engine/congestion_routes.h"

#include <gtest/gtest.h>

#include "control/congestion/congestion.h"
#include "engine/options.h"
#include "shm/congestion_names.h"

namespace toe::engine {
namespace {

IpAddr v6(std::uint8_t first, std::uint8_t last) {
  IpAddr a;
  a.bytes[0] = first;
  a.bytes[15] = last;
  return a;
}

TEST(CongestionRoutes, TheLongestPrefixDecides) {
  auto parsed = CongestionRoutes::parse(
      "10.0.0.0/8=dctcp,10.1.2.0/23=timely,10.1.2.3=constant,fd00::/8=dctcp-rate,fd00::5=reno");
  ASSERT_TRUE(parsed.ok()) << parsed.error().text;
  const CongestionRoutes& routes = parsed.value();
  EXPECT_EQ(routes.find(IpAddr::v4(10, 200, 0, 1)), "dctcp");
  EXPECT_EQ(routes.find(IpAddr::v4(10, 1, 2, 4)), "timely");
  EXPECT_EQ(routes.find(IpAddr::v4(10, 1, 3, 255)), "timely");
  EXPECT_EQ(routes.find(IpAddr::v4(10, 1, 4, 0)), "dctcp");
  EXPECT_EQ(routes.find(IpAddr::v4(10, 1, 2, 3)), "constant");
  EXPECT_EQ(routes.find(IpAddr::v4(11, 0, 0, 1)), "");
  EXPECT_EQ(routes.find(v6(0xfd, 1)), "dctcp-rate");
  EXPECT_EQ(routes.find(v6(0xfd, 5)), "reno");
  EXPECT_EQ(routes.find(v6(0xfc, 5)), "");
}

TEST(CongestionRoutes, DefaultRoutesAreByFamily) {
  auto six = CongestionRoutes::parse("::/0=reno");
  EXPECT_EQ(six.value().find(v6(0x20, 1)), "reno");
  EXPECT_EQ(six.value().find(IpAddr::v4(10, 0, 0, 1)), "");
  auto four = CongestionRoutes::parse("0.0.0.0/0=reno");
  EXPECT_EQ(four.value().find(IpAddr::v4(10, 0, 0, 1)), "reno");
  EXPECT_EQ(four.value().find(v6(0x20, 1)), "");
}

TEST(CongestionRoutes, NoPrefixesNoAlgorithm) {
  EXPECT_EQ(CongestionRoutes::parse("").value().find(IpAddr::v4(10, 0, 0, 1)), "");
}

TEST(CongestionRoutes, RefusedWithWhatIsWrong) {
  for (const char* bad :
       {"10.0.0.0/8", "10.0.0.0/33=reno", "10.0.0.0/=reno", "10.0.0.0/-1=reno", "ten/8=reno",
        "=reno", "10.0.0.0/8=", "10.0.0.0/8=bbr", "::/129=reno", "10.0.0.0/8=reno,,10.1.1.1=reno",
        "10.0.0.0/8 =reno", "10.0.0.0/8x=reno"}) {
    EXPECT_FALSE(CongestionRoutes::parse(bad).ok()) << bad;
  }
  EXPECT_EQ(CongestionRoutes::parse("10.0.0.0/8=bbr").error().text,
            "'bbr' is none of cubic|reno|dctcp|dctcp-rate|timely|constant");
  std::string many = "10.0.0.1=reno";
  for (std::size_t i = 0; i < CongestionRoutes::kMaxRoutes; ++i) many += ",10.0.0.1=reno";
  EXPECT_FALSE(CongestionRoutes::parse(many).ok());
}

TEST(CongestionRoutes, TheOptionTakesEveryAlgorithm) {
  shm::for_each_congestion_name([](std::string_view name) {
    Settings settings;
    EXPECT_TRUE(settings.set("cc", std::string(name), Source::kFlag).ok()) << name;
    const std::string route = "192.0.2.0/24=" + std::string(name);
    EXPECT_TRUE(settings.set("cc-route", route, Source::kFlag).ok()) << name;
    EXPECT_NE(control::find_congestion(name), nullptr) << name;
  });
  Settings settings;
  EXPECT_EQ(settings.set("cc-route", "192.0.2.0/24=bbr", Source::kFlag).error().text,
            "cc-route: 'bbr' is none of cubic|reno|dctcp|dctcp-rate|timely|constant");
}

}  // namespace
}  // namespace toe::engine
