// Frames longer than a chunk through all walks: cut anywhere, copied exactly, every chunk returned.
#include <gtest/gtest.h>

#include "harness/bench.h"
#include "harness/pattern.h"

namespace toe::test {
namespace {

constexpr std::size_t kJumbo = 8960;  // MSS of an MTU of 9000
constexpr std::size_t kHeaders = 54;  // of a test frame: Ethernet, IPv4, TCP

class Jumbo : public testing::TestWithParam<std::uint32_t> {
 protected:
  static datapath::Options options() {
    datapath::Options options;
    options.order_seed = GetParam();
    return options;
  }
  void SetUp() override { bench_.install(0); }

  std::string piece(std::uint64_t position, std::size_t size) const {
    return {reinterpret_cast<const char*>(pattern_.at(position)), size};
  }
  Frame cut(std::uint64_t position, std::string_view payload, std::size_t first,
            std::size_t further) {
    wire::TcpSegmentHeader h = Bench::header(0);
    h.seq += static_cast<std::uint32_t>(position);
    return bench_.frame_in_parts(h, payload, first, further);
  }
  std::uint64_t parsed(wire::ParseVerdict verdict) const {
    return bench_.pipeline.counters().parse[static_cast<std::size_t>(verdict)].value();
  }
  void expect_all_returned() const { EXPECT_EQ(bench_.frames.free_count(), Bench::kChunks); }

  Bench bench_{options()};
  Pattern pattern_{7};
};

TEST_P(Jumbo, AFrameIsReceivedWhereverItIsCut) {
  std::uint64_t position = 0;
  for (const std::size_t first : {kHeaders, kHeaders + 1, std::size_t{777}, std::size_t{1984}}) {
    for (const std::size_t further : {1790u, 1791u, 1984u}) {
      if ((kHeaders + kJumbo - first + further - 1) / further > kMaxFrameChunks - 1) continue;
      const std::string sent = piece(position, kJumbo);
      bench_.rx({cut(position, sent, first, further)});
      ASSERT_EQ(bench_.recv(0), sent) << first << ' ' << further;
      position += kJumbo;
      bench_.walk();
    }
  }
  EXPECT_GT(position, 5 * kJumbo) << "the ring has wrapped";
  expect_all_returned();
}

TEST_P(Jumbo, OnlyTheNewBytesOfAnOverlappingFrameAreTaken) {
  std::uint64_t known = 1;
  bench_.rx({bench_.data(0, 0, piece(0, 1))});
  for (const std::size_t more : {3000u, 1u, 2000u}) {
    const std::uint64_t end = known + more;
    bench_.rx({cut(0, piece(0, end), 1000, 1500)});
    known = end;
  }
  EXPECT_EQ(bench_.recv(0), piece(0, known));
  bench_.walk();
  expect_all_returned();
}

TEST_P(Jumbo, OutOfOrderPartsAndSmallFramesMix) {
  bench_.rx({cut(6000, piece(6000, 5000), 1984, 1984), bench_.data(0, 11000, piece(11000, 100)),
             cut(0, piece(0, 6000), 100, 1984)});
  EXPECT_EQ(bench_.recv(0), piece(0, 11100));
  bench_.walk();
  expect_all_returned();
}

TEST_P(Jumbo, HeadersThatDoNotEndInTheFirstChunkAreDroppedAndCounted) {
  for (std::size_t first = 1; first < kHeaders; ++first) {
    bench_.rx({cut(0, piece(0, 3000), first, 1984)});
  }
  EXPECT_EQ(parsed(wire::ParseVerdict::kHeadersSplit), kHeaders - 1);
  EXPECT_EQ(bench_.line(0).rx_tail.load(), 0u);
  expect_all_returned();
}

TEST_P(Jumbo, MoreChunksThanAllowedAreDroppedAndCounted) {
  const auto size = (kMaxFrameChunks - 1) * 100;
  bench_.rx({cut(0, piece(0, size + 1), kHeaders, 100)});
  EXPECT_EQ(parsed(wire::ParseVerdict::kTooManyParts), 1u);
  bench_.rx({cut(0, piece(0, size), kHeaders, 100)});
  EXPECT_EQ(bench_.recv(0), piece(0, size));
  bench_.walk();
  expect_all_returned();
}

TEST_P(Jumbo, AWrongByteInALaterChunkIsDropped) {
  Frame frame = cut(0, piece(0, 5000), 1984, 1984);
  Frame last = frame;
  while (bench_.frames.advance(last)) {
  }
  bench_.frames.bytes(last)[3] ^= 1;
  bench_.rx({frame});
  EXPECT_EQ(parsed(wire::ParseVerdict::kBadTcpChecksum), 1u);
  expect_all_returned();
}

TEST_P(Jumbo, StrangersGoToControlWithAllTheirChunks) {
  wire::TcpSegmentHeader stranger = Bench::header(99);
  bench_.rx({bench_.frame_in_parts(stranger, piece(0, 5000), 1984, 1984)});
  Frame frame;
  ASSERT_TRUE(bench_.pipeline.to_control(frame));
  EXPECT_EQ(bench_.frames.count_parts(frame), 3u);
  wire::TcpSegment segment;
  EXPECT_EQ(wire::parse_frame(bench_.frames, frame, {}, segment), wire::ParseVerdict::kOk);
  EXPECT_EQ(segment.payload_length, 5000);
  bench_.frames.release(frame);
  expect_all_returned();
}

TEST_P(Jumbo, LongSegmentsAreSentInChunks) {
  flow::ProtocolSlice& s = bench_.flows[0].protocol;
  s.mss = kJumbo;
  s.cwnd = 100'000;
  std::uint64_t position = 0;
  for (int round = 0; round < 8; ++round) {
    const std::size_t size = kJumbo + (round % 2 == 0 ? 0 : 5001);
    ASSERT_EQ(bench_.send(0, piece(position, size)), static_cast<ssize_t>(size));
    std::string got;
    for (const Bench::Sent& sent : bench_.walk()) {
      got += sent.payload;
      EXPECT_EQ(sent.parts,
                sent.payload.size() > 1862 ? 1 + (sent.payload.size() - 1862 + 2047) / 2048 : 1);
    }
    ASSERT_EQ(got, piece(position, size));
    position += size;
    bench_.rx({bench_.data(0, 0, "", position)});
    bench_.walk();
  }
  EXPECT_GT(position, 4u << Bench::kRingLog2) << "the ring has wrapped";
  expect_all_returned();
}

TEST_P(Jumbo, ASegmentWaitsUntilThereAreChunksForIt) {
  flow::ProtocolSlice& s = bench_.flows[0].protocol;
  s.mss = kJumbo;
  s.cwnd = 100'000;
  std::vector<Frame> taken;
  while (bench_.frames.free_count() >= kMaxFrameChunks) taken.push_back(bench_.frames.acquire());
  ASSERT_EQ(bench_.send(0, piece(0, kJumbo)), static_cast<ssize_t>(kJumbo));
  bench_.pipeline.hc(bench_.now);
  bench_.pipeline.tx(bench_.now);
  EXPECT_TRUE(bench_.pipeline.out().empty());
  EXPECT_EQ(bench_.pipeline.counters().drops.no_frame.value(), 1u);
  for (const Frame& frame : taken) bench_.frames.release(frame);
  const auto sent = bench_.walk();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload, piece(0, kJumbo));
  expect_all_returned();
}

INSTANTIATE_TEST_SUITE_P(Seeds, Jumbo, testing::Values(0u, 5u, 99u));

}  // namespace
}  // namespace toe::test
