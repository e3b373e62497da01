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
        [this](const auto& key, const auto& route) { answers_.emplace_back(key, route); });
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
      destinations_->poll(now_);
      now_ = now_ + seconds(2);  // whatever it rests for is over
    }
    return true;
  }
  /// Hands on what waits, all within one instant.
  void take_events() {
    for (pollfd wait{events_->fd(), POLLIN, 0}; ::poll(&wait, 1, 0) == 1;) {
      events_->poll([this](const net::NetEvent& event) {
        const auto* neighbour = std::get_if<net::Neighbour>(&event);
        if (neighbour != nullptr) destinations_->on_neighbour(*neighbour);
      });
      destinations_->poll(now_);
    }
  }
  /// The next hop gets so many MAC addresses, one after the other; the last ends with 01.
  static void claim(int times) {
    TestNetns::run("for i in $(seq " + std::to_string(times) +
                   " -1 1); do echo neigh replace 10.99.0.2 lladdr 02:00:00:00:01:"
                   "$(printf %02x $i) dev v0; done | ip -batch -");
  }
  void lose_events() {
    events_->poll([](const net::NetEvent&) {});
  }

  TestNetns netns_;
  std::optional<net::NetEvents> events_;
  std::optional<Destinations> destinations_;
  std::vector<std::pair<control::RouteKey, control::Route>> answers_;
  Time now_ = Time{} + seconds(1);
};

// The kernel's collector takes entries away when its table is full, and a flood of events makes it
// lose some.
TEST_F(DestinationsTest, ANextHopForgottenUnnoticedIsAskedForAgain) {
  destinations_->want(key(80));
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(answers_[0].second.kind, control::Route::Kind::kDirect);
  TestNetns::run("ip neigh del 10.99.0.2 dev v0");
  lose_events();
  destinations_->want(key(81));
  EXPECT_TRUE(answered(2));
}

// An attacker may announce a gateway's address with other MAC addresses as fast as it can; each
// announcement concerns all destinations behind the gateway.
TEST_F(DestinationsTest, ANextHopThatChangesWithoutEndIsToldAtABoundedRate) {
  constexpr std::size_t kPeers = 500;
  for (std::size_t i = 0; i < kPeers; ++i) {
    destinations_->want(key(static_cast<std::uint16_t>(1000 + i)));
  }
  ASSERT_TRUE(answered(kPeers));
  take_events();
  const std::size_t before = answers_.size();
  claim(200);
  take_events();
  EXPECT_LE(answers_.size() - before, kPeers) << "one change at once";
  EXPECT_GE(answers_.size() - before, kPeers) << "and that without delay";
  const Time next = destinations_->next_deadline();
  EXPECT_GT(next, now_ + Destinations::kSettle);
  now_ = next;
  destinations_->poll(now_);
  EXPECT_LE(answers_.size() - before, 2 * kPeers);
  for (std::size_t i = 0; i < kPeers; ++i) {
    EXPECT_EQ(answers_[answers_.size() - 1 - i].second.next_hop_mac, (MacAddr{{2, 0, 0, 0, 1, 1}}));
  }
  EXPECT_EQ(destinations_->next_deadline(), Time::never());
}

// Events wait in a queue: what they say may be long over.
TEST_F(DestinationsTest, TellsWhatTheKernelKnowsNowAndNotWhatItKnewThen) {
  destinations_->want(key(80));
  ASSERT_TRUE(answered(1));
  take_events();
  const std::size_t before = answers_.size();
  claim(100);
  events_->poll([this](const net::NetEvent& event) {  // the first of them only
    const auto* neighbour = std::get_if<net::Neighbour>(&event);
    if (neighbour != nullptr) destinations_->on_neighbour(*neighbour);
  });
  destinations_->poll(now_);
  ASSERT_EQ(answers_.size(), before + 1);
  EXPECT_EQ(answers_.back().second.next_hop_mac, (MacAddr{{2, 0, 0, 0, 1, 1}}));
}

// As changes of routes without end, of which a forged router is the cause.
TEST_F(DestinationsTest, RestsTheLongerTheMoreIsLookedUp) {
  const auto rest_with = [this](int destinations) {
    for (int i = 0; i < destinations; ++i) destinations_->want(key(static_cast<std::uint16_t>(i)));
    destinations_->on_change(now_);
    const Time begin = destinations_->next_deadline();
    now_ = begin;
    while (destinations_->next_deadline() <= now_) destinations_->poll(now_);
    destinations_->on_change(now_);
    return destinations_->next_deadline() - begin;
  };
  const Nanos few = rest_with(1), many = rest_with(1000);
  EXPECT_GE(few, Destinations::kSettle);
  EXPECT_LE(few, Destinations::kSettle * 2);
  EXPECT_GE(many, few * 2);
}

// Whatever changes, the caller has other work: a look at all destinations is done in parts.
TEST_F(DestinationsTest, LooksAtAllDestinationsInParts) {
  constexpr std::size_t kPeers = 2 * Destinations::kLooksPerTurn + 1;
  for (std::size_t i = 0; i < kPeers; ++i) destinations_->want(key(static_cast<std::uint16_t>(i)));
  ASSERT_TRUE(answered(kPeers));
  take_events();
  TestNetns::run("ip route add 10.99.0.2/32 dev v0 mtu 1300");
  const std::size_t before = answers_.size();
  destinations_->on_change(now_);
  now_ = destinations_->next_deadline();
  std::vector<std::size_t> told;
  for (int turn = 0; turn < 3; ++turn) {
    destinations_->poll(now_);
    told.push_back(answers_.size() - before);
  }
  EXPECT_EQ(told, (std::vector<std::size_t>{Destinations::kLooksPerTurn,
                                            2 * Destinations::kLooksPerTurn, kPeers}));
  EXPECT_EQ(destinations_->next_deadline(), Time::never());
}

}  // namespace
}  // namespace toe::engine
