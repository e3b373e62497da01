// The three walks end to end: order points, copy before publication, hints, frames, control's
// share.
#include <csignal>
#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "harness/bench.h"
#include "harness/pattern.h"
#include "harness/random.h"

namespace toe::test {
namespace {

using Kind = flow::Event::Kind;
using CommandKind = flow::Command::Kind;

TEST(Walks, RequestInAnswerOut) {
  Bench b;
  b.install(0);
  b.take_hints();
  b.rx({b.data(0, 0, "get key")});
  EXPECT_EQ(b.line(0).rx_tail.load(), 7u);
  EXPECT_EQ(b.take_hints(), std::vector<std::uint32_t>({1}));
  EXPECT_EQ(b.recv(0), "get key");
  EXPECT_EQ(b.send(0, "value"), 5);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u) << "one frame carries answer and ACK";
  EXPECT_EQ(sent[0].payload, "value");
  EXPECT_EQ(sent[0].ack, 7u);
  EXPECT_EQ(sent[0].flags, wire::kAck | wire::kPsh);
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
}

TEST(Walks, ReceivedBytesWrapInTheRing) {
  Bench b;
  b.install(0);
  const Pattern pattern(5);
  std::uint64_t position = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string piece(reinterpret_cast<const char*>(pattern.at(position)), 997);
    b.rx({b.data(0, position, piece)});
    EXPECT_EQ(b.recv(0), piece);
    position += 997;
    b.walk();
  }
}

TEST(Walks, SentBytesWrapInTheRing) {
  Bench b;
  b.install(0);
  const Pattern pattern(6);
  std::uint64_t position = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string piece(reinterpret_cast<const char*>(pattern.at(position)), 997);
    ASSERT_EQ(b.send(0, piece), 997);
    const auto sent = b.walk();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].payload, piece);
    EXPECT_EQ(static_cast<std::uint32_t>(sent[0].position), static_cast<std::uint32_t>(position));
    position += 997;
    b.rx({b.data(0, 0, "", position)});
  }
  EXPECT_EQ(b.line(0).tx_una.load(), position);
}

// --- Urgent data ---

Frame urgent_data(Bench& b, std::uint64_t position, std::string_view payload) {
  wire::TcpSegmentHeader h = Bench::header(0);
  h.seq = Bench::kIrs + 1 + static_cast<std::uint32_t>(position);
  h.flags = wire::kAck | wire::kUrg;
  h.urgent = static_cast<std::uint16_t>(payload.size());
  return b.frame(h, payload);
}

TEST(Walks, UrgentBytesStandBesideTheStream) {
  Bench b;
  b.install(0);
  b.rx({urgent_data(b, 0, "abU")});
  EXPECT_EQ(b.recv(0), "ab");
  EXPECT_TRUE(b.connection(0).at_mark());
  b.rx({urgent_data(b, 3, "V"), b.data(0, 4, "rest")});  // the engine reads how far the program is
  EXPECT_TRUE(b.connection(0).at_mark());
  char byte = 0;
  iovec v{&byte, 1};
  libtoe::IoCursor cursor(&v, 1);
  EXPECT_EQ(b.connection(0).recv_urgent(cursor, libtoe::RecvMode::kTake), 1);
  EXPECT_EQ(byte, 'V');
  EXPECT_EQ(b.recv(0), "rest");
}

TEST(Walks, UrgentInterestIsHintedByTheAnnouncementOnly) {
  Bench b;
  b.install(0);
  b.take_hints();
  b.line(0).rx_interest = 0;
  b.line(0).tx_interest = 0;
  b.line(0).urgent_interest = b.lane.bit();
  b.rx({b.data(0, 0, "plain")});
  EXPECT_EQ(b.take_hints(), std::vector<std::uint32_t>({}));
  b.rx({urgent_data(b, 5, "U")});
  EXPECT_EQ(b.take_hints(), std::vector<std::uint32_t>({1}));
}

