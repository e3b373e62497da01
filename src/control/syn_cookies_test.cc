#include "control/syn_cookies.h"

#include <cerrno>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "control/test_bench.h"

namespace toe::control {
namespace {

const flow::HashKey kSecret{11, 22};

flow::FlowKey tuple(std::uint16_t port) {
  return {IpAddr::v4(10, 0, 0, 1), IpAddr::v4(10, 0, 0, 2), 80, port};
}

SynFacts facts(std::uint32_t irs, std::uint16_t mss) {
  SynFacts f;
  f.irs = irs;
  f.mss = mss;
  return f;
}

TEST(SynCookie, ComesBackWithTheMssRoundedDown) {
  const Time now = Time{} + seconds(1000);
  const std::uint16_t expected[][2] = {{216, 216},   {535, 216},   {536, 536},   {1459, 1440},
                                       {1460, 1460}, {8939, 1460}, {8940, 8940}, {65535, 8940}};
  for (const auto& [offered, kept] : expected) {
    const auto iss = make_cookie(tuple(4000), facts(77, offered), now, kSecret);
    ASSERT_TRUE(iss.has_value());
    SynFacts back = facts(77, 0);
    ASSERT_TRUE(read_cookie(tuple(4000), *iss, now, kSecret, back)) << offered;
    EXPECT_EQ(back.mss, kept);
  }
  EXPECT_FALSE(make_cookie(tuple(4000), facts(77, 215), now, kSecret).has_value());
}

TEST(SynCookie, ExpiresAfterTheNextPeriod) {
  const Time made = Time{} + kCookiePeriod * 10;
  const auto iss = make_cookie(tuple(1), facts(5, 1460), made, kSecret);
  SynFacts back = facts(5, 0);
  EXPECT_TRUE(read_cookie(tuple(1), *iss, made + kCookiePeriod, kSecret, back));
  EXPECT_FALSE(read_cookie(tuple(1), *iss, made + kCookiePeriod * 2, kSecret, back));
  // The five visible bits of the clock repeat; the hash does not.
  EXPECT_FALSE(read_cookie(tuple(1), *iss, made + kCookiePeriod * 32, kSecret, back));
}

RC_GTEST_PROP(SynCookie, NothingElseIsTaken, (std::uint32_t irs, std::uint16_t port)) {
  const Time now = Time{} + seconds(5000);
  const auto iss = make_cookie(tuple(port), facts(irs, 1460), now, kSecret);
  SynFacts other = facts(irs + 1, 0);
  RC_ASSERT(!read_cookie(tuple(port), *iss, now, kSecret, other));
  SynFacts same = facts(irs, 0);
  RC_ASSERT(!read_cookie(tuple(static_cast<std::uint16_t>(port + 1)), *iss, now, kSecret, same));
  RC_ASSERT(!read_cookie(tuple(port), *iss + 1, now, kSecret, same));
  RC_ASSERT(!read_cookie(tuple(port), *iss, now, {11, 23}, same));
}

RC_GTEST_PROP(SynCookie, TimestampsKeepTheFactsAndNeverRunAhead, (std::uint32_t clock, bool sack)) {
  SynFacts syn;
  syn.sack_on = sack;
  syn.ecn = *rc::gen::arbitrary<bool>();
  syn.wscale_on = *rc::gen::arbitrary<bool>();
  syn.wscale = *rc::gen::inRange<std::uint8_t>(0, 15);
  const std::uint32_t stamp = cookie_timestamp(clock, syn);
  RC_ASSERT(clock - stamp <= 64u);
  SynFacts back;
  read_cookie_timestamp(stamp, back);
  RC_ASSERT(back.timestamps && back.sack_on == sack && back.wscale_on == syn.wscale_on);
  RC_ASSERT(back.ecn == syn.ecn);
  RC_ASSERT(!syn.wscale_on || back.wscale == syn.wscale);
}

class CookieTest : public ControlTest {
 protected:
  /// A backlog of one, filled by SYNs that nobody completes.
  void flood() {
    serve(1);
    receive(from_peer(1, wire::kSyn, 9));
    route(kPeer);
    receive(from_peer(2, wire::kSyn, 9));
    ASSERT_EQ(control->counters().syn_cookies_sent, 0u);
  }
};

TEST_F(CookieTest, ServesThePeerThatAnswersDuringAFlood) {
  flood();
  auto syn = from_peer(40000, wire::kSyn, 1000);
  syn.options.sack_permitted = true;
  receive(syn);
  const wire::TcpSegment answer = last_sent();
  EXPECT_EQ(answer.flags, wire::kSyn | wire::kAck);
  EXPECT_TRUE(answer.options.sack_permitted);
  EXPECT_EQ(answer.ack, 1001u);
  EXPECT_EQ(answer.options.mss, 1460);
  EXPECT_EQ(control->counters().syn_cookies_sent, 1u);
  EXPECT_TRUE(commanded(flow::Command::Kind::kInstall).empty());

  auto ack = from_peer(40000, wire::kAck, 1001, answer.seq + 1);
  ack.options.tsecr = answer.options.tsval;
  receive(ack);
  const auto installs = commanded(flow::Command::Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  const flow::Flow& f = flows[index_of(installs[0].flow)];
  EXPECT_EQ(f.pre.iss, answer.seq);
  EXPECT_EQ(f.pre.irs, 1000u);
  EXPECT_EQ(f.protocol.mss, 1448);
  EXPECT_TRUE(f.protocol.ts_on);
  EXPECT_TRUE(f.protocol.sack_on);
  EXPECT_EQ(f.protocol.snd_wscale, 7);
  EXPECT_EQ(f.protocol.rcv_wscale, 7);
  EXPECT_EQ(f.protocol.snd_wnd, 64240u << 7);
  EXPECT_EQ(f.protocol.srtt, Nanos{0});  // not timed
  EXPECT_EQ(control->counters().syn_cookies_received, 1u);
  EXPECT_EQ(control->counters().passive_opens, 1u);
}

TEST_F(CookieTest, NoneForAPeerOutOfReach) {
  flood();
  const std::size_t before = world.sent.size();
  route(kPeer, Route::Kind::kUnreachable, EHOSTUNREACH);
  receive(from_peer(40000, wire::kSyn, 1000));
  EXPECT_EQ(world.sent.size(), before);
  EXPECT_EQ(control->counters().drops.syn_no_route, 1u);
  route(kPeer);
  receive(from_peer(40000, wire::kSyn, 1000));
  EXPECT_EQ(control->counters().syn_cookies_sent, 1u);
}

TEST_F(CookieTest, DataWithTheAckIsKept) {
  flood();
  receive(from_peer(40000, wire::kSyn, 1000));
  auto ack = from_peer(40000, wire::kAck | wire::kPsh, 1001, last_sent().seq + 1);
  ack.options.tsecr = last_sent().options.tsval;
  receive(ack, 100);
  EXPECT_EQ(world.reinjected, 1);
}

TEST_F(CookieTest, DataThatOvertakesTheAckIsNotReset) {
  flood();
  receive(from_peer(40000, wire::kSyn, 1000));
  const wire::TcpSegment answer = last_sent();
  auto ack = from_peer(40000, wire::kAck, 1001, answer.seq + 1);
  ack.options.tsecr = answer.options.tsval;
  const std::size_t sent = world.sent.size();
  auto second = ack;  // the first segment of data is late, too
  second.seq = 2449;
  receive(second, 100);
  EXPECT_EQ(world.sent.size(), sent);
  EXPECT_EQ(control->counters().drops.ahead_of_cookie, 1u);
  receive(ack);
  EXPECT_EQ(commanded(flow::Command::Kind::kInstall).size(), 1u);
}

TEST_F(CookieTest, DataOfNoConnectionIsResetWhenNoCookieCanBeMeant) {
  flood();
  receive(from_peer(40000, wire::kSyn, 1000));
  const std::uint32_t cookie = last_sent().seq;
  receive(from_peer(40000, wire::kAck, 2449, cookie + 1 + (8u << 27)), 100);  // another time's
  EXPECT_EQ(last_sent().flags, wire::kRst);
  now = now + seconds(4);
  receive(from_peer(40000, wire::kAck, 2449, cookie + 1), 100);
  EXPECT_EQ(last_sent().flags, wire::kRst);
  EXPECT_EQ(control->counters().out_resets, 2u);
  EXPECT_EQ(control->counters().drops.ahead_of_cookie, 0u);
}

TEST_F(CookieTest, ALateCopyOfTheAckMakesNoSecondConnection) {
  flood();
  receive(from_peer(40000, wire::kSyn, 1000));
  auto ack = from_peer(40000, wire::kAck, 1001, last_sent().seq + 1);
  ack.options.tsecr = last_sent().options.tsval;
  receive(ack);
  const auto installs = commanded(flow::Command::Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  close_flow(installs[0].flow, flow::Event::Close::kReset);
  receive(ack);
  EXPECT_EQ(last_sent().flags, wire::kRst);
  EXPECT_EQ(commanded(flow::Command::Kind::kInstall).size(), 1u);
  EXPECT_EQ(control->counters().syn_cookies_failed, 1u);
  receive(ack, 100);  // its data, too, is of no connection that may yet come
  EXPECT_EQ(control->counters().out_resets, 2u);
}

TEST_F(CookieTest, TheMssOfTheMtuThatIsNowIsAnnounced) {
  flood();
  receive(from_peer(40000, wire::kSyn, 1000));
  EXPECT_EQ(last_sent().options.mss, 1460);
  Request smaller;
  smaller.kind = Request::Kind::kLinkMtu;
  smaller.mtu = 1280;
  request(smaller);
  receive(from_peer(40001, wire::kSyn, 1000));
  EXPECT_EQ(last_sent().options.mss, 1240);
}

TEST_F(CookieTest, WithoutTimestampsNothingIsScaled) {
  flood();
  auto syn = from_peer(40000, wire::kSyn, 1000);
  syn.options.has_timestamp = false;
  receive(syn);
  EXPECT_FALSE(last_sent().options.has_timestamp);
  EXPECT_FALSE(last_sent().options.has_wscale);
  auto ack = from_peer(40000, wire::kAck, 1001, last_sent().seq + 1);
  ack.options = {};
  receive(ack);
  const auto installs = commanded(flow::Command::Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  const flow::ProtocolSlice& p = flows[index_of(installs[0].flow)].protocol;
  EXPECT_FALSE(p.ts_on);
  EXPECT_EQ(p.snd_wnd, 64240u);
  EXPECT_EQ(p.mss, 1460);
}

TEST_F(CookieTest, ForgedAcksAreAnsweredByReset) {
  flood();
  receive(from_peer(40000, wire::kSyn, 1000));
  const std::uint32_t iss = last_sent().seq;
  receive(from_peer(40000, wire::kAck, 1001, iss + 2));
  EXPECT_EQ(last_sent().flags, wire::kRst);
  EXPECT_EQ(control->counters().syn_cookies_failed, 1u);
  now = now + kCookiePeriod * 3;  // none can be under way any more: not even looked at
  receive(from_peer(40000, wire::kAck, 1001, iss + 1));
  EXPECT_EQ(last_sent().flags, wire::kRst);
  EXPECT_EQ(control->counters().syn_cookies_failed, 1u);
  EXPECT_TRUE(commanded(flow::Command::Kind::kInstall).empty());
}

TEST_F(CookieTest, AnUnknownRouteBringsTheSynAckAgain) {
  flood();
  auto syn = from_peer(40000, wire::kSyn, 1000);
  const IpAddr other = IpAddr::v4(10, 0, 0, 77);
  syn.src = other;
  receive(syn);
  const wire::TcpSegment first = last_sent();
  EXPECT_EQ(first.eth_dst, kPeerMac);  // back to where it came from, nothing was looked up
  auto ack = from_peer(40000, wire::kAck, 1001, first.seq + 1);
  ack.src = other;
  ack.options.tsecr = first.options.tsval;
  receive(ack);
  EXPECT_TRUE(commanded(flow::Command::Kind::kInstall).empty());
  route(other);
  EXPECT_EQ(last_sent().flags, wire::kSyn | wire::kAck);
  EXPECT_EQ(last_sent().seq, first.seq);
  receive(ack);
  EXPECT_EQ(commanded(flow::Command::Kind::kInstall).size(), 1u);
}

TEST_F(CookieTest, AnAckOfTheCookieCountsAlsoWhenTheRepeatedSynFoundRoom) {
  flood();
  receive(from_peer(40000, wire::kSyn, 1000));
  const std::uint32_t cookie = last_sent().seq;
  receive(from_peer(1, wire::kRst, 10));        // one embryo less
  receive(from_peer(40000, wire::kSyn, 1000));  // the first SYN-ACK was late
  ASSERT_NE(last_sent().seq, cookie);
  ASSERT_EQ(control->counters().syn_cookies_sent, 1u);
  receive(from_peer(40000, wire::kAck, 1001, cookie + 1));
  const auto installs = commanded(flow::Command::Kind::kInstall);
  ASSERT_EQ(installs.size(), 1u);
  EXPECT_EQ(flows[index_of(installs[0].flow)].pre.iss, cookie);
}

TEST_F(CookieTest, AFullAcceptQueueDropsSynAndAck) {
  serve(1);
  establish(40000);
  receive(from_peer(40001, wire::kSyn, 1));
  const std::uint32_t embryo = last_sent().seq;
  receive(from_peer(40002, wire::kSyn, 1));  // by cookie
  auto late = from_peer(40002, wire::kAck, 2, last_sent().seq + 1);
  late.options.tsecr = last_sent().options.tsval;
  receive(from_peer(40001, wire::kAck, 2, embryo + 1));
  ASSERT_EQ(commanded(flow::Command::Kind::kInstall).size(), 2u);  // backlog + 1
  const std::size_t sent = world.sent.size();
  receive(late);
  receive(from_peer(40003, wire::kSyn, 1));
  EXPECT_EQ(world.sent.size(), sent);
  EXPECT_EQ(commanded(flow::Command::Kind::kInstall).size(), 2u);
  EXPECT_EQ(control->counters().syn_dropped_backlog, 2u);
}

}  // namespace
}  // namespace toe::control
