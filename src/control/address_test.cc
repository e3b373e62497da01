// Addresses and routes that change while connections live, and by what routes are asked for.
#include <cerrno>

#include "control/records.h"
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;

class AddressTest : public ControlTest {
 protected:
  using ControlTest::ControlTest;

  void accepted(std::uint16_t port = 40000) {
    if (segments.empty()) serve();
    if (slot == 0) slot = context(1, 1);
    const flow::Command install = establish(port);
    flow = install.flow;
    accept(1, slot, install, 9000u + port);
  }
  void address(Request::Kind kind, const IpAddr& local = kHere) {
    Request r;
    r.kind = kind;
    r.local = local;
    request(r);
    poll();
  }
  std::vector<bool> mutes() {
    std::vector<bool> all;
    for (const auto& command : commanded(Kind::kSetHeader)) all.push_back(command.header->mute);
    return all;
  }

  std::uint32_t slot = 0;
  FlowId flow = kNoFlow;
};

TEST_F(AddressTest, ConnectionsOutliveIt) {
  accepted();
  address(Request::Kind::kAddressGone, IpAddr::v4(10, 0, 0, 77));
  EXPECT_TRUE(commanded(Kind::kSetHeader).empty());
  address(Request::Kind::kAddressGone);
  EXPECT_EQ(mutes(), std::vector<bool>({true}));
  address(Request::Kind::kAddressGone);
  EXPECT_EQ(commanded(Kind::kSetHeader).size(), 1u) << "it was gone already";
  address(Request::Kind::kAddressBack);
  ASSERT_EQ(commanded(Kind::kSetHeader).size(), 2u);
  EXPECT_FALSE(commanded(Kind::kSetHeader)[1].header->mute);
  EXPECT_TRUE(commanded(Kind::kAbort).empty());
  EXPECT_EQ(control->flows_in_use(), 1u);
}

TEST_F(AddressTest, WaitsForRoomToTellEveryConnection) {
  for (std::uint16_t i = 0; i < 60; ++i) accepted(static_cast<std::uint16_t>(40000 + i));
  address(Request::Kind::kAddressGone);
  EXPECT_EQ(commanded(Kind::kSetHeader).size(), 60u);
}

TEST_F(AddressTest, HalfOpenConnectionsAreSilentWithoutIt) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  ASSERT_EQ(world.sent.size(), 1u);
  address(Request::Kind::kAddressGone);
  pass(seconds(1));
  EXPECT_EQ(world.sent.size(), 1u) << "the SYN-ACK was due again";
  address(Request::Kind::kAddressBack);
  pass(seconds(2));
  ASSERT_EQ(world.sent.size(), 2u);
  EXPECT_EQ(last_sent().flags, wire::kSyn | wire::kAck);
}

TEST_F(AddressTest, AnAttemptWithoutItTimesOutAsOnLinux) {
  join(1, 1);
  request(connect_request(1, 900));
  route(kPeer);
  held_port(50000);
  ASSERT_EQ(last_sent().flags, wire::kSyn);
  const std::uint32_t n = last_reply().as<shm::LineMessage>().line;
  address(Request::Kind::kAddressGone);
  for (int i = 0; i < 200; ++i) pass(seconds(1));
  EXPECT_EQ(world.sent.size(), 1u);
  EXPECT_EQ(line(1, n).error, static_cast<std::uint32_t>(ETIMEDOUT));
}

TEST_F(AddressTest, WithoutARouteNothingLeaves) {
  accepted();
  route(kPeer, Route::Kind::kUnreachable, ENETUNREACH);
  ASSERT_EQ(mutes(), std::vector<bool>({true}));
  const auto soft = commanded(Kind::kSoftError);
  ASSERT_EQ(soft.size(), 1u);
  EXPECT_EQ(soft[0].error, static_cast<std::uint32_t>(ENETUNREACH));
  EXPECT_TRUE(commanded(Kind::kSetMss).empty());
  route(kPeer);
  ASSERT_EQ(commanded(Kind::kSetHeader).size(), 2u);
  const wire::HeaderTemplate& header = *commanded(Kind::kSetHeader)[1].header;
  EXPECT_FALSE(header.mute);
  EXPECT_EQ(std::memcmp(header.bytes, kPeerMac.bytes.data(), 6), 0);
}

class LargeTable : public AddressTest {
 protected:
  static constexpr std::uint32_t kMost = 8192;
  static Options large() {
    Options o = small_options();
    o.max_flows = kMost;
    return o;
  }
  LargeTable() : AddressTest(large()) {}
};