TEST(Walks, UrgentBytesLeaveWithThePointer) {
  Bench b;
  b.install(0);
  iovec v{const_cast<char*>("abU"), 3};
  libtoe::IoCursor cursor(&v, 1);
  EXPECT_EQ(b.connection(0).send_urgent(cursor), 3);
  b.pipeline.hc(b.now);
  b.pipeline.tx(b.now);
  ASSERT_EQ(b.pipeline.out().size(), 1u);
  wire::TcpSegment s;
  ASSERT_EQ(wire::parse_frame(b.frames.bytes(b.pipeline.out()[0]), {}, s),
            wire::ParseVerdict::kOk);  // the checksum covers it
  EXPECT_EQ(s.flags, wire::kAck | wire::kPsh | wire::kUrg);
  EXPECT_EQ(s.urgent, 3);
}

// --- Copy, then publication: seen from inside the copy ---

struct Watch {
  shm::Line* line = nullptr;
  shm::Context* context = nullptr;
  std::uint8_t* begin = nullptr;
  std::size_t bytes = 0;
  std::uint64_t tail = 0;
  std::uint32_t hints = 0;
  volatile sig_atomic_t faults = 0;
  volatile sig_atomic_t early = 0;
};
Watch g_watch;

/// The first byte written to a page of the ring: is anything of it published already?
void on_fault(int, siginfo_t* info, void*) {
  auto* at = static_cast<std::uint8_t*>(info->si_addr);
  if (at < g_watch.begin || at >= g_watch.begin + g_watch.bytes) {
    std::signal(SIGSEGV, SIG_DFL);
    return;
  }
  g_watch.faults = g_watch.faults + 1;
  if (g_watch.line->rx_tail.load() != g_watch.tail ||
      g_watch.context->app_tail.load() != g_watch.hints) {
    g_watch.early = g_watch.early + 1;
  }
  auto page = reinterpret_cast<std::uintptr_t>(at) & ~std::uintptr_t{4095};
  ::mprotect(reinterpret_cast<void*>(page), 4096, PROT_READ | PROT_WRITE);
}

class CopyOrder : public testing::TestWithParam<std::uint32_t> {};

TEST_P(CopyOrder, NothingIsPublishedBeforeEveryByteOfItWasWritten) {
  datapath::Options options;
  options.order_seed = GetParam();
  Bench b(options);
  b.install(0);
  b.take_hints();
  std::vector<Frame> burst;
  for (std::uint64_t i = 0; i < 16; ++i)
    burst.push_back(b.data(0, i * 1000, std::string(1000, 'x')));
  g_watch = {};
  g_watch.line = &b.line(0);
  g_watch.context = &b.segment.view().context(Bench::kSlot);
  g_watch.hints = g_watch.context->app_tail.load();
  g_watch.begin = b.segment.view().ring(Bench::ring(0));
  g_watch.bytes = std::size_t{1} << Bench::kRingLog2;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(::sigaction(SIGSEGV, &action, &before), 0);
  ASSERT_EQ(::mprotect(g_watch.begin, g_watch.bytes, PROT_READ), 0);
  b.rx(burst);
  ::mprotect(g_watch.begin, g_watch.bytes, PROT_READ | PROT_WRITE);
  ::sigaction(SIGSEGV, &before, nullptr);
  EXPECT_EQ(g_watch.faults, 4) << "one per page of the ring";
  EXPECT_EQ(g_watch.early, 0);
  EXPECT_EQ(b.line(0).rx_tail.load(), 16000u);
  EXPECT_EQ(b.recv(0), std::string(16000, 'x'));
}

INSTANTIATE_TEST_SUITE_P(Seeds, CopyOrder, testing::Values(0u, 1u, 2u, 77u, 4242u));

// --- Order points ---

class AnyOrder : public testing::TestWithParam<std::uint32_t> {};

