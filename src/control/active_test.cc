#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "control/ports.h"
#include "control/records.h"
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;
using shm::KernelReason;
using shm::MessageType;

class ActiveTest : public ControlTest {
 protected:
  using ControlTest::ControlTest;
  // Client 1 has sent its SYN from port 50000.
  void connecting() {
    join(1, 1);
    request(connect_request(1, 900));
    route(kPeer);
    held_port(50000);
    ASSERT_EQ(last_reply().type(), MessageType::kConnecting);
    ASSERT_EQ(last_reply().as<shm::LineMessage>().header.tag, 77u);
    line_number = last_reply().as<shm::LineMessage>().line;
    syn = last_sent();
    ASSERT_EQ(syn.flags, wire::kSyn);
  }
  wire::TcpSegmentHeader answer(std::uint8_t flags, std::uint32_t seq, std::uint32_t ack) {
    auto h = from_peer(9000, flags, seq, ack);
    h.dst_port = 50000;
    return h;
  }
  shm::Line& watched() { return line(1, line_number); }
  void expect_failure(int error) {
    EXPECT_EQ(watched().state, static_cast<std::uint32_t>(shm::LineState::kClosed));
    EXPECT_EQ(watched().error, static_cast<std::uint32_t>(error));
    const auto notes = commanded(Kind::kNotify);
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_EQ(notes[0].line, line_number);
    EXPECT_EQ(control->flows_in_use(), 1u);  // the line stays readable for its holder
    release(1, 1, line_number);
    EXPECT_EQ(control->flows_in_use(), 0u);
    EXPECT_TRUE(control->quiet());
  }

  std::uint32_t line_number = 0;
  wire::TcpSegment syn;
};

