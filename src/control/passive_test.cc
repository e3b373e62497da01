#include <cerrno>

#include "control/records.h"
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;

class PassiveTest : public ControlTest {};

TEST_F(PassiveTest, SackIsTakenFromThosePeersThatOfferIt) {
  serve();
  route(kPeer);
  wire::TcpSegmentHeader syn = from_peer(40000, wire::kSyn, 1000);
  syn.options.sack_permitted = true;
  receive(syn);
  route(kPeer);
  EXPECT_TRUE(last_sent().options.sack_permitted);
  receive(from_peer(40000, wire::kAck, 1001, last_sent().seq + 1));
  const auto installs = commanded(Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  EXPECT_TRUE(flows[index_of(installs[0].flow)].protocol.sack_on);
}

TEST_F(PassiveTest, HandshakeInstallsAFilledFlow) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  ASSERT_EQ(world.routes_wanted.size(), 1u);
  EXPECT_TRUE(world.sent.empty());  // the SYN waits for the route
  route(kPeer);
  ASSERT_EQ(world.sent.size(), 1u);
  const wire::TcpSegment s = last_sent();
  EXPECT_EQ(s.flags, wire::kSyn | wire::kAck);
  EXPECT_EQ(s.ack, 1001u);
  EXPECT_EQ(s.eth_dst, kPeerMac);
  EXPECT_EQ(s.eth_src, kHereMac);
  EXPECT_EQ(s.options.mss, 1460);
  EXPECT_TRUE(s.options.has_timestamp);
  EXPECT_EQ(s.options.tsecr, 5000u);
  EXPECT_TRUE(s.options.has_wscale);
  EXPECT_EQ(s.options.wscale, 7);  // 4 MiB need a shift of 7
  EXPECT_FALSE(s.options.sack_permitted);
  EXPECT_EQ(s.window, 16384);

  now = now + millis(20);
  peer_clock = 5020;
  auto ack = from_peer(40000, wire::kAck, 1001, s.seq + 1);
  ack.window = 502;
  receive(ack);
  const auto installs = commanded(Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  EXPECT_EQ(installs[0].line, listener_line);
  EXPECT_EQ(installs[0].accept_index, 0u);
  EXPECT_EQ(installs[0].ring.bytes(), 16384u);
  EXPECT_EQ(world.reinjected, 0);
  const flow::Flow& f = flows[index_of(installs[0].flow)];
  EXPECT_EQ(f.pre.key, (flow::FlowKey{kHere, kPeer, 80, 40000}));
  EXPECT_EQ(f.pre.iss, s.seq);
  EXPECT_EQ(f.pre.irs, 1000u);
  EXPECT_EQ(f.protocol.mss, 1448);
  EXPECT_EQ(f.protocol.cwnd, 10u * 1448u);
  EXPECT_EQ(f.protocol.snd_wnd, 502u << 7);
  EXPECT_EQ(f.protocol.snd_wscale, 7);
  EXPECT_EQ(f.protocol.rcv_wscale, 7);
  EXPECT_EQ(f.protocol.rcv_adv, 16384u);
  EXPECT_EQ(f.protocol.ts_recent, 5020u);
  EXPECT_EQ(f.protocol.srtt, millis(20));
  EXPECT_EQ(f.protocol.rto, millis(200));
  EXPECT_EQ(f.protocol.quick_acks, 16);
  EXPECT_EQ(f.post.header.length, 66);
  shm::Line& l = line(1, f.post.line);
  EXPECT_EQ(l.state, static_cast<std::uint32_t>(shm::LineState::kEstablished));
  EXPECT_EQ(l.generation % 2, 1u);
  EXPECT_EQ(l.rx_ring[0], f.post.rx_ring[1].word);
  EXPECT_EQ(l.remote_port, 40000);
  EXPECT_EQ(control->counters().passive_opens, 1u);
  EXPECT_TRUE(all_frames_home());
}

TEST_F(PassiveTest, DataWithTheLastAckIsReinjectedBehindTheInstallation) {
  serve();
  route(kPeer);
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  receive(from_peer(40000, wire::kAck | wire::kPsh, 1001, last_sent().seq + 1), 100);
  EXPECT_EQ(world.reinjected, 1);
  EXPECT_EQ(commands.size(), 1u);  // kInstall; AddSegment was read before
  // What follows before the data path has read the command is not answered by an RST.
  const std::size_t sent = world.sent.size();
  receive(from_peer(40000, wire::kAck | wire::kPsh, 1101, last_sent().seq + 1), 100);
  EXPECT_EQ(world.reinjected, 2);
  EXPECT_EQ(world.sent.size(), sent);
}

TEST_F(PassiveTest, FinWithTheLastAckIsReinjected) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  receive(from_peer(40000, wire::kAck | wire::kFin, 1001, last_sent().seq + 1));
  EXPECT_EQ(world.reinjected, 1);
}