TEST_P(AnyOrder, StreamsAndFramesKeepTheirOrder) {
  datapath::Options options;
  options.order_seed = GetParam();
  Bench b(options);
  constexpr std::uint32_t kStreams = 4;
  for (std::uint32_t n = 0; n < kStreams; ++n) b.install(n);
  Random random(GetParam());
  std::uint64_t position[kStreams] = {};
  for (int round = 0; round < 50; ++round) {
    std::vector<Frame> burst;
    std::string expected[kStreams];
    for (int i = 0; i < 60; ++i) {
      const auto n = static_cast<std::uint32_t>(random.below(kStreams));
      const std::string piece(random.between(1, 200), static_cast<char>('a' + i % 26));
      burst.push_back(b.data(n, position[n], piece));
      position[n] += piece.size();
      expected[n] += piece;
    }
    b.rx(burst);
    for (std::uint32_t n = 0; n < kStreams; ++n) ASSERT_EQ(b.recv(n), expected[n]);
    b.walk();
  }
  EXPECT_EQ(b.pipeline.counters().out_of_order.value(), 0u) << "shuffling looked like reordering";
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
}

TEST_P(AnyOrder, SegmentsOfAFlowLeaveInOrder) {
  datapath::Options options;
  options.order_seed = GetParam();
  Bench b(options);
  for (std::uint32_t n = 0; n < 8; ++n) {
    b.install(n);
    ASSERT_EQ(b.send(n, std::string(9000, static_cast<char>('a' + n))), 9000);
  }
  std::uint64_t next[8] = {};
  for (const Bench::Sent& s : b.walk()) {
    EXPECT_EQ(static_cast<std::uint32_t>(s.position), next[s.flow]);
    EXPECT_EQ(s.payload, std::string(s.payload.size(), static_cast<char>('a' + s.flow)));
    next[s.flow] += s.payload.size();
  }
  for (const std::uint64_t n : next) EXPECT_EQ(n, 9000u);
}