TEST_F(ActiveTest, ConnectsAndInstalls) {
  join(1, 1);
  request(connect_request(1, 900));
  ASSERT_EQ(world.routes_wanted.size(), 1u);
  EXPECT_EQ(world.ports_wanted, 0);
  route(kPeer);
  EXPECT_EQ(world.ports_wanted, 32);
  EXPECT_TRUE(world.replies.empty());
  held_port(50000);
  ASSERT_EQ(last_reply().type(), MessageType::kConnecting);
  line_number = last_reply().as<shm::LineMessage>().line;
  EXPECT_EQ(watched().state, static_cast<std::uint32_t>(shm::LineState::kConnecting));
  syn = last_sent();
  EXPECT_EQ(syn.flags, wire::kSyn);
  EXPECT_EQ(syn.src, kHere);
  EXPECT_EQ(syn.src_port, 50000);
  EXPECT_EQ(syn.dst_port, 9000);
  EXPECT_EQ(syn.options.mss, 1460);
  EXPECT_TRUE(syn.options.sack_permitted);

  receive(answer(wire::kSyn | wire::kAck, 7000, syn.seq + 1));
  EXPECT_EQ(last_sent().flags, wire::kAck);
  EXPECT_EQ(last_sent().seq, syn.seq + 1);
  EXPECT_EQ(last_sent().ack, 7001u);
  EXPECT_EQ(last_sent().window, 16384u >> 7);
  const auto installs = commanded(Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  EXPECT_EQ(installs[0].line, 0u);
  const flow::Flow& f = flows[index_of(installs[0].flow)];
  EXPECT_EQ(f.protocol.snd_wnd, 64240u);  // the window of a SYN-ACK is not scaled
  EXPECT_EQ(f.pre.irs, 7000u);
  EXPECT_EQ(watched().state, static_cast<std::uint32_t>(shm::LineState::kEstablished));
  EXPECT_EQ(control->counters().active_opens, 1u);
}

TEST_F(ActiveTest, SynIsRepeatedUntilTimeout) {
  connecting();
  for (int i = 0; i < 6; ++i) pass(seconds(1 << i) + millis(2));
  EXPECT_EQ(world.sent.size(), 7u);
  EXPECT_EQ(watched().state, static_cast<std::uint32_t>(shm::LineState::kConnecting));
  pass(seconds(65));
  EXPECT_EQ(world.confirmed, 1);
  expect_failure(ETIMEDOUT);
}

TEST_F(ActiveTest, UserTimeoutEndsIt) {
  join(1, 1);
  auto r = connect_request(1, 900);
  r.options.user_timeout_ms = 2500;
  request(r);
  route(kPeer);
  held_port(50000);
  line_number = last_reply().as<shm::LineMessage>().line;
  pass(millis(1001));
  pass(millis(2001));
  expect_failure(ETIMEDOUT);
}

TEST_F(ActiveTest, ResetRefusesOnlyWithTheRightAck) {
  connecting();
  receive(answer(wire::kRst | wire::kAck, 0, syn.seq + 9));
  receive(answer(wire::kRst, 0, 0));
  EXPECT_EQ(watched().state, static_cast<std::uint32_t>(shm::LineState::kConnecting));
  receive(answer(wire::kRst | wire::kAck, 0, syn.seq + 1));
  expect_failure(ECONNREFUSED);
}

TEST_F(ActiveTest, SynAckWithWrongAckIsReset) {
  connecting();
  receive(answer(wire::kSyn | wire::kAck, 7000, syn.seq + 9));
  EXPECT_EQ(last_sent().flags, wire::kRst);
  EXPECT_EQ(last_sent().seq, syn.seq + 9);
  EXPECT_TRUE(commanded(Kind::kInstall).empty());
}

TEST_F(ActiveTest, SimultaneousOpen) {
  connecting();
  receive(answer(wire::kSyn, 7000, 0));
  EXPECT_EQ(last_sent().flags, wire::kSyn | wire::kAck);
  EXPECT_EQ(last_sent().seq, syn.seq);
  EXPECT_EQ(last_sent().ack, 7001u);
  receive(answer(wire::kSyn | wire::kAck, 7000, syn.seq + 1));
  EXPECT_EQ(commanded(Kind::kInstall).size(), 1u);
  EXPECT_EQ(last_sent().flags, wire::kAck);
}

TEST_F(ActiveTest, RoutesThatTheKernelServes) {
  join(1, 1);
  const std::pair<Route::Kind, KernelReason> cases[] = {
      {Route::Kind::kOtherDevice, KernelReason::kOtherDevice},
      {Route::Kind::kOwnAddress, KernelReason::kOwnAddress},
      {Route::Kind::kUnreachable, KernelReason::kUnreachable}};
  std::uint8_t n = 50;
  for (const auto& [kind, reason] : cases) {
    auto r = connect_request(1, 900);
    r.remote = IpAddr::v4(10, 0, 0, n++);
    request(r);
    route(r.remote, kind, kind == Route::Kind::kUnreachable ? EHOSTUNREACH : 0);
    ASSERT_EQ(last_reply().type(), MessageType::kRefused);
    EXPECT_EQ(last_reply().as<shm::Refused>().reason, reason);
    EXPECT_EQ(last_reply().as<shm::Refused>().error,
              kind == Route::Kind::kUnreachable ? EHOSTUNREACH : 0);
  }
  EXPECT_EQ(world.routes_forgotten.size(), 1u);  // a refusal may end at any time
  EXPECT_TRUE(control->quiet());
}

TEST_F(ActiveTest, NoAnswerAboutTheRoute) {
  join(1, 1);
  request(connect_request(1, 900));
  pass(seconds(11));
  ASSERT_EQ(last_reply().type(), MessageType::kRefused);
  EXPECT_EQ(last_reply().as<shm::Refused>().error, EHOSTUNREACH);
  EXPECT_TRUE(control->quiet());
}

TEST_F(ActiveTest, NoPortToBeHad) {
  join(1, 1);
  request(connect_request(1, 900));
  route(kPeer);
  for (int i = 0; i < 32; ++i) held_port(0, EADDRINUSE);
  ASSERT_EQ(last_reply().type(), MessageType::kRefused);
  EXPECT_EQ(last_reply().as<shm::Refused>().error, EADDRNOTAVAIL);
  EXPECT_TRUE(control->quiet());
}

TEST_F(ActiveTest, OnePortServesSeveralRemoteEnds) {
  connecting();
  auto r = connect_request(1, 901);
  r.remote_port = 9001;
  request(r);
  route(kPeer);  // rules may choose by the port
  EXPECT_EQ(last_reply().type(), MessageType::kConnecting);
  EXPECT_EQ(last_sent().src_port, 50000);
  request(connect_request(1, 902));  // the same remote end needs another port
  EXPECT_NE(last_reply().as<shm::LineMessage>().header.type, MessageType::kRefused);
  EXPECT_EQ(world.replies.size(), 2u);
  held_port(50001);
  EXPECT_EQ(world.replies.size(), 3u);
  EXPECT_EQ(last_sent().src_port, 50001);
}

// Ports of all connections are used by two remote ends each, in an order that chance decides.
class ManyConnections : public ActiveTest {
 protected:
  static constexpr std::uint16_t kPorts = 400;  // many times PortPool::kTries
  static constexpr std::uint16_t kRemotePorts[] = {9001, 9002};

  ManyConnections() : ActiveTest(options_for(3 * kPorts)) {}
  static Options options_for(std::uint32_t flows) {
    Options o = small_options();
    o.max_flows = flows;
    return o;
  }
  /// Asks for a connection; the kernel has `kPorts` ports. Returns the answer's type.
  MessageType connect(std::uint64_t cookie, std::uint16_t remote_port) {
    auto r = connect_request(1, cookie);
    r.remote_port = remote_port;
    const std::size_t before = world.replies.size();
    const std::size_t wanted = world.routes_wanted.size();
    request(r);
    if (world.routes_wanted.size() > wanted) route(kPeer);
    while (world.replies.size() == before && world.ports_wanted > 0) {
      --world.ports_wanted;
      const bool more = given < kPorts;
      held_port(more ? static_cast<std::uint16_t>(20000 + given++) : 0, more ? 0 : EADDRINUSE);
    }
    poll();
    return world.replies.size() == before ? MessageType{} : last_reply().type();
  }

  /// The peer refuses the connection whose SYN was sent as the n-th: its port serves the other
  /// remote end only.
  void refuse(std::size_t n) {
    const wire::TcpSegment syn = world.sent.at(n);
    auto h = from_peer(syn.dst_port, wire::kRst | wire::kAck, 0, syn.seq + 1);
    h.dst_port = syn.src_port;
    receive(h);
  }

  std::uint16_t given = 0;
};

TEST_F(ManyConnections, EveryPortServesEveryRemoteEndOnce) {
  join(1, 1);
  request(connect_request(1, 1));  // the first, which keeps the route known
  route(kPeer);
  std::uint64_t cookie = 100;
  for (const std::uint16_t remote : kRemotePorts) {
    for (int i = 0; i < kPorts; ++i) {
      ASSERT_EQ(connect(cookie++, remote), MessageType::kConnecting) << remote << " " << i;
    }
  }
  for (const std::uint16_t remote : kRemotePorts) {
    ASSERT_EQ(connect(cookie++, remote), MessageType::kRefused);
    EXPECT_EQ(last_reply().as<shm::Refused>().error, EADDRNOTAVAIL);
  }
  for (std::size_t n = 7; n < kPorts; n += 40) {
    const wire::TcpSegment before = world.sent.at(n);
    refuse(n);
    ASSERT_EQ(connect(cookie++, before.dst_port), MessageType::kConnecting) << n;
    EXPECT_EQ(last_sent().src_port, before.src_port);
  }
}

// By socket, by route, by default; a name of the route that we do not have counts as none.
class AlgorithmChoice : public ActiveTest,
                        public ::testing::WithParamInterface<std::array<const char*, 3>> {};

TEST_P(AlgorithmChoice, IsBySocketByRouteByDefault) {
  const auto [socket, of_route, expected] = GetParam();
  join(1, 1);
  auto r = connect_request(1, 900);
  std::snprintf(r.options.congestion, sizeof r.options.congestion, "%s", socket);
  request(r);
  Request answered = world.route_answer(kPeer);
  answered.route.kind = Route::Kind::kDirect;
  answered.route.source = kHere;
  std::snprintf(answered.route.congestion, sizeof answered.route.congestion, "%s", of_route);
  request(answered);
  poll();
  held_port(50000);
  line_number = last_reply().as<shm::LineMessage>().line;
  syn = last_sent();
  receive(answer(wire::kSyn | wire::kAck, 7000, syn.seq + 1));
  ASSERT_EQ(commanded(Kind::kInstall).size(), 1u);
  Request ask;
  ask.kind = Request::Kind::kInfo;
  ask.client = ClientId{1};
  ask.segment = SegmentId{1};
  ask.line = line_number;
  request(ask);
  EXPECT_STREQ(last_reply().as<shm::InfoReply>().congestion, expected);
}

using Choice = std::array<const char*, 3>;
INSTANTIATE_TEST_SUITE_P(Control, AlgorithmChoice,
                         ::testing::Values(Choice{"", "", "cubic"}, Choice{"", "dctcp", "dctcp"},
                                           Choice{"reno", "dctcp", "reno"},
                                           Choice{"timely", "", "timely"},
                                           Choice{"", "bbr", "cubic"}));

// A paced connection has its pace from its first segment on.
TEST_F(ActiveTest, ARateIsThereBeforeTheFirstRound) {
  join(1, 1);
  auto r = connect_request(1, 900);
  std::memcpy(r.options.congestion, "timely", 7);
  request(r);
  route(kPeer);
  held_port(50000);
  syn = last_sent();
  pass(millis(10));
  receive(answer(wire::kSyn | wire::kAck, 7000, syn.seq + 1));
  const auto installs = commanded(Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  const auto& p = flows[index_of(installs[0].flow)].protocol;
  EXPECT_GE(p.cc.pacing_bytes_per_s, 10u * p.mss * 100u);  // the first window per round trip
  EXPECT_TRUE(p.cc.every_round);
}

TEST_F(ActiveTest, UnknownCongestionControlStaysWithTheKernel) {
  join(1, 1);
  auto r = connect_request(1, 900);
  std::memcpy(r.options.congestion, "bbr", 4);
  request(r);
  EXPECT_EQ(last_reply().as<shm::Refused>().reason, KernelReason::kCongestionControl);
}

TEST_F(ActiveTest, CloseWhileConnectingForgetsIt) {
  connecting();
  release(1, 1, line_number);
  EXPECT_EQ(control->flows_in_use(), 0u);
  EXPECT_TRUE(control->quiet());
  receive(answer(wire::kSyn | wire::kAck, 7000, syn.seq + 1));
  EXPECT_EQ(last_sent().flags, wire::kRst);
}

TEST_F(ActiveTest, DeathWhileWaitingForARouteLeavesNothing) {
  join(1, 1);
  request(connect_request(1, 900));
  leave(1);
  route(kPeer);
  held_port(50000);
  EXPECT_TRUE(world.sent.empty());
  EXPECT_TRUE(world.replies.empty());
  EXPECT_TRUE(control->quiet());
  EXPECT_EQ(world.freed.size(), 1u);
}

// Addresses come and go for months: those that are used no more cost nothing.
TEST_F(ActiveTest, ThereIsNoEndOfLocalAddresses) {
  join(1, 1);
  for (std::uint32_t n = 0; n < kMaxPools + 10; ++n) {
    Request r = connect_request(1, 1000 + n);
    r.local = IpAddr::v4(10, 1, static_cast<std::uint8_t>(n / 250), static_cast<std::uint8_t>(n));
    request(r);
    route(kPeer);
    Request held;
    held.kind = Request::Kind::kHeldPort;
    held.local = r.local;
    held.local_port = 50000;
    for (std::uint32_t i = 0; i < PortPool::kBatch; ++i, ++held.local_port) request(held);
    ASSERT_EQ(last_reply().type(), MessageType::kConnecting) << n;
    const std::uint32_t at = last_reply().as<shm::LineMessage>().line;
    const wire::TcpSegment sent = last_sent();
    auto refusal = from_peer(9000, wire::kRst | wire::kAck, 0, sent.seq + 1);
    refusal.dst = r.local;
    refusal.dst_port = sent.src_port;
    receive(refusal);
    release(1, 1, at);
  }
  EXPECT_EQ(world.ports_released.size(), 10u * PortPool::kBatch)
      << "of the pools that were replaced";
  EXPECT_TRUE(control->quiet());
}

TEST_F(ActiveTest, PortsOfAnAddressThatHasGoneAreGivenBack) {
  connecting();
  for (std::uint16_t p = 50001; p < 50032; ++p) held_port(p);
  Request gone;
  gone.kind = Request::Kind::kAddressGone;
  gone.local = kHere;
  request(gone);
  EXPECT_EQ(world.ports_released.size(), 31u) << "all but that of the connection";
}

}  // namespace
}  // namespace toe::control
