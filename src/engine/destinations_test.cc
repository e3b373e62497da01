// Destinations by a kernel: two private namespaces joined by a veth pair. Needs root.
#include "engine/destinations.h"

#include <poll.h>

#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "engine/net/device.h"
#include "engine/net/test_sockets.h"
#include "port/afxdp/test_netns.h"

namespace toe::engine {
namespace {

using net::addr;
using port::TestNetns;

class DestinationsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!netns_.permitted()) GTEST_SKIP() << "netlink: needs root";
    auto events = net::NetEvents::open();
    auto lookup = net::RouteLookup::open();
    auto neighbours = net::Neighbours::open();
    auto device = net::read_device("v0");
    ASSERT_TRUE(events.ok() && lookup.ok() && neighbours.ok() && device.ok());
    events_.emplace(std::move(events.value()));
    destinations_.emplace(
        std::move(lookup.value()), std::move(neighbours.value()), device.value(), 1500,
        [this](const auto& key, const auto& route) { answers_.emplace_back(key, route.kind); });
  }
  static control::RouteKey key(std::uint16_t port) {
    control::RouteKey key{};
    key.path.local = addr("10.99.0.1");
    key.path.remote = addr("10.99.0.2");
    key.path.local_port = port;
    return key;
  }
  /// Hands events on until there are so many answers; false: they do not come.
  bool answered(std::size_t count) {
    constexpr int kWaitMs = 5000;
    while (answers_.size() < count) {
      pollfd wait{events_->fd(), POLLIN, 0};
      if (::poll(&wait, 1, kWaitMs) != 1) return false;
      events_->poll([this](const net::NetEvent& event) {
        const auto* neighbour = std::get_if<net::Neighbour>(&event);
        if (neighbour != nullptr) destinations_->on_neighbour(*neighbour);
      });
    }
    return true;
  }
  void lose_events() {
    events_->poll([](const net::NetEvent&) {});
  }

  TestNetns netns_;
  std::optional<net::NetEvents> events_;
  std::optional<Destinations> destinations_;
  std::vector<std::pair<control::RouteKey, control::Route::Kind>> answers_;
};

// The kernel's collector takes entries away when its table is full, and a flood of events makes it
// lose some.
TEST_F(DestinationsTest, ANextHopForgottenUnnoticedIsAskedForAgain) {
  destinations_->want(key(80));
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(answers_[0].second, control::Route::Kind::kDirect);
  TestNetns::run("ip neigh del 10.99.0.2 dev v0");
  lose_events();
  destinations_->want(key(81));
  EXPECT_TRUE(answered(2));
}

}  // namespace
}  // namespace toe::engine
