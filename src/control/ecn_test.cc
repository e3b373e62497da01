// Negotiation of explicit congestion notification (RFC 3168 section 6.1.1), as Linux does it.
#include <cstring>

#include "control/test_bench.h"

namespace toe::control {
namespace {

constexpr std::uint8_t kSetup = wire::kEce | wire::kCwr;
constexpr std::uint8_t kSynAck = wire::kSyn | wire::kAck;
using Kind = flow::Command::Kind;

struct Chosen {
  Ecn ecn;
  const char* congestion;
};

class EcnBench : public ControlTest {
 protected:
  explicit EcnBench(const Chosen& chosen, SynCookies cookies = SynCookies::kWhenFull)
      : ControlTest(make_options(chosen, cookies)) {}
  static Options make_options(const Chosen& chosen, SynCookies cookies) {
    Options o = small_options();
    o.ecn = chosen.ecn;
    o.syn_cookies = cookies;
    std::strncpy(o.congestion, chosen.congestion, sizeof o.congestion - 1);
    return o;
  }

  // --- Connections from here, from port 50000.
  wire::TcpSegment connecting() {
    join(1, 1);
    request(connect_request(1, 900));
    route(kPeer);
    held_port(50000);
    return last_sent();
  }
  wire::TcpSegmentHeader answer(std::uint8_t flags, std::uint32_t seq, std::uint32_t ack) {
    auto h = from_peer(9000, flags, seq, ack);
    h.dst_port = 50000;
    return h;
  }
  // --- Connections from outside.
  /// What the SYN's flags and ECN field are answered by.
  wire::TcpSegment answer_to(std::uint8_t flags, std::uint8_t ecn = wire::kNotEct) {
    if (segments.empty()) serve();
    auto syn = from_peer(4000, static_cast<std::uint8_t>(wire::kSyn | flags), 1000);
    syn.ecn = ecn;
    receive(syn);
    if (world.sent.empty()) route(kPeer);
    return last_sent();
  }
  void complete(const wire::TcpSegment& syn_ack) {
    auto ack = from_peer(4000, wire::kAck, 1001, syn_ack.seq + 1);
    ack.options.tsecr = syn_ack.options.tsval;
    receive(ack);
  }
  /// Whether the flow that was installed last has ECN.
  bool flow_has_ecn() {
    const auto installs = commanded(Kind::kInstall);
    EXPECT_FALSE(installs.empty());
    if (installs.empty()) return false;
    const flow::ProtocolSlice& p = flows[index_of(installs.back().flow)].protocol;
    EXPECT_EQ(control->counters().ecn_negotiated, p.ecn != 0 ? 1u : 0u);
    return p.ecn == flow::kEcnOn;
  }
};

class EcnAccept : public EcnBench {
 protected:
  EcnAccept() : EcnBench({Ecn::kAccept, "cubic"}) {}
};
class EcnRequest : public EcnBench {
 protected:
  EcnRequest() : EcnBench({Ecn::kRequest, "cubic"}) {}
};
class EcnOff : public EcnBench {
 protected:
  EcnOff() : EcnBench({Ecn::kOff, "cubic"}) {}
};
class EcnDctcp : public EcnBench {
 protected:
  EcnDctcp() : EcnBench({Ecn::kOff, "dctcp"}) {}
};
class EcnCookie : public EcnBench {
 protected:
  EcnCookie() : EcnBench({Ecn::kAccept, "cubic"}, SynCookies::kAlways) {}
};

TEST_F(EcnAccept, DoesNotAsk) {
  const wire::TcpSegment syn = connecting();
  EXPECT_EQ(syn.flags, wire::kSyn);
  receive(answer(kSynAck | wire::kEce, 7000, syn.seq + 1));  // a peer that grants what nobody asked
  EXPECT_FALSE(flow_has_ecn());
}

TEST_F(EcnAccept, GrantsWhatIsAskedFor) {
  const wire::TcpSegment syn_ack = answer_to(kSetup);
  EXPECT_EQ(syn_ack.flags, kSynAck | wire::kEce);
  EXPECT_EQ(syn_ack.ecn, wire::kNotEct);
  complete(syn_ack);
  EXPECT_TRUE(flow_has_ecn());
}

TEST_F(EcnAccept, APlainSynHasAPlainAnswer) {
  for (const std::uint8_t flags : {std::uint8_t{0}, wire::kEce, wire::kCwr}) {
    EXPECT_EQ(answer_to(flags).flags, kSynAck) << int{flags};
  }
  complete(last_sent());
  EXPECT_FALSE(flow_has_ecn());
}

// As Linux: such a SYN is that of DCTCP, whose exact marks this listener would not send.
TEST_F(EcnAccept, ASynThatIsEctIsRefused) {
  EXPECT_EQ(answer_to(kSetup, wire::kEct0).flags, kSynAck);
}

// The SYN-ACK was lost: the repetition must bring it back, whatever its flags.
TEST_F(EcnAccept, ARepeatedSynIsAnsweredAgain) {
  const wire::TcpSegment first = answer_to(kSetup);
  for (const std::uint8_t flags : {kSetup, std::uint8_t{0}}) {
    pass(millis(500));
    const std::size_t before = world.sent.size();
    const wire::TcpSegment again = answer_to(flags);
    ASSERT_EQ(world.sent.size(), before + 1) << int{flags};
    EXPECT_EQ(again.flags, kSynAck | wire::kEce);  // the first SYN stands
    EXPECT_EQ(again.seq, first.seq);
  }
  complete(first);
  EXPECT_TRUE(flow_has_ecn());
}

TEST_F(EcnAccept, RepeatsItsSynAckByItself) {
  const wire::TcpSegment first = answer_to(kSetup);
  pass(seconds(1));
  EXPECT_EQ(last_sent().flags, first.flags);
  EXPECT_EQ(world.sent.size(), 2u);
}

TEST_F(EcnRequest, AsksAndTakesTheGrant) {
  const wire::TcpSegment syn = connecting();
  EXPECT_EQ(syn.flags, wire::kSyn | kSetup);
  EXPECT_EQ(syn.ecn, wire::kNotEct);
  receive(answer(kSynAck | wire::kEce, 7000, syn.seq + 1));
  EXPECT_EQ(last_sent().flags, wire::kAck);
  EXPECT_EQ(last_sent().ecn, wire::kNotEct);
  EXPECT_TRUE(flow_has_ecn());
}

TEST_F(EcnRequest, OtherAnswersAreNoGrant) {
  const wire::TcpSegment syn = connecting();
  receive(answer(kSynAck | kSetup, 7000, syn.seq + 1));  // a peer that echoes reserved bits
  EXPECT_FALSE(flow_has_ecn());
}

TEST_F(EcnRequest, AsksOnlyOnceForAPathMayDropIt) {
  const wire::TcpSegment syn = connecting();
  pass(seconds(1));
  EXPECT_EQ(last_sent().flags, wire::kSyn);
  EXPECT_EQ(last_sent().seq, syn.seq);
  EXPECT_EQ(control->counters().ecn_fallbacks, 1u);
  pass(seconds(2));
  EXPECT_EQ(last_sent().flags, wire::kSyn);
  EXPECT_EQ(control->counters().ecn_fallbacks, 1u);
  receive(answer(kSynAck, 7000, syn.seq + 1));
  EXPECT_FALSE(flow_has_ecn());
}

TEST_F(EcnRequest, ALateGrantStillCounts) {
  const wire::TcpSegment syn = connecting();
  pass(seconds(1));
  receive(answer(kSynAck | wire::kEce, 7000, syn.seq + 1));
  EXPECT_TRUE(flow_has_ecn());
}

TEST_F(EcnRequest, SimultaneousOpen) {
  const wire::TcpSegment syn = connecting();
  receive(answer(wire::kSyn | kSetup, 7000, 0));
  EXPECT_EQ(last_sent().flags, kSynAck | wire::kEce);
  receive(answer(kSynAck | wire::kEce, 7000, syn.seq + 1));
  EXPECT_TRUE(flow_has_ecn());
}

TEST_F(EcnRequest, SimultaneousOpenWithAPeerThatDoesNotAsk) {
  connecting();
  receive(answer(wire::kSyn, 7000, 0));
  EXPECT_EQ(last_sent().flags, kSynAck);
}

TEST_F(EcnOff, NeitherAsksNorGrants) {
  EXPECT_EQ(answer_to(kSetup).flags, kSynAck);
  complete(last_sent());
  EXPECT_FALSE(flow_has_ecn());
}

TEST_F(EcnOff, AProgramThatChoosesDctcpHasEcn) {
  join(1, 1);
  Request r = connect_request(1, 900);
  std::strncpy(r.options.congestion, "dctcp-rate", sizeof r.options.congestion - 1);
  request(r);
  route(kPeer);
  held_port(50000);
  EXPECT_EQ(last_sent().flags, wire::kSyn | kSetup);
  EXPECT_EQ(last_sent().ecn, wire::kEct0);
}

TEST_F(EcnDctcp, AsksWithEctWhateverTheOptionSays) {
  const wire::TcpSegment syn = connecting();
  EXPECT_EQ(syn.flags, wire::kSyn | kSetup);
  EXPECT_EQ(syn.ecn, wire::kEct0);  // RFC 8257 section 3.4
  receive(answer(kSynAck | wire::kEce, 7000, syn.seq + 1));
  EXPECT_EQ(last_sent().ecn, wire::kEct0);
  ASSERT_TRUE(flow_has_ecn());
  EXPECT_TRUE(flows[index_of(commanded(Kind::kInstall)[0].flow)].protocol.cc.exact_marks);
}

TEST_F(EcnDctcp, ThePlainRepetitionIsNotEct) {
  connecting();
  pass(seconds(1));
  EXPECT_EQ(last_sent().flags, wire::kSyn);
  EXPECT_EQ(last_sent().ecn, wire::kNotEct);
}

TEST_F(EcnDctcp, GrantsToPeersOfBothKinds) {
  EXPECT_EQ(answer_to(kSetup, wire::kEct0).flags, kSynAck | wire::kEce);
  EXPECT_EQ(last_sent().ecn, wire::kEct0);
}

TEST_F(EcnDctcp, WithoutAGrantItIsReno) {
  const wire::TcpSegment syn_ack = answer_to(0);
  EXPECT_EQ(syn_ack.flags, kSynAck);
  EXPECT_EQ(syn_ack.ecn, wire::kNotEct);
  complete(syn_ack);
  EXPECT_FALSE(flow_has_ecn());
}

TEST_F(EcnCookie, BringsEcnBack) {
  const wire::TcpSegment syn_ack = answer_to(kSetup);
  EXPECT_EQ(syn_ack.flags, kSynAck | wire::kEce);
  ASSERT_EQ(control->counters().syn_cookies_sent, 1u);
  complete(syn_ack);
  if (commanded(Kind::kInstall).empty()) {  // the route was not known
    route(kPeer);
    complete(syn_ack);
  }
  EXPECT_TRUE(flow_has_ecn());
}

TEST_F(EcnCookie, WithoutTimestampsThereIsNoRoomForIt) {
  serve();
  auto syn = from_peer(4000, wire::kSyn | kSetup, 1000);
  syn.options.has_timestamp = false;
  receive(syn);
  EXPECT_EQ(last_sent().flags, kSynAck);
}

TEST_F(EcnCookie, NotForASynThatIsEct) { EXPECT_EQ(answer_to(kSetup, wire::kEct0).flags, kSynAck); }

}  // namespace
}  // namespace toe::control