TEST_F(PassiveTest, TheSynAckEchoesTheNewestSyn) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  EXPECT_EQ(last_sent().options.tsecr, 5000u);
  peer_clock = 6000;
  receive(from_peer(40000, wire::kSyn, 1000));
  EXPECT_EQ(last_sent().options.tsecr, 6000u);
  peer_clock = 5500;  // came late
  receive(from_peer(40000, wire::kSyn, 1000));
  EXPECT_EQ(last_sent().options.tsecr, 6000u);
}

TEST_F(PassiveTest, SynAckIsRepeatedWithBackoffAndGivenUp) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  ASSERT_EQ(world.sent.size(), 1u);
  pass(millis(999));
  EXPECT_EQ(world.sent.size(), 1u);
  pass(millis(2));
  EXPECT_EQ(world.sent.size(), 2u);
  EXPECT_EQ(world.sent[0].seq, world.sent[1].seq);
  pass(millis(2000));
  EXPECT_EQ(world.sent.size(), 3u);
  pass(seconds(4));
  pass(seconds(8));
  pass(seconds(16));
  EXPECT_EQ(world.sent.size(), 6u);
  EXPECT_EQ(control->counters().attempt_fails, 0u);
  pass(seconds(32));
  EXPECT_EQ(world.sent.size(), 6u);
  EXPECT_EQ(control->counters().attempt_fails, 1u);
  EXPECT_TRUE(control->quiet());
}

TEST_F(PassiveTest, DuplicateSynGetsTheSameAnswer) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  receive(from_peer(40000, wire::kSyn, 1000));
  ASSERT_EQ(world.sent.size(), 2u);
  EXPECT_EQ(world.sent[0].seq, world.sent[1].seq);
  now = now + millis(500);
  receive(from_peer(40000, wire::kSyn, 7000));  // another SYN: an ACK, so that its sender resets
  EXPECT_EQ(last_sent().flags, wire::kAck);
}

// As Linux (tcp_invalid_ratelimit): who repeats one SYN at full speed gets two answers a second.
TEST_F(PassiveTest, SynsOfOneHandshakeAreAnsweredAtABoundedRate) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  ASSERT_EQ(world.sent.size(), 1u);
  for (int i = 0; i < 10; ++i) receive(from_peer(40000, wire::kSyn, 1000));
  for (int i = 0; i < 10; ++i) receive(from_peer(40000, wire::kSyn, 7000));
  EXPECT_EQ(world.sent.size(), 2u);
  EXPECT_EQ(control->counters().drops.handshake_repeated, 9u);
  EXPECT_EQ(control->counters().drops.handshake_outside, 10u);
  now = now + millis(500);
  receive(from_peer(40000, wire::kSyn, 1000));
  EXPECT_EQ(world.sent.size(), 3u);
}

TEST_F(PassiveTest, ForeignAcksInSynReceivedAreAnsweredAtABoundedRate) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  const std::size_t before = world.sent.size();
  for (int i = 0; i < 5; ++i) receive(from_peer(40000, wire::kAck, 900000, 77));  // an ACK war
  EXPECT_EQ(world.sent.size(), before + 1);
  EXPECT_EQ(control->counters().drops.handshake_outside, 5u);
  EXPECT_EQ(control->counters().handshake_segments, 5u);
}

