// Path MTU and unreachables: what is believed, what it does, when it ends.
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;

class PathMtuTest : public ControlTest {
 protected:
  void SetUp() override {
    serve();
    flow_id = establish(40000).flow;
    flow::Flow& f = flows[index_of(flow_id)];
    f.protocol.snd_una = 5000;
    f.protocol.snd_max = 5000 + 2 * f.protocol.mss;  // two full segments are outstanding
    commanded(Kind::kInstall);
  }
  /// A message about the segment at `position`, 1500 IP bytes long.
  Request message(std::uint64_t position, std::uint16_t mtu) {
    Request r;
    r.kind = Request::Kind::kIcmp;
    r.icmp = Request::Icmp::kTooBig;
    r.local = kHere;
    r.remote = kPeer;
    r.local_port = 80;
    r.remote_port = 40000;
    r.sequence = flows[index_of(flow_id)].pre.iss + 1 + static_cast<std::uint32_t>(position);
    r.length = 1500;
    r.mtu = mtu;
    return r;
  }
  void tell(const Request& r) {
    request(r);
    poll();
  }
  /// Segment sizes that the data path was told.
  std::vector<std::uint16_t> told() {
    std::vector<std::uint16_t> sizes;
    for (const auto& command : commanded(Kind::kSetMss)) sizes.push_back(command.mss);
    return sizes;
  }
  /// The route to the peer as it is, to be changed and told.
  Request another_route() {
    Request r = world.route_answer(kPeer);
    r.route.kind = Route::Kind::kDirect;
    r.route.source_mac = kHereMac;
    r.route.next_hop_mac = kPeerMac;
    return r;
  }
  FlowId flow_id = kNoFlow;
};

TEST_F(PathMtuTest, LowersTheSegmentSizeForTenMinutes) {
  tell(message(5000, 1280));
  EXPECT_EQ(told(), std::vector<std::uint16_t>{1228});
  EXPECT_EQ(control->counters().icmp_too_big, 1u);
  pass(seconds(599));
  EXPECT_EQ(told().size(), 1u);
  pass(seconds(2));
  EXPECT_EQ(told(), (std::vector<std::uint16_t>{1228, 1448}));
}

TEST_F(PathMtuTest, NewConnectionsToTheDestinationStartSmall) {
  tell(message(5000, 1280));
  const FlowId second = establish(40001).flow;
  EXPECT_EQ(flows[index_of(second)].protocol.mss, 1228);
}

TEST_F(PathMtuTest, OnlyOutstandingSegmentsCount) {
  const std::uint32_t mss = flows[index_of(flow_id)].protocol.mss;
  tell(message(4999, 1280));            // acknowledged
  tell(message(5000 + 2 * mss, 1280));  // not yet sent
  tell(message(0x80000000ull, 1280));
  Request other = message(5000, 1280);
  other.remote_port = 40001;  // no such connection
  tell(other);
  EXPECT_TRUE(told().empty());
  EXPECT_EQ(control->counters().icmp_ignored, 4u);
  tell(message(5000 + 2 * mss - 1, 1280));
  EXPECT_EQ(told().size(), 1u);
}

TEST_F(PathMtuTest, NeverRaisesAndNeverFallsBelowTheLeast) {
  tell(message(5000, 1500));
  tell(message(5000, 9000));
  EXPECT_TRUE(told().empty());
  tell(message(5000, 68));
  EXPECT_EQ(told(), std::vector<std::uint16_t>{552 - 52});
  Request small = message(5000, 552);
  small.length = 500;  // complains about a packet that fits
  tell(small);
  EXPECT_EQ(told().size(), 1u);
}

TEST_F(PathMtuTest, OldRoutersMakeItTryThePlateaus) {
  tell(message(5000, 0));
  EXPECT_EQ(told(), std::vector<std::uint16_t>{1492 - 52});
  Request again = message(5000, 0);
  again.length = 1492;
  tell(again);
  EXPECT_EQ(told().back(), 552 - 52);
}

TEST_F(PathMtuTest, TheRoutesMtuIsFollowedDownAndUpToThePeersMss) {
  Request r = another_route();
  const shm::Line& l = line(1, flows[index_of(flow_id)].post.line);
  for (const auto& [mtu, mss] : {std::pair{1280, 1228}, {1500, 1448}, {9000, 1448}, {1400, 1348}}) {
    r.route.mtu = static_cast<std::uint16_t>(mtu);
    tell(r);
    EXPECT_EQ(told().back(), mss);
    EXPECT_EQ(l.mss, static_cast<std::uint32_t>(mss)) << "what TCP_MAXSEG shows";
  }
  EXPECT_EQ(told().size(), 4u);
}

TEST_F(PathMtuTest, ARouteMaySayWhichMssToAnnounce) {
  receive(from_peer(40001, wire::kSyn, 1000));
  EXPECT_EQ(last_sent().options.mss, 1460);
  Request r = another_route();
  r.route.advmss = 1000;
  tell(r);
  EXPECT_TRUE(told().empty()) << "what is sent has another bound";
  receive(from_peer(40002, wire::kSyn, 1000));
  EXPECT_EQ(last_sent().options.mss, 1000);
}

TEST_F(PathMtuTest, AnUnreachableExplainsALaterTimeoutOnly) {
  Request r = message(5000, 0);
  r.icmp = Request::Icmp::kUnreachable;
  r.error = EHOSTUNREACH;
  tell(r);
  ASSERT_EQ(commanded(Kind::kSoftError).size(), 1u);
  EXPECT_EQ(commanded(Kind::kSoftError)[0].error, static_cast<std::uint32_t>(EHOSTUNREACH));
  EXPECT_TRUE(commanded(Kind::kAbort).empty());
  r.sequence -= 1000;
  tell(r);
  EXPECT_EQ(commanded(Kind::kSoftError).size(), 1u);
}

TEST_F(PathMtuTest, AnUnreachableEndsAConnectAtOnce) {
  request(connect_request(1, 900));
  route(kPeer);
  held_port(50000);
  const wire::TcpSegment syn = last_sent();
  ASSERT_EQ(syn.flags, wire::kSyn);
  const std::uint32_t n = last_reply().as<shm::LineMessage>().line;
  Request r = message(0, 0);
  r.icmp = Request::Icmp::kUnreachable;
  r.error = EHOSTUNREACH;
  r.local_port = syn.src_port;
  r.remote_port = 9000;
  r.sequence = syn.seq + 1;  // not the SYN
  tell(r);
  EXPECT_EQ(line(1, n).error, 0u);
  r.sequence = syn.seq;
  tell(r);
  EXPECT_EQ(line(1, n).error, static_cast<std::uint32_t>(EHOSTUNREACH));
}

}  // namespace
}  // namespace toe::control
