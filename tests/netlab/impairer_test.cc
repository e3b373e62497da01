// Every impairment: its rate within bounds that a right implementation passes at these seeds, its
// independence of the others, and equal decisions for equal seeds.
#include "netlab/impairer.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "wire/parse.h"
#include "wire/test_segments.h"

namespace toe::netlab {
namespace {

using wire::FrameBytes;

constexpr std::uint64_t kFrames = 100'000;
constexpr Time kStart{1'000'000'000};

FrameBytes data_frame(bool ipv6 = false, std::uint8_t ecn = wire::kNotEct) {
  wire::TcpSegmentHeader header = wire::test_header(ipv6);
  header.ecn = ecn;
  return wire::test_frame(header, std::string(1000, 'x'));
}

Impairer make(const std::string& text, std::uint64_t seed = 1) {
  auto impairments = Impairments::parse(text);
  EXPECT_TRUE(impairments.ok()) << text;
  return {impairments.value(), seed};
}

/// Decisions on equal frames, a microsecond apart.
std::vector<Verdict> decide(Impairer& impairer, std::uint64_t count = kFrames,
                            const FrameBytes& frame = data_frame()) {
  std::vector<Verdict> verdicts;
  for (std::uint64_t i = 0; i < count; ++i) {
    verdicts.push_back(impairer.decide(frame, kStart + micros(static_cast<std::int64_t>(i))));
  }
  return verdicts;
}

/// Five standard deviations of a binomial distribution.
void expect_rate(std::uint64_t hits, double chance, std::uint64_t of = kFrames) {
  const double n = static_cast<double>(of);
  EXPECT_NEAR(static_cast<double>(hits), n * chance, 5 * std::sqrt(n * chance * (1 - chance)));
}

TEST(Impairer, WithoutImpairmentsEveryFramePassesAtOnce) {
  Impairer impairer = make("");
  for (const Verdict& v : decide(impairer, 1000)) {
    EXPECT_EQ(v.drop, Drop::kNone);
    EXPECT_EQ(v.copies, 1u);
    EXPECT_FALSE(v.flip || v.mark || v.reordered);
  }
  const Verdict last = impairer.decide(data_frame(), kStart + millis(5));
  EXPECT_EQ(last.departure[0], kStart + millis(5));
  EXPECT_EQ(impairer.tally().frames, 1001u);
  EXPECT_EQ(impairer.tally().bytes, 1001u * data_frame().size());
}

TEST(Impairer, LossHasItsRateAndNoMemory) {
  for (const double rate : {0.001, 0.01, 0.1, 0.5}) {
    Impairer impairer = make("loss=" + std::to_string(rate));
    const auto verdicts = decide(impairer);
    expect_rate(impairer.tally().dropped_for(Drop::kLoss), rate);
    std::uint64_t pairs = 0;
    for (std::size_t i = 1; i < verdicts.size(); ++i) {
      pairs += verdicts[i].copies == 0 && verdicts[i - 1].copies == 0;
    }
    if (rate > 0.005) expect_rate(pairs, rate * rate);  // a handful else
  }
}

TEST(Impairer, CertainAndImpossibleAreExact) {
  Impairer all = make("loss=100%");
  decide(all, 10'000);
  EXPECT_EQ(all.tally().dropped_for(Drop::kLoss), 10'000u);
  Impairer none = make("loss=0%");
  decide(none, 10'000);
  EXPECT_EQ(none.tally().dropped_for(Drop::kLoss), 0u);
}

TEST(Impairer, BurstsHaveTheirShareAndLength) {
  Impairer impairer = make("burst=1%/25%");
  const auto verdicts = decide(impairer);
  std::uint64_t bursts = 0, lost = 0;
  for (std::size_t i = 1; i < verdicts.size(); ++i) {
    lost += verdicts[i].copies == 0;
    bursts += verdicts[i].copies == 0 && verdicts[i - 1].copies != 0;
  }
  // Share of the bad state: enter / (enter + leave); mean length: 1 / leave.
  EXPECT_NEAR(static_cast<double>(lost) / kFrames, 0.01 / 0.26, 0.005);
  EXPECT_NEAR(static_cast<double>(lost) / static_cast<double>(bursts), 4.0, 0.4);
  EXPECT_EQ(impairer.tally().dropped_for(Drop::kBurst), lost);
}

TEST(Impairer, EveryNthIsLost) {
  Impairer impairer = make("every=7");
  const auto verdicts = decide(impairer, 700);
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    EXPECT_EQ(verdicts[i].drop, (i + 1) % 7 == 0 ? Drop::kEvery : Drop::kNone) << i;
  }
}

TEST(Impairer, ScriptLosesExactlyItsFrames) {
  Impairer impairer = make("lose=1:4-6:9");
  std::string fates;
  for (const Verdict& v : decide(impairer, 12)) fates += v.drop == Drop::kScript ? 'x' : '.';
  EXPECT_EQ(fates, "x..xxx..x...");
}

TEST(Impairer, ScriptCountsSelectedFramesOnly) {
  Impairer impairer = make("select=data,lose=2");
  const FrameBytes ack = wire::test_frame(wire::test_header());
  const FrameBytes arp(42, 0);
  std::string fates;
  for (const FrameBytes& frame : {arp, ack, data_frame(), ack, data_frame(true), data_frame()}) {
    fates += impairer.decide(frame, kStart).copies == 0 ? 'x' : '.';
  }
  EXPECT_EQ(fates, "....x.");
  EXPECT_EQ(impairer.tally().selected, 3u);
}

TEST(Impairer, SelectTcpLeavesOthersAlone) {
  Impairer impairer = make("select=tcp,loss=100%");
  EXPECT_EQ(impairer.decide(FrameBytes(42, 0), kStart).copies, 1u);
  EXPECT_EQ(impairer.decide(wire::test_frame(wire::test_header(true)), kStart).copies, 0u);
}

TEST(Impairer, DuplicatesDepartSoonAfter) {
  Impairer impairer = make("duplicate=10%,delay=1ms");
  std::uint64_t doubled = 0;
  std::int64_t i = 0;
  for (const Verdict& v : decide(impairer)) {
    const Time due = kStart + micros(i++) + millis(1);
    EXPECT_EQ(v.departure[0], due);
    if (v.copies != 2) continue;
    ++doubled;
    EXPECT_GE(v.departure[1], due);
    EXPECT_LE(v.departure[1], due + Impairer::kCopyLag);
  }
  expect_rate(doubled, 0.1);
  EXPECT_EQ(impairer.tally().duplicated, doubled);
}

TEST(Impairer, ReorderedFramesAreHeldBack) {
  Impairer impairer = make("reorder=5%,reorder-by=400us,delay=1ms");
  std::uint64_t late = 0;
  std::int64_t i = 0;
  for (const Verdict& v : decide(impairer)) {
    const Nanos extra = v.departure[0] - (kStart + micros(i++) + millis(1));
    EXPECT_EQ(v.reordered, extra.ns != 0);
    if (extra.ns == 0) continue;
    ++late;
    EXPECT_GE(extra, micros(200));
    EXPECT_LE(extra, micros(400));
  }
  expect_rate(late, 0.05);
  EXPECT_EQ(impairer.tally().reordered, late);
}

TEST(Impairer, ReorderDistanceAsksForSoManyOvertakers) {
  Impairer impairer = make("reorder=100%,reorder-by=400us,reorder-distance=3");
  const Verdict v = impairer.decide(data_frame(), kStart);
  EXPECT_EQ(v.behind, 3u);
  EXPECT_EQ(v.departure[0], kStart + micros(400));
}

TEST(Impairer, JitterKeepsOrderAndBounds) {
  Impairer impairer = make("delay=10ms,jitter=5ms");
  Time last{0};
  double sum = 0;
  constexpr std::int64_t kCount = 2000;
  for (std::int64_t i = 0; i < kCount; ++i) {
    const Time now = kStart + millis(20 * i);  // far apart: the order costs nothing
    const Verdict v = impairer.decide(data_frame(), now);
    EXPECT_GE(v.departure[0], now + millis(10));
    EXPECT_LE(v.departure[0], now + millis(15));
    sum += static_cast<double>((v.departure[0] - now - millis(10)).ns);
  }
  EXPECT_NEAR(sum / kCount / 1e6, 2.5, 0.2);
  for (const Verdict& v : decide(impairer = make("jitter=5ms"))) {
    EXPECT_GE(v.departure[0], last);
    last = v.departure[0];
  }
}

TEST(Impairer, RateSpacesFrames) {
  Impairer impairer = make("rate=10Mbit,delay=3ms");
  const FrameBytes frame = data_frame();
  const Nanos each{static_cast<std::int64_t>(frame.size()) * 800};
  for (int i = 1; i <= 50; ++i) {
    EXPECT_EQ(impairer.decide(frame, kStart).departure[0], kStart + each * i + millis(3));
  }
  // After a pause the link is idle again.
  const Time later = kStart + seconds(1);
  EXPECT_EQ(impairer.decide(frame, later).departure[0], later + each + millis(3));
}

TEST(Impairer, QueueIsBoundedInFrames) {
  Impairer impairer = make("rate=1Mbit,queue=5");
  std::string fates;
  for (int i = 0; i < 8; ++i) {
    fates += impairer.decide(data_frame(), kStart).drop == Drop::kQueueFull ? 'x' : '.';
  }
  EXPECT_EQ(fates, ".....xxx");
  EXPECT_EQ(impairer.tally().peak_queue_frames, 5u);
  EXPECT_EQ(impairer.tally().dropped_for(Drop::kQueueFull), 3u);
  // One has left: one finds room.
  const Time later = kStart + Nanos{static_cast<std::int64_t>(data_frame().size()) * 8000};
  EXPECT_EQ(impairer.decide(data_frame(), later).copies, 1u);
  EXPECT_EQ(impairer.decide(data_frame(), later).copies, 0u);
}

TEST(Impairer, QueueIsBoundedInBytes) {
  Impairer impairer = make("rate=1Mbit,queue=3kB");
  std::uint64_t passed = 0;
  for (const Verdict& v : decide(impairer, 10)) passed += v.copies;
  EXPECT_EQ(passed, 3000 / data_frame().size());
  EXPECT_LE(impairer.tally().peak_queue_bytes, 3000u);
}

TEST(Impairer, CorruptionFlipsOneBitThatAChecksumFinds) {
  for (const bool ipv6 : {false, true}) {
    Impairer impairer = make("corrupt=100%");
    for (int i = 0; i < 5000; ++i) {
      const FrameBytes frame = data_frame(ipv6);
      FrameBytes changed = frame;
      const Verdict v = impairer.decide(changed, kStart);
      carry_out(v, changed);
      int bits = 0;
      for (std::size_t at = 0; at < frame.size(); ++at) {
        bits += __builtin_popcount(static_cast<unsigned>(frame[at] ^ changed[at]));
      }
      EXPECT_EQ(bits, 1);
      wire::TcpSegment segment;
      ASSERT_NE(wire::parse_frame(changed, {}, segment), wire::ParseVerdict::kOk) << *v.flip;
    }
    EXPECT_EQ(impairer.tally().corrupted, 5000u);
  }
}

TEST(Impairer, CorruptionHasItsRateAndSparesWhatNobodyChecks) {
  Impairer impairer = make("corrupt=2%");
  decide(impairer);
  expect_rate(impairer.tally().corrupted, 0.02);
  Impairer certain = make("corrupt=100%");
  EXPECT_FALSE(certain.decide(FrameBytes(42, 0), kStart).flip);
}

TEST(Impairer, MarksOnlyWherePermittedAndKeepsChecksumsRight) {
  for (const bool ipv6 : {false, true}) {
    for (const std::uint8_t ecn : {wire::kNotEct, wire::kEct0, wire::kEct1, wire::kCe}) {
      Impairer impairer = make("mark=100%");
      FrameBytes frame = data_frame(ipv6, ecn);
      const Verdict v = impairer.decide(frame, kStart);
      EXPECT_EQ(v.mark, ecn != wire::kNotEct);
      carry_out(v, frame);
      wire::TcpSegment segment;
      ASSERT_EQ(wire::parse_frame(frame, {}, segment), wire::ParseVerdict::kOk);
      EXPECT_EQ(segment.ecn, ecn == wire::kNotEct ? wire::kNotEct : wire::kCe);
    }
  }
}

TEST(Impairer, MarksHaveTheirRateOrThreshold) {
  Impairer random = make("mark=3%");
  decide(random, kFrames, data_frame(false, wire::kEct0));
  expect_rate(random.tally().marked, 0.03);

  Impairer step = make("rate=1Mbit,mark-above=3");
  std::string marks;
  for (int i = 0; i < 6; ++i) {
    marks += step.decide(data_frame(false, wire::kEct0), kStart).mark ? 'm' : '.';
  }
  EXPECT_EQ(marks, "...mmm");

  Impairer bytes = make("rate=1Mbit,mark-above=2kB");
  marks.clear();
  for (int i = 0; i < 4; ++i) {
    marks += bytes.decide(data_frame(false, wire::kEct0), kStart).mark ? 'm' : '.';
  }
  EXPECT_EQ(marks, "..mm");
}

TEST(Impairer, EqualSeedsDecideEqually) {
  const std::string text =
      "loss=5%,burst=1%/20%,duplicate=5%,reorder=5%,corrupt=5%,jitter=1ms,rate=1Gbit,queue=40";
  Impairer first = make(text, 7), second = make(text, 7), other = make(text, 8);
  const auto a = decide(first, 20'000), b = decide(second, 20'000), c = decide(other, 20'000);
  std::uint64_t differences = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].drop, b[i].drop);
    ASSERT_EQ(a[i].departure, b[i].departure);
    ASSERT_EQ(a[i].flip, b[i].flip);
    differences += a[i].drop != c[i].drop;
  }
  EXPECT_GT(differences, 500u);
}

TEST(Impairer, AFramesFateDoesNotDependOnOtherImpairments) {
  Impairer alone = make("loss=5%", 3), beside = make("duplicate=50%,reorder=50%,loss=5%", 3);
  const auto a = decide(alone, 20'000), b = decide(beside, 20'000);
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i].drop, b[i].drop) << i;
}

}  // namespace
}  // namespace toe::netlab