TEST_F(PassiveTest, ResetsInSynReceivedAreChallengedAtABoundedRate) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  const std::size_t before = world.sent.size();
  for (int i = 0; i < 5; ++i) receive(from_peer(40000, wire::kRst, 1500));
  EXPECT_EQ(world.sent.size(), before + 1);
  EXPECT_EQ(control->counters().drops.handshake_bad_rst, 5u);
}

TEST_F(PassiveTest, ResetInSynReceived) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  receive(from_peer(40000, wire::kRst, 1500));  // inside the window, not exact: challenge ACK
  EXPECT_EQ(last_sent().flags, wire::kAck);
  EXPECT_FALSE(control->quiet());
  receive(from_peer(40000, wire::kRst, 900000));  // outside: nothing
  EXPECT_FALSE(control->quiet());
  receive(from_peer(40000, wire::kRst, 1001));
  EXPECT_EQ(control->counters().attempt_fails, 1u);
  EXPECT_TRUE(control->quiet());
}

TEST_F(PassiveTest, WrongAckNumberIsAnsweredByReset) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  receive(from_peer(40000, wire::kAck, 1001, 4242));
  EXPECT_EQ(last_sent().flags, wire::kRst);
  EXPECT_EQ(last_sent().seq, 4242u);
  EXPECT_TRUE(commanded(Kind::kInstall).empty());
}

TEST_F(PassiveTest, OldTimestampIsNotTheHandshake) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  const std::uint32_t iss = last_sent().seq;
  peer_clock = 4000;
  receive(from_peer(40000, wire::kAck, 1001, iss + 1));
  EXPECT_TRUE(commanded(Kind::kInstall).empty());
  EXPECT_EQ(last_sent().flags, wire::kAck);
}

TEST_F(PassiveTest, BacklogCountsHalfOpenAndUnaccepted) {
  serve(2);
  establish(40000);
  establish(40001);
  const std::uint32_t iss = (receive(from_peer(40002, wire::kSyn, 1)), last_sent().seq);
  receive(from_peer(40003, wire::kSyn, 1));  // backlog + 1 have a record, as in Linux
  EXPECT_EQ(control->counters().syn_cookies_sent, 1u);
  receive(from_peer(40002, wire::kAck, 2, iss + 1));
  const std::size_t sent = world.sent.size();
  receive(from_peer(40004, wire::kSyn, 1));  // nobody accepts: more cookies would help nobody
  EXPECT_EQ(world.sent.size(), sent);
  EXPECT_EQ(control->counters().syn_dropped_backlog, 1u);
}

TEST_F(PassiveTest, FloodFromForgedAddressesIsBounded) {
  serve(16000);
  auto syn = from_peer(40000, wire::kSyn, 1000);
  for (std::uint32_t i = 0; i < 20000; ++i) {
    syn.src = IpAddr::v4(172, static_cast<std::uint8_t>(16 + (i >> 16)),
                         static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i));
    receive(syn);
  }
  EXPECT_GT(control->counters().syn_cookies_sent, 4000u);
  EXPECT_EQ(control->counters().syn_dropped_limit, 0u);  // answered is not dropped
  // A connect from here still gets through.
  request(connect_request(1, 900));
  route(kPeer);
  held_port(50000);
  EXPECT_EQ(last_reply().type(), shm::MessageType::kConnecting);
  pass(seconds(4));  // no route came for any of them
  EXPECT_EQ(world.routes_forgotten.size() + 1, world.routes_wanted.size());
}

TEST_F(PassiveTest, SynsWaitUntilThePortIsMarked) {
  join(1, 1);
  request(listen_request(1, 500, IpAddr{}));
  ASSERT_EQ(world.marked, std::vector<std::uint64_t>{500});
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  receive(from_peer(40000, wire::kSyn, 1000));
  poll();
  EXPECT_TRUE(world.sent.empty());
  mark(500);
  ASSERT_EQ(world.sent.size(), 1u);
  EXPECT_EQ(last_sent().flags, wire::kSyn | wire::kAck);
}

