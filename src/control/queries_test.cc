#include <cerrno>

#include "control/tcp_states.h"
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;
using shm::MessageType;

class QueriesTest : public ControlTest {
 protected:
  using ControlTest::ControlTest;
  void accepted() {
    serve();
    const std::uint32_t slot = context(1, 1);
    in = establish(40000);
    accept(1, slot, in, 9001);
  }
  Request ask(Request::Kind kind) {
    Request r;
    r.kind = kind;
    r.client = ClientId{1};
    r.segment = SegmentId{1};
    r.line = flows[index_of(in.flow)].post.line;
    return r;
  }
  int set(int name, const void* value, std::uint32_t length) {
    Request r = ask(Request::Kind::kOption);
    r.level = 6;
    r.name = name;
    r.value_length = length;
    std::memcpy(r.value, value, length);
    request(r);
    EXPECT_EQ(last_reply().type(), MessageType::kOptionReply);
    return last_reply().as<shm::OptionReply>().error;
  }
  flow::Command in;
};

TEST_F(QueriesTest, InfoOfAConnectionAndAListener) {
  accepted();
  auto& f = flows[index_of(in.flow)];
  f.protocol.srtt = millis(3);
  f.post.bytes_received = 4096;
  request(ask(Request::Kind::kInfo));
  const auto info = last_reply().as<shm::InfoReply>();
  EXPECT_EQ(info.header.type, MessageType::kInfoReply);
  EXPECT_EQ(info.state, kTcpEstablished);
  EXPECT_EQ(info.rtt_us, 3000u);
  EXPECT_EQ(info.snd_mss, 1448u);
  EXPECT_EQ(info.snd_cwnd, 10u);
  EXPECT_EQ(info.bytes_received, 4096u);
  auto r = ask(Request::Kind::kInfo);
  r.line = listener_line;
  request(r);
  EXPECT_EQ(last_reply().as<shm::InfoReply>().state, kTcpListen);
  r.line = 4000;
  request(r);
  EXPECT_EQ(last_reply().type(), MessageType::kRefused);
  r.line = 0xffffffff;
  request(r);
  EXPECT_EQ(last_reply().type(), MessageType::kRefused);
}

TEST_F(QueriesTest, StatesAsTheKernelNamesThem) {
  accepted();
  auto& p = flows[index_of(in.flow)].protocol;
  const auto state = [&] {
    request(ask(Request::Kind::kInfo));
    return last_reply().as<shm::InfoReply>().state;
  };
  p.fin_queued = true;
  p.snd_max = 1;  // the FIN
  EXPECT_EQ(state(), kTcpFinWait1);
  p.fin_acked = true;
  EXPECT_EQ(state(), kTcpFinWait2);
  p.fin_acked = p.fin_queued = false;
  p.snd_max = 0;
  p.rcv_fin = 0;
  p.rcv_nxt = 1;
  EXPECT_EQ(state(), kTcpCloseWait);
  p.fin_queued = true;
  p.snd_max = 1;
  EXPECT_EQ(state(), kTcpLastAck);
  p.active_close = true;
  EXPECT_EQ(state(), kTcpClosing);
}

TEST_F(QueriesTest, Options) {
  accepted();
  EXPECT_EQ(set(13, "reno", 4), 0);
  const auto cc = commanded(Kind::kCongestion);
  ASSERT_EQ(cc.size(), 1u);
  EXPECT_EQ(cc[0].cc.loss_beta, 512u);
  EXPECT_EQ(cc[0].cc.cwnd_cnt, 0u);
  EXPECT_EQ(set(13, "bbr", 3), ENOENT);
  const std::uint32_t mss = 1000;
  EXPECT_EQ(set(2, &mss, sizeof mss), 0);
  EXPECT_TRUE(commanded(Kind::kSetMss).empty()) << "as Linux: the handshake is over";
  const std::uint32_t tiny = 20;
  EXPECT_EQ(set(2, &tiny, sizeof tiny), EINVAL);
  EXPECT_EQ(set(99, &mss, sizeof mss), ENOPROTOOPT);
}

TEST_F(QueriesTest, DumpShowsEveryKind) {
  accepted();
  const auto other = establish(40001);
  receive(from_peer(40002, wire::kSyn, 1));
  close_flow(other.flow, flow::Event::Close::kTimeWait);
  Dump dump;
  dump.rows.reserve(16);
  dump.time_wait = true;
  Request r;
  r.kind = Request::Kind::kDump;
  r.dump = &dump;
  request(r);
  EXPECT_FALSE(dump.done);
  poll();
  ASSERT_TRUE(dump.done);
  EXPECT_FALSE(dump.truncated);
  ASSERT_EQ(dump.rows.size(), 4u);
  EXPECT_EQ(dump.rows[0].state, kTcpEstablished);
  EXPECT_EQ(dump.rows[0].key.remote_port, 40000);
  EXPECT_EQ(dump.rows[0].pid, 101);
  EXPECT_STREQ(dump.rows[0].congestion, "cubic");
  EXPECT_EQ(dump.rows[0].rx_ring, 16384u);
  EXPECT_EQ(dump.rows[1].state, kTcpSynReceived);
  EXPECT_EQ(dump.rows[2].kind, ConnRecord::Kind::kListener);
  EXPECT_EQ(dump.rows[2].rx_queue, 1u);  // the ended one is still in the accept ring
  EXPECT_EQ(dump.rows[3].kind, ConnRecord::Kind::kTimeWait);

  Dump small;
  small.rows.reserve(1);
  r.dump = &small;
  request(r);
  poll();
  EXPECT_TRUE(small.done);
  EXPECT_TRUE(small.truncated);
}