// A peer that sends different bytes for one position in one burst: stage_dma.h.
TEST_P(AnyOrder, WhereOverlapsDifferEitherStaysUntilTheEnd) {
  datapath::Options options;
  options.order_seed = GetParam();
  for (int round = 0; round < 20; ++round, options.order_seed += GetParam() == 0 ? 0 : 1) {
    Bench b(options);
    b.install(0);
    b.rx({b.data(0, 10, std::string(10, 'A')), b.data(0, 0, std::string(15, 'B'))});
    const auto* ring = reinterpret_cast<const char*>(b.segment.view().ring(Bench::ring(0)));
    const std::string published(ring, 20);
    const std::string common = published.substr(10, 5);
    EXPECT_EQ(published.substr(0, 10) + published.substr(15), "BBBBBBBBBBAAAAA");
    EXPECT_TRUE(common == "BBBBB" || (GetParam() != 0 && common == "AAAAA")) << common;
    b.rx({b.data(0, 5, std::string(15, 'C')), b.data(0, 12, std::string(10, 'D'))});
    EXPECT_EQ(b.recv(0), published + "DD");
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, AnyOrder, testing::Values(0u, 1u, 99u, 31337u));

TEST(Tickets, DroppedAndForeignFramesSpendTheirs) {
  Bench b;
  b.install(0);
  std::uint64_t position = 0;
  for (int round = 0; round < 300; ++round) {  // more than the window of the order points
    Frame bad = b.data(0, position, "broken");
    b.frames.bytes(bad)[55] ^= 0x40;
    wire::TcpSegmentHeader stranger = Bench::header(99);
    wire::TcpSegmentHeader syn = Bench::header(98);
    syn.flags = wire::kSyn;
    b.rx({bad, b.frame(stranger), b.frame(syn), b.data(0, position, "good")});
    position += 4;
    ASSERT_EQ(b.recv(0), "good") << "round " << round;
    Frame frame;
    int to_control = 0;
    while (b.pipeline.to_control(frame)) {
      b.frames.release(frame);
      ++to_control;
    }
    ASSERT_EQ(to_control, 2);
    b.walk();
  }
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
}

TEST(Triggers, WithNothingToSendCostNeitherFrameNorTicket) {
  Bench b;
  b.install(0);
  b.walk();
  for (int round = 0; round < 2000; ++round) {  // more than there are frames and tickets
    ASSERT_EQ(b.send(0, "x"), 1);
    b.pipeline.hc(b.now);  // the flow is in the scheduler now
    wire::TcpSegmentHeader h = Bench::header(0);
    h.ack += static_cast<std::uint32_t>(round);
    h.window = 0;  // and may not send any more
    b.rx({b.frame(h)});
    EXPECT_TRUE(b.walk().empty());
    h.window = 1000;
    b.rx({b.frame(h)});
    ASSERT_EQ(b.walk().size(), 1u) << "round " << round;
    b.rx({b.data(0, 0, "", static_cast<std::uint64_t>(round) + 1)});
    b.walk();
    b.take_events();
  }
  EXPECT_EQ(b.pipeline.held().tickets, 0u);
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
}

// --- Control's share ---

TEST(ToControl, SynsComeInABoundedSharePerTurnBehindOtherFrames) {
  Bench b;
  std::vector<Frame> burst;
  for (std::uint32_t i = 0; i < 63; ++i) {
    wire::TcpSegmentHeader syn = Bench::header(i);
    syn.flags = wire::kSyn;
    burst.push_back(b.frame(syn));
  }
  burst.push_back(b.frame(Bench::header(99)));
  b.rx(burst);
  Frame frame;
  std::vector<std::uint8_t> flags;
  const auto take_all = [&] {
    while (b.pipeline.to_control(frame)) {
      wire::TcpSegment s;
      ASSERT_EQ(wire::parse_frame(b.frames.bytes(frame), {}, s), wire::ParseVerdict::kOk);
      flags.push_back(s.flags);
      b.frames.release(frame);
    }
  };
  take_all();
  ASSERT_EQ(flags.size(), 17u);
  EXPECT_EQ(flags[0], wire::kAck);
  // Those that wait keep the worker awake, also when no frame arrives any more.
  for (const std::size_t taken : {33u, 49u, 64u}) {
    EXPECT_TRUE(b.pipeline.hc(b.now));
    take_all();
    EXPECT_EQ(flags.size(), taken);
  }
  EXPECT_FALSE(b.pipeline.hc(b.now));
}

TEST(ToControl, AFullRingDropsAndCounts) {
  Bench b;
  for (int i = 0; i < 40; ++i) {
    std::vector<Frame> burst;
    for (int k = 0; k < 32 && b.frames.free_count() != 0; ++k) {
      wire::TcpSegmentHeader syn = Bench::header(static_cast<std::uint32_t>(k));
      syn.flags = wire::kSyn;
      burst.push_back(b.frame(syn));
    }
    b.rx(burst);
  }
  EXPECT_EQ(b.pipeline.counters().to_control.value(), Bench::kChunks);
}

TEST(Control, BehindWithItsEventsNothingIsReceivedAndNothingIsLostOfTheFrames) {
  Bench b;
  b.install(0);
  flow::Event event{};
  while (b.events.push(event)) {
  }
  b.rx({b.data(0, 0, "abc")});
  EXPECT_EQ(b.line(0).rx_tail.load(), 0u);
  EXPECT_EQ(b.pipeline.counters().drops.control_behind.value(), 1u);
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
  b.take_events();
  b.rx({b.data(0, 0, "abc")});
  EXPECT_EQ(b.line(0).rx_tail.load(), 3u);
}

TEST(Frames, AnExhaustedPoolDelaysSendingOnly) {
  Bench b;
  b.install(0);
  std::vector<Frame> taken;
  while (b.frames.free_count() != 0) taken.push_back(b.frames.acquire());
  b.send(0, "hello");
  b.pipeline.hc(b.now);
  b.pipeline.tx(b.now);
  EXPECT_TRUE(b.pipeline.out().empty());
  EXPECT_EQ(b.pipeline.counters().drops.no_frame.value(), 1u);
  for (const Frame& f : taken) b.frames.release(f);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload, "hello");
}