TEST_F(PassiveTest, ListenIsAnsweredOnceThePortIsSteered) {
  join(1, 1);
  request(listen_request(1, 500, IpAddr{}));
  poll();
  EXPECT_TRUE(world.replies.empty());
  mark(500);
  EXPECT_EQ(last_reply().type(), shm::MessageType::kListening);
  request(listen_request(1, 500, IpAddr{}));  // again: at once
  EXPECT_EQ(world.replies.size(), 2u);
}

TEST_F(PassiveTest, AFailedSteeringIsCountedAndTold) {
  join(1, 1);
  request(listen_request(1, 500, IpAddr::v4(0, 0, 0, 0)));
  receive(from_peer(40000, wire::kSyn, 1000));
  mark(500, ENOSPC);
  ASSERT_EQ(last_reply().type(), shm::MessageType::kRefused);
  EXPECT_EQ(last_reply().as<shm::Refused>().reason, shm::KernelReason::kSteering);
  EXPECT_EQ(control->counters().listen_not_steered, 1u);
  EXPECT_TRUE(world.closed.empty()) << "the socket listens on, at the kernel";
  EXPECT_EQ(world.ports_released.size(), 2u);
  route(kPeer);
  EXPECT_TRUE(world.sent.empty()) << "the kernel answers the next SYN";
  EXPECT_TRUE(control->quiet());
  listen(listen_request(1, 500, IpAddr::v4(0, 0, 0, 0)));  // a second try
  EXPECT_EQ(last_reply().type(), shm::MessageType::kListening);
}

TEST_F(PassiveTest, AFailedMemberOfAGroupLeavesTheOthersAlone) {
  join(1, 1);
  auto one = listen_request(1, 500, kHere);
  auto two = listen_request(1, 501, kHere);
  one.reuseport = two.reuseport = true;
  listen(one);
  request(two);
  mark(501, ENOSPC);
  EXPECT_EQ(last_reply().type(), shm::MessageType::kRefused);
  establish(40000);
}

TEST_F(PassiveTest, WaitingSynsAreAnsweredInBoundedSteps) {
  constexpr std::uint16_t kSyns = 500;
  join(1, 1);
  request(listen_request(1, 500, IpAddr::v4(0, 0, 0, 0), 1000));
  for (std::uint16_t i = 0; i < kSyns; ++i) receive(from_peer(40000 + i, wire::kSyn, 1));
  Request marked;
  marked.kind = Request::Kind::kMarked;
  marked.cookie = 500;
  request(marked);
  poll();
  EXPECT_TRUE(world.sent.empty()) << "the route is not known yet";
  Request r = world.route_answer(kPeer);
  r.route.kind = Route::Kind::kDirect;
  request(r);
  std::size_t before = world.sent.size();
  EXPECT_LE(before, kWaitersPerStep);
  for (bool more = true; more; before = world.sent.size()) {
    more = control->poll(now);
    EXPECT_LE(world.sent.size() - before, kWaitersPerStep);
  }
  EXPECT_EQ(world.sent.size(), kSyns);
  // The same once more, with the route known and the steering late.
  auto other = listen_request(1, 501, IpAddr::v4(0, 0, 0, 0), 1000);
  other.local_port = 81;
  request(other);
  for (std::uint16_t i = 0; i < kSyns; ++i) {
    auto syn = from_peer(40000 + i, wire::kSyn, 1);
    syn.dst_port = 81;
    receive(syn);
  }
  r = world.route_answer(kPeer);
  r.route.kind = Route::Kind::kDirect;
  request(r);
  EXPECT_EQ(world.sent.size(), kSyns);
  marked.cookie = 501;
  request(marked);
  before = world.sent.size();
  for (bool more = true; more; before = world.sent.size()) {
    more = control->poll(now);
    EXPECT_LE(world.sent.size() - before, kWaitersPerStep);
  }
  EXPECT_EQ(world.sent.size(), 2u * kSyns);
}