TEST_F(QueriesTest, NewNextHopReachesTheFlows) {
  accepted();
  Request r = world.route_answer(kPeer);
  r.route.kind = Route::Kind::kDirect;
  r.route.source_mac = kHereMac;
  r.route.next_hop_mac = kPeerMac;
  request(r);
  poll();
  EXPECT_TRUE(commanded(Kind::kSetHeader).empty());  // nothing changed
  r.route.next_hop_mac = MacAddr{{0x02, 0, 0, 0, 0, 9}};
  r.route.mtu = 1400;
  request(r);
  const auto set = commanded(Kind::kSetHeader);
  ASSERT_EQ(set.size(), 1u);
  EXPECT_EQ(set[0].header->bytes[5], 9);
  ASSERT_EQ(commanded(Kind::kSetMss).size(), 1u);
  EXPECT_EQ(commanded(Kind::kSetMss)[0].mss, 1348);
}

TEST_F(QueriesTest, RingsGrowByFourUpToTheLimit) {
  accepted();
  flow::Event e{};
  e.kind = flow::Event::Kind::kWantRxRing;
  e.flow = in.flow;
  std::uint32_t bytes = 16384;
  shm::RingRef last = flows[index_of(in.flow)].post.rx_ring[1];
  for (std::size_t i = 1; i <= 4; ++i) {
    e.kind = flow::Event::Kind::kWantRxRing;
    event(e);
    bytes *= 4;
    const auto offers = commanded(Kind::kOfferRxRing);
    ASSERT_EQ(offers.size(), i);
    EXPECT_EQ(offers.back().ring.bytes(), bytes);
    event(e);  // while the switch is under way: remembered, not answered
    EXPECT_EQ(commanded(Kind::kOfferRxRing).size(), i);
    const shm::RingRef now_ring = offers.back().ring;
    e.kind = flow::Event::Kind::kRxRingFree;
    e.ring = last;
    last = now_ring;
    if (i < 4) {
      // The remembered wish is answered at once; hand the offer back to stay in step.
      event(e);
      const auto next = commanded(Kind::kOfferRxRing);
      ASSERT_EQ(next.size(), i + 1);
      e.ring = next.back().ring;
      event(e);
      done.clear();
      for (std::size_t k = 0; k < i; ++k) done.push_back(next[k]);
    } else {
      event(e);
    }
  }
  EXPECT_EQ(bytes, options.max_rx_ring_bytes);
  EXPECT_GE(world.returned, 65536u + 262144u + 1048576u);  // grown rings leave no memory behind
  e.kind = flow::Event::Kind::kWantRxRing;
  event(e);
  EXPECT_EQ(commanded(Kind::kOfferRxRing).size(), 4u);
}

TEST_F(QueriesTest, BufferSizesSetByTheProgramBoundTheRings) {
  accepted();
  line(1, flows[index_of(in.flow)].post.line).sndbuf = 20000;
  flow::Event e{};
  e.kind = flow::Event::Kind::kWantTxRing;
  e.flow = in.flow;
  event(e);
  ASSERT_EQ(commanded(Kind::kOfferTxRing).size(), 1u);
  EXPECT_EQ(commanded(Kind::kOfferTxRing)[0].ring.bytes(), 32768u);
  line(1, flows[index_of(in.flow)].post.line).rcvbuf = 0xffffffff;  // nonsense: clamped
  e.kind = flow::Event::Kind::kWantRxRing;
  event(e);
  EXPECT_EQ(commanded(Kind::kOfferRxRing)[0].ring.bytes(), 8u << 20);  // what can be announced
}

class ScarceMemoryTest : public QueriesTest {
 protected:
  static Options scarce() {
    Options o = small_options();
    o.max_ring_bytes_per_user = 256 * 1024;
    return o;
  }
  ScarceMemoryTest() : QueriesTest(scarce()) {}
};

TEST_F(ScarceMemoryTest, RingsGrowInStepsAndNotToTheProgramsWish) {
  accepted();
  line(1, flows[index_of(in.flow)].post.line).sndbuf = 1 << 20;
  flow::Event e{};
  e.kind = flow::Event::Kind::kWantTxRing;
  e.flow = in.flow;
  event(e);
  ASSERT_EQ(commanded(Kind::kOfferTxRing).size(), 1u);
  EXPECT_EQ(commanded(Kind::kOfferTxRing)[0].ring.bytes(), 65536u);
}

}  // namespace
}  // namespace toe::control