// As after a SYN flood: many destinations are known, and an event concerns them all.
TEST_F(LargeTable, OneLookAtThemServesAllRoutesThatChange) {
  accepted();
  std::vector<IpAddr> others;
  for (std::uint8_t i = 0; i < 200; ++i) others.push_back(IpAddr::v4(198, 18, 0, i));
  for (const IpAddr& other : others) {
    wire::TcpSegmentHeader syn = from_peer(50000, wire::kSyn, 1000);
    syn.src = other;
    receive(syn);
    route(other);
  }
  ASSERT_GT(world.routes_wanted.size(), 8u);
  others.push_back(kPeer);
  for (const bool gone : {true, false}) {
    const std::size_t before = commanded(Kind::kSetHeader).size();
    for (const IpAddr& remote : others) {
      Request r = world.route_answer(remote);
      r.route.kind = gone ? Route::Kind::kUnreachable : Route::Kind::kDirect;
      r.route.source_mac = kHereMac;
      r.route.next_hop_mac = kPeerMac;
      request(r);
    }
    std::uint32_t steps = 1;
    while (control->poll(now)) ++steps;
    EXPECT_LT(steps, 2 * kMost / kRecordsPerStep) << "routes of half-open connections, one flow";
    drain();
    ASSERT_EQ(mutes().size(), before + 1);
    EXPECT_EQ(mutes().back(), gone);
  }
}

TEST_F(AddressTest, ARouteThatChangesAgainMeanwhileIsToldAgain) {
  accepted();
  for (const bool gone : {true, false, true}) {
    Request r = world.route_answer(kPeer);
    r.route.kind = gone ? Route::Kind::kUnreachable : Route::Kind::kDirect;
    r.route.source_mac = kHereMac;
    r.route.next_hop_mac = kPeerMac;
    request(r);
    (void)control->poll(now);
  }
  EXPECT_TRUE(mutes().back());
  route(kPeer);
  EXPECT_FALSE(mutes().back());
}

TEST_F(AddressTest, ConnectionsKeepTheirWayWhenTheRouteLeadsElsewhere) {
  accepted();
  Request r = world.route_answer(kPeer);
  r.route.kind = Route::Kind::kOtherDevice;
  request(r);
  for (const auto& command : commanded(Kind::kSetHeader)) {
    EXPECT_FALSE(command.header->mute);
    EXPECT_EQ(std::memcmp(command.header->bytes, kPeerMac.bytes.data(), 6), 0);
  }
  // New ones are the kernel's.
  request(connect_request(1, 901));
  route(kPeer, Route::Kind::kOtherDevice);
  EXPECT_EQ(last_reply().type(), shm::MessageType::kRefused);
}

TEST_F(AddressTest, ARouteMayComeBackBeforeTheAddress) {
  accepted();
  address(Request::Kind::kAddressGone);
  route(kPeer, Route::Kind::kUnreachable, ENETUNREACH);
  address(Request::Kind::kAddressBack);
  EXPECT_TRUE(mutes().back()) << "still no route";
  route(kPeer);
  EXPECT_FALSE(mutes().back());
}

TEST_F(AddressTest, RoutesAreAskedForByAllThatRulesMayLookAt) {
  accepted();
  ASSERT_EQ(world.routes_wanted.size(), 1u);
  const RouteKey passive = world.routes_wanted[0];
  EXPECT_EQ(passive.path, (flow::FlowKey{kHere, kPeer, 80, 0}));
  EXPECT_EQ(passive.uid, 1000u);
  request(connect_request(1, 902));
  ASSERT_EQ(world.routes_wanted.size(), 2u);
  EXPECT_EQ(world.routes_wanted[1].path, (flow::FlowKey{IpAddr::v4(0, 0, 0, 0), kPeer, 0, 9000}));
  EXPECT_EQ(world.routes_wanted[1].uid, 1000u);
  // Another connection of the same service asks nothing new; one to another address does.
  establish(40001);
  EXPECT_EQ(world.routes_wanted.size(), 2u);
  auto syn = from_peer(40002, wire::kSyn, 1000);
  syn.dst = IpAddr::v4(10, 0, 0, 3);
  receive(syn);
  ASSERT_EQ(world.routes_wanted.size(), 3u);
  EXPECT_EQ(world.routes_wanted[2].path.local, IpAddr::v4(10, 0, 0, 3));
}

}  // namespace
}  // namespace toe::control