TEST_F(PassiveTest, PeerWithoutOptions) {
  serve();
  auto syn = from_peer(40000, wire::kSyn, 1000);
  syn.options = {};
  receive(syn);
  route(kPeer);
  EXPECT_FALSE(last_sent().options.has_timestamp);
  EXPECT_FALSE(last_sent().options.has_wscale);
  auto ack = from_peer(40000, wire::kAck, 1001, last_sent().seq + 1);
  ack.options = {};
  receive(ack);
  const auto installs = commanded(Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  const flow::ProtocolSlice& p = flows[index_of(installs[0].flow)].protocol;
  EXPECT_EQ(p.mss, 536);
  EXPECT_EQ(p.snd_wnd, 64240u);
  EXPECT_EQ(p.rcv_wscale, 0);
  EXPECT_FALSE(p.ts_on);
}

TEST_F(PassiveTest, Ipv6) {
  join(1, 1);
  request(listen_request(1, 500, IpAddr{}));
  mark(500);
  std::uint8_t raw[16] = {0xfd};
  raw[15] = 1;
  const IpAddr here = IpAddr::v6(raw);
  raw[15] = 2;
  auto syn = from_peer(40000, wire::kSyn, 1000);
  syn.dst = here;
  syn.src = IpAddr::v6(raw);
  syn.options.mss = 1440;
  receive(syn);
  route(syn.src);
  EXPECT_EQ(last_sent().options.mss, 1440);
  EXPECT_EQ(last_sent().dst, syn.src);
  auto ack = from_peer(40000, wire::kAck, 1001, last_sent().seq + 1);
  ack.dst = syn.dst;
  ack.src = syn.src;
  receive(ack);
  const auto installs = commanded(Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  EXPECT_EQ(flows[index_of(installs[0].flow)].protocol.mss, 1428);
  EXPECT_TRUE(flows[index_of(installs[0].flow)].post.header.ipv6);
}

TEST_F(PassiveTest, AnswersCarryTheTagsOfTheSyn) {
  serve();
  auto syn = from_peer(40000, wire::kSyn, 1000);
  syn.vlan.count = 1;
  syn.vlan.tag[0] = {wire::kTpidVlan, 7};
  receive(syn);
  route(kPeer);
  ASSERT_EQ(last_sent().vlan.count, 1);
  EXPECT_EQ(last_sent().vlan.tag[0].id(), 7);
}

TEST_F(PassiveTest, RouteThroughAnotherDeviceDropsTheSyn) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer, Route::Kind::kOtherDevice);
  EXPECT_TRUE(world.sent.empty());
  EXPECT_TRUE(control->quiet());
  EXPECT_EQ(control->counters().drops.syn_no_route, 1u);
}

// A flood from forged addresses of the network: each costs one question to the kernel, whose table
// of neighbours is not to be filled, and keeps its place in the backlog until it ends.
TEST_F(PassiveTest, SynsWithoutRoomForTheirNextHopWaitForTheirEnd) {
  serve(2);
  for (std::uint16_t i = 0; i < 20; ++i) receive(from_peer(40000 + i, wire::kSyn, 1));
  route(kPeer, Route::Kind::kUnreachable, ENOBUFS);
  EXPECT_EQ(world.routes_wanted.size(), 1u);
  EXPECT_EQ(control->counters().destinations_refused, 1u);
  EXPECT_EQ(control->counters().syn_cookies_sent, 17u) << "backlog + 1 have a record";
  receive(from_peer(41000, wire::kSyn, 1));
  EXPECT_EQ(world.routes_wanted.size(), 1u);
  EXPECT_EQ(control->counters().drops.syn_no_route, 1u) << "nor has it a cookie";
  now = now + seconds(4);
  poll();
  EXPECT_EQ(control->counters().drops.syn_no_route, 4u);
  EXPECT_TRUE(control->quiet());
  receive(from_peer(41000, wire::kSyn, 1));
  EXPECT_EQ(world.routes_wanted.size(), 2u) << "asked anew";
}

