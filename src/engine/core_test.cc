// Core on a wire in memory: what it does with frames that belong to nobody, and that it keeps none.
#include "engine/core.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "control/test_world.h"
#include "port/mem/mem_wire.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace toe::engine {
namespace {

struct SilentWorld final : control::World {
  std::vector<ClientId> dropped;
  std::vector<SegmentId> freed;

  void transmit(Frame) override { FAIL() << "Core sends frames itself"; }
  void reinject(Frame) override { FAIL() << "Core takes frames back itself"; }
  void reply(ClientId, std::span<const std::uint8_t>) override {}
  void share_segment(ClientId, SegmentId) override {}
  void want_segment(ClientId) override {}
  void free_segment(SegmentId segment) override { freed.push_back(segment); }
  void return_pages(SegmentId, shm::RingRef) override {}
  void drop_client(ClientId client, const char*) override { dropped.push_back(client); }
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

// --- Programs ---

class LiarTest : public CoreTest {
 protected:
  static constexpr std::uint32_t kSlot = 1;  ///< the first that is given
  using Lie = void (*)(const shm::SegmentView& view);

  static void index_from_nowhere(const shm::SegmentView& view) {
    view.context(kSlot).engine_tail = 0x40000000;
    view.header().posted = ~std::uint64_t{0};
  }
  static void hint_of_no_line(const shm::SegmentView& view) {
    const std::uint32_t at = view.context(kSlot).engine_tail++;
    view.engine_queue(kSlot)[at % shm::kQueueEntries] = 0xffffffff;
    view.header().posted = ~std::uint64_t{0};
  }
  void ask(control::Request::Kind kind) {
    control::Request r;
    r.kind = kind;
    r.client = ClientId{client};
    r.segment = SegmentId{client};
    r.base = memory.base();
    core.request(r, now);
  }
  void attach() {
    ++client;
    ask(control::Request::Kind::kJoin);
    ask(control::Request::Kind::kContext);
    settle();
  }
  void expect_gone() {
    settle();
    ASSERT_FALSE(world.freed.empty());
    EXPECT_EQ(world.freed.back(), SegmentId{client});
    EXPECT_TRUE(core.control().empty());
    EXPECT_TRUE(core.held() == datapath::Held{});
  }

  control::TestSegment memory;
  std::uint32_t client = 0;
};

// The data path closes the context when it sees the lie, and control when the program has gone.
TEST_F(LiarTest, IsClearedUpAfterItsContextWasClosed) {
  for (const Lie lie : {&index_from_nowhere, &hint_of_no_line}) {
    attach();
    lie(memory.view());
    settle();
    ASSERT_FALSE(world.dropped.empty());
    EXPECT_EQ(world.dropped.back(), ClientId{client});
    lie(memory.view());  // it goes on until it is disconnected
    ask(control::Request::Kind::kLeave);
    lie(memory.view());
    expect_gone();
  }
  EXPECT_EQ(world.dropped.size(), 2u) << "and is not looked at again";
}

TEST_F(LiarTest, IsClearedUpWhenItLiesAsItGoes) {
  for (const Lie lie : {&index_from_nowhere, &hint_of_no_line}) {
    attach();
    ask(control::Request::Kind::kLeave);
    lie(memory.view());
    expect_gone();
  }
}

class FloodTest : public LiarTest {
 protected:
  static constexpr std::uint32_t kAtOnce = 4 * kBurst;  ///< as many as are ever taken in one walk

  /// So many closes of what is not there wait in its queue.
  void fill(std::uint32_t count) {
    const shm::SegmentView view = memory.view();
    std::atomic<std::uint32_t>& tail = view.context(kSlot).engine_tail;
    while (tail - view.context(kSlot).engine_head < count) {
      view.engine_queue(kSlot)[tail++ % shm::kQueueEntries] =
          shm::make_hint(shm::HintOp::kClose, 77);
    }
    view.header().posted = std::uint64_t{1} << kSlot;
  }
};

// What it posts becomes events for control; segments wait for nobody's sake.
TEST_F(FloodTest, OfClosesLetsSegmentsThrough) {
  attach();
  for (std::uint32_t step = 0; step < 4 * kEventRing / kAtOnce; ++step) {
    fill(kAtOnce);
    send(wire::kRst | wire::kAck);
    core.step(now);
  }
  EXPECT_EQ(core.datapath_counters().drops.control_behind.value(), 0u);
  EXPECT_TRUE(world.dropped.empty());
}

// Each question waits for what was posted before it, but the network does not wait for them all.
TEST_F(FloodTest, QuestionsOfOneStepWaitForItTogether) {
  attach();
  fill(shm::kQueueEntries);
  const std::uint64_t before = core.datapath_counters().hints_in.value();
  for (int i = 0; i < 64; ++i) ask(control::Request::Kind::kInfo);
  EXPECT_LE(core.datapath_counters().hints_in.value() - before, 16 * kAtOnce);
  core.step(now);
  const std::uint64_t between = core.datapath_counters().hints_in.value();
  ask(control::Request::Kind::kInfo);
  EXPECT_GT(core.datapath_counters().hints_in.value(), between) << "those of the next step as well";
}

}  // namespace
}  // namespace toe::engine