// --- Ends ---

TEST(Removal, TheRecordComesBackAndLateFramesGoToControl) {
  Bench b;
  b.install(0);
  b.command(flow::Command::Kind::kRemove, 0);
  EXPECT_TRUE(Bench::has(b.take_events(), Kind::kRemoved));
  b.rx({b.data(0, 0, "late")});
  Frame frame;
  ASSERT_TRUE(b.pipeline.to_control(frame));
  b.frames.release(frame);
}

TEST(Removal, EveryResetLeavesAlsoWhenManyConnectionsEndAtOnce) {
  Bench b;
  for (std::uint32_t n = 0; n < Bench::kFlows; ++n) b.install(n);
  for (std::uint32_t n = 0; n < Bench::kFlows; ++n) {
    flow::Command c{};
    c.kind = flow::Command::Kind::kAbort;
    c.flow = FlowId{n};
    c.reset = true;
    b.commands.push(c);
  }
  for (std::uint32_t n = 0; n < Bench::kFlows; ++n) {
    flow::Command c{};
    c.kind = flow::Command::Kind::kRemove;
    c.flow = FlowId{n};
    b.commands.push(c);
  }
  std::set<std::uint32_t> reset;
  std::vector<Bench::Sent> sent;
  for (int i = 0; i < 20; ++i) {
    b.pipeline.hc(b.now);
    b.pipeline.tx(b.now);
    b.take_out(sent);
  }
  for (const Bench::Sent& s : sent) {
    if ((s.flags & wire::kRst) != 0) reset.insert(s.flow);
  }
  EXPECT_EQ(reset.size(), Bench::kFlows);
  EXPECT_EQ(b.frames.free_count(), Bench::kChunks);
}

TEST(Orphans, ALastLookFindsWhatWasWrittenAndReadWithoutAHint) {
  Bench b;
  b.install(0);
  b.rx({b.data(0, 0, "abc")});
  EXPECT_EQ(b.recv(0), "abc");  // far from a quarter of the ring: no hint
  b.walk();
  shm::copy_to_ring({b.segment.view().ring(Bench::ring(1)), 1u << Bench::kRingLog2}, 0, "last", 4);
  b.line(0).tx_tail.store(4);  // died before it could post
  b.command(flow::Command::Kind::kOrphan, 0);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload, "last");
  EXPECT_EQ(sent[0].flags, wire::kAck | wire::kFin | wire::kPsh) << "everything was read: no RST";
}

TEST(Orphans, AProgramThatLiedWhenItDiedIsReset) {
  Bench b;
  b.install(0);
  b.line(0).tx_tail.store(1 << 20);
  b.command(flow::Command::Kind::kOrphan, 0);
  const auto sent = b.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_NE(sent[0].flags & wire::kRst, 0);
}

// Control's parameters are computed from an older sample: of a threshold only what is newer than
// every reduction, and every one that was taken back, counts.
TEST(Walks, AnOldThresholdIsNotTakenForANewOne) {
  test::Bench b;
  flow::ProtocolSlice& s = b.flows[0].protocol;
  const auto set = [&](std::uint16_t as_of, std::uint32_t ssthresh) {
    flow::Command c{};
    c.kind = flow::Command::Kind::kCongestion;
    c.flow = FlowId{0};
    c.cc.as_of = as_of;
    c.cc.ssthresh = ssthresh;
    b.command(c);
    return s.cc.ssthresh;
  };
  s.reductions = 2;
  s.cc.ssthresh = 50'000;
  EXPECT_EQ(set(1, 20'000), 50'000u) << "a loss that was taken back since";
  EXPECT_EQ(set(1, 90'000), 50'000u) << "a loss was found since";
  EXPECT_EQ(set(2, 20'000), 20'000u) << "the end of slow start";
  EXPECT_EQ(set(2, 90'000), 20'000u) << "only the protocol stage raises it";
}

}  // namespace
}  // namespace toe::test