TEST_F(PassiveTest, DestinationsThatNobodyUsesMakeRoom) {
  serve();
  receive(from_peer(40001, wire::kSyn, 1));
  route(kPeer);
  receive(from_peer(40001, wire::kRst, 2));  // the route has no user any more
  ASSERT_TRUE(control->quiet());
  ASSERT_TRUE(world.routes_forgotten.empty());
  wire::TcpSegmentHeader syn = from_peer(40002, wire::kSyn, 1);
  syn.src = IpAddr::v4(10, 0, 0, 77);
  receive(syn);
  route(syn.src, Route::Kind::kUnreachable, ENOBUFS);
  ASSERT_EQ(world.routes_forgotten.size(), 1u);
  EXPECT_EQ(world.routes_forgotten[0].path.remote, kPeer);
}

TEST_F(PassiveTest, ASynWithoutRouteInTimeIsCounted) {
  serve();
  receive(from_peer(40000, wire::kSyn, 1000));
  receive(from_peer(40000, wire::kSyn, 1000));
  EXPECT_EQ(control->counters().drops.handshake_waiting, 1u);
  now = now + seconds(4);
  poll();
  EXPECT_EQ(control->counters().drops.syn_no_route, 1u);
  EXPECT_TRUE(control->quiet());
}

TEST_F(PassiveTest, ExactAddressBeatsWildcardAndFamiliesAreKept) {
  join(1, 1);
  request(listen_request(1, 500, IpAddr{}));  // [::]:80, dual stack
  request(listen_request(1, 501, kHere));
  mark(500);
  mark(501);
  const auto install = establish(40000);
  const std::uint32_t exact = world.replies[1].as<shm::LineMessage>().line;
  EXPECT_EQ(install.line, exact);
  // A v6-only wildcard serves no IPv4.
  auto only = listen_request(1, 502, IpAddr{});
  only.local_port = 81;
  only.v6only = true;
  request(only);
  mark(502);
  auto syn = from_peer(40001, wire::kSyn, 1);
  syn.dst_port = 81;
  receive(syn);
  EXPECT_EQ(last_sent().flags, wire::kRst | wire::kAck);
  EXPECT_EQ(control->counters().syn_no_listener, 1u);
}

TEST_F(PassiveTest, SequenceNumbersGrowWithTimeForOneTuple) {
  serve();
  std::uint32_t last = 0;
  for (int i = 0; i < 5; ++i) {
    receive(from_peer(40000, wire::kSyn, 1000));
    if (i == 0) route(kPeer);
    const std::uint32_t iss = last_sent().seq;
    if (i > 0) {
      EXPECT_EQ(iss - last, 250'000u);  // one second in steps of 4 us
    }
    last = iss;
    receive(from_peer(40000, wire::kRst, 1001));
    now = now + seconds(1);
  }
  // Another tuple starts elsewhere.
  receive(from_peer(40001, wire::kSyn, 1000));
  EXPECT_GT(last_sent().seq - last, 1'000'000u);
}

// Linux keeps an IPv6-only wildcard and a dual-stack one apart, though both are "::".
TEST_F(PassiveTest, Ipv6OnlyAndDualStackAreTwoListeners) {
  join(1, 1);
  Request only = listen_request(1, 500, IpAddr{});
  only.reuseport = true;
  only.v6only = true;
  listen(only);
  receive(from_peer(40000, wire::kSyn, 1000));
  EXPECT_EQ(last_sent().flags, wire::kRst | wire::kAck);
  Request dual = only;
  dual.cookie = 501;
  dual.v6only = false;
  listen(dual);
  receive(from_peer(40000, wire::kSyn, 1000));
  route(kPeer);
  EXPECT_EQ(last_sent().flags, wire::kSyn | wire::kAck);
}

}  // namespace
}  // namespace toe::control
