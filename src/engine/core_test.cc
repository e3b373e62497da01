// Core on a wire in memory: what it does with frames that belong to nobody, and that it keeps none.
#include "engine/core.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "port/mem/mem_wire.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace toe::engine {
namespace {

struct SilentWorld final : control::World {
  void transmit(Frame) override { FAIL() << "Core sends frames itself"; }
  void reinject(Frame) override { FAIL() << "Core takes frames back itself"; }
  void reply(ClientId, std::span<const std::uint8_t>) override {}
  void share_segment(ClientId, SegmentId) override {}
  void want_segment(ClientId) override {}
  void free_segment(SegmentId) override {}
  void return_pages(SegmentId, shm::RingRef) override {}
  void drop_client(ClientId, const char*) override {}
  void want_route(const control::RouteKey&) override {}
  void forget_route(const control::RouteKey&) override {}
  void confirm_neighbor(const control::RouteKey&) override {}
  void mark_listener(std::uint64_t) override {}
  void close_listener(std::uint64_t) override {}
  void release_port(const IpAddr&, std::uint16_t) override {}
  void want_port(const IpAddr&) override {}
};

class CoreTest : public ::testing::Test {
 protected:
  static CoreOptions options() {
    CoreOptions o;
    o.control.max_flows = 16;
    o.control.max_time_wait = 16;
    return o;
  }
  CoreTest()
      : wire(64), flows(16), core(options(), {wire.port(0), wire.port(0).pool(), flows, world}) {
    wire.set_now(now);
  }
  static wire::TcpSegmentHeader header(std::uint8_t flags) {
    wire::TcpSegmentHeader h;
    h.eth_src = {{0x02, 0, 0, 0, 0, 2}};
    h.eth_dst = {{0x02, 0, 0, 0, 0, 1}};
    h.src = IpAddr::v4(10, 0, 0, 2);
    h.dst = IpAddr::v4(10, 0, 0, 1);
    h.src_port = 1000;
    h.dst_port = 80;
    h.seq = 7;
    h.ack = 99;
    h.flags = flags;
    return h;
  }
  void send(std::uint8_t flags) { send(header(flags)); }
  void send(const wire::TcpSegmentHeader& h) {
    FramePool& pool = wire.port(1).pool();
    Frame f = pool.acquire();
    f.length = static_cast<std::uint16_t>(
        wire::build_segment(h, {}, {pool.chunk(f.chunk) + f.offset, std::size_t{200}}));
    wire.port(1).tx({&f, 1});
  }
  /// A segment that is whole, or has a byte changed, or its end cut off. False: the wire is full.
  bool send_damaged(std::minstd_rand& random) {
    FramePool& pool = wire.port(1).pool();
    Frame f = pool.acquire();
    if (!f.valid()) return false;
    wire::TcpSegmentHeader h = header(static_cast<std::uint8_t>(random()));
    if (random() % 16 == 0) h.src = h.dst;
    std::uint8_t* bytes = pool.chunk(f.chunk) + f.offset;
    f.length = static_cast<std::uint16_t>(wire::build_segment(h, {}, {bytes, std::size_t{200}}));
    if (random() % 4 == 0) bytes[random() % f.length] ^= static_cast<std::uint8_t>(random());
    if (random() % 8 == 0) f.length = static_cast<std::uint16_t>(1 + random() % f.length);
    if (wire.port(1).tx({&f, 1}) == 1) return true;
    pool.release(f);
    return false;
  }
  std::vector<wire::TcpSegment> settle() {
    while (core.step(now)) {
    }
    std::vector<wire::TcpSegment> answers;
    Frame f[8];
    const std::size_t count = wire.port(1).rx(f);
    for (std::size_t i = 0; i < count; ++i) {
      wire::TcpSegment s;
      EXPECT_EQ(wire::parse_frame(wire.port(1).pool().bytes(f[i]), {}, s), wire::ParseVerdict::kOk);
      answers.push_back(s);
      wire.port(1).pool().release(f[i]);
    }
    return answers;
  }

  Time now{seconds(1000).ns};
  SilentWorld world;
  port::MemWire wire;
  std::vector<flow::Flow> flows;
  Core core;
};

TEST_F(CoreTest, AnswersSegmentsOfNoConnectionByReset) {
  send(wire::kAck);
  const auto answers = settle();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].flags, wire::kRst);
  EXPECT_EQ(answers[0].seq, 99u) << "RFC 9293 section 3.10.7.1";
}

TEST_F(CoreTest, NeverAnswersAReset) {
  send(wire::kRst | wire::kAck);
  EXPECT_TRUE(settle().empty());
}

TEST_F(CoreTest, KeepsNoFrameWhateverArrives) {
  for (int i = 0; i < 500; ++i) {
    send(static_cast<std::uint8_t>(i));
    settle();
  }
  EXPECT_EQ(wire.port(0).pool().free_count(), wire.port(0).pool().chunks());
  EXPECT_TRUE(core.control().quiet());
  EXPECT_EQ(core.unexplained_frames(), 0);
}

// More at once than the queues between the parts hold: what has no place is counted as lost.
TEST_F(CoreTest, KnowsWhatBecameOfEachFrame) {
  std::minstd_rand random(7);
  std::uint64_t sent = 0;
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 60; ++i) sent += send_damaged(random) ? 1 : 0;
    if (round % 8 != 7) continue;  // a flood: many bursts before control may look
    settle();
    ASSERT_EQ(core.unexplained_frames(), 0) << "round " << round;
  }
  EXPECT_GT(sent, 1000u);
  EXPECT_EQ(core.datapath_counters().frames_in.value(), sent);
  EXPECT_GT(core.datapath_counters()
                .parse[static_cast<std::size_t>(wire::ParseVerdict::kBadTcpChecksum)]
                .value(),
            0u);
  EXPECT_GT(core.control().counters().drops.own_source, 0u);
  EXPECT_GT(core.control().counters().stray_segments, 0u);
  EXPECT_EQ(wire.port(0).pool().free_count(), wire.port(0).pool().chunks());
}

// To answer one is to speak with oneself.
TEST_F(CoreTest, IgnoresSegmentsFromTheirOwnDestination) {
  for (const std::uint8_t flags : {wire::kSyn, wire::kAck, wire::kRst, wire::kFin}) {
    wire::TcpSegmentHeader h = header(flags);
    h.src = h.dst;
    send(h);
  }
  EXPECT_TRUE(settle().empty());
  EXPECT_EQ(core.control().counters().drops.own_source, 4u);
  EXPECT_EQ(core.unexplained_frames(), 0);
}

TEST_F(CoreTest, HasNothingToDoWhenNothingHappens) {
  EXPECT_FALSE(core.step(now));
  EXPECT_FALSE(core.posted());
  EXPECT_EQ(core.next_deadline(), Time::never());
}

}  // namespace
}  // namespace toe::engine
