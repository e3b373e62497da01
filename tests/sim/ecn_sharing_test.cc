// Flows of one engine at a queue of the wire that marks: a short queue and equal shares.
#include <cstdio>

#include <gtest/gtest.h>

#include "sim/sharing.h"

namespace toe::sim {
namespace {

constexpr std::uint64_t kFrame = 1514;

Plan marking_queue(const char* algorithm, std::size_t flows) {
  Plan plan = endless_flows(algorithm, flows);
  plan.seed = 11;
  plan.think = micros(5);
  plan.min_rto = millis(5);
  return plan;
}

/// A rack: 1 Gbit/s, a round trip of 500 us (41 frames), marks from 30 frames of queue on, room for
/// 250.
Plan rack(const char* algorithm, std::size_t flows) {
  Plan plan = marking_queue(algorithm, flows);
  for (netlab::Impairments& side : plan.wire) side.delay = micros(250);
  plan.wire[0].rate = 1'000'000'000;
  plan.wire[0].queue = {250, 0};
  plan.wire[0].mark_above = {30, 0};
  return plan;
}

struct Result {
  double fairness = 0;  ///< Jain's index
  double use = 0;       ///< share of the link, whole frames
  std::uint64_t longest = 0, lost = 0, marked = 0, timeouts = 0;
};

/// What happens in `time`, a warm-up of the same length before it.
Result share(const Plan& plan, Nanos time) {
  Simulation simulation(plan);
  EXPECT_EQ(simulation.run_for(time), "");
  simulation.forget_peaks();
  const Shares shares = shares_of(simulation, time);
  Result r;
  const auto seconds = static_cast<double>(time.ns) * 1e-9;
  r.fairness = shares.fairness;
  r.use = shares.bytes * 8 * kFrame / 1448 / (static_cast<double>(plan.wire[0].rate) * seconds);
  const netlab::Tally& tally = simulation.tally(0);
  r.longest = tally.peak_queue_frames;
  r.lost = tally.dropped_for(netlab::Drop::kQueueFull);
  r.marked = tally.marked;
  r.timeouts = simulation.engine(0).control().counters().timeouts.load();
  std::printf("  %-10s %zu flows: fairness %.3f, use %.3f, queue to %llu frames, %llu marked\n",
              plan.congestion, plan.connections.size(), r.fairness, r.use,
              static_cast<unsigned long long>(r.longest),
              static_cast<unsigned long long>(r.marked));
  return r;
}

// The hard case of RFC 8257: all begin at once with ten segments each.
TEST(EcnSharing, IncastOfSixteenUnderDctcp) {
  const Result r = share(rack("dctcp", 16), seconds(2));
  EXPECT_GE(r.fairness, 0.95);
  EXPECT_GE(r.use, 0.95);
  EXPECT_LE(r.longest, 90u);  // three times the threshold, a third of the room
  EXPECT_EQ(r.lost, 0u);
  EXPECT_EQ(r.timeouts, 0u);
  EXPECT_GT(r.marked, 1000u);
}

TEST(EcnSharing, DctcpKeepsTheQueueAtTheThreshold) {
  for (const char* algorithm : {"dctcp", "dctcp-rate"}) {
    for (const std::size_t flows : {2u, 8u}) {
      const Result r = share(rack(algorithm, flows), seconds(2));
      EXPECT_GE(r.fairness, 0.95) << algorithm << ", " << flows;
      EXPECT_GE(r.use, 0.85) << algorithm << ", " << flows;
      EXPECT_LE(r.longest, 125u) << algorithm << ", " << flows;  // half the room
      EXPECT_EQ(r.lost, 0u) << algorithm << ", " << flows;
    }
  }
}

/// 40 Mbit/s, a round trip of 20 ms and a queue of one bandwidth-delay product that marks from half
/// of it on.
Plan wide_area(const char* algorithm, std::size_t flows) {
  Plan plan = marking_queue(algorithm, flows);
  plan.min_rto = millis(200);
  for (netlab::Impairments& side : plan.wire) side.delay = millis(10);
  plan.wire[0].rate = 40'000'000;
  plan.wire[0].queue = {66, 0};
  plan.wire[0].mark_above = {33, 0};
  return plan;
}

TEST(EcnSharing, MarksInsteadOfLosses) {
  for (const char* algorithm : {"cubic", "reno"}) {
    const Result r = share(wide_area(algorithm, 8), seconds(40));
    EXPECT_GE(r.fairness, 0.95) << algorithm;
    EXPECT_GE(r.use, 0.8) << algorithm;
    EXPECT_GT(r.marked, 0u) << algorithm;
    EXPECT_EQ(r.timeouts, 0u) << algorithm;
    EXPECT_LE(r.longest, 66u) << algorithm;
  }
}

}  // namespace
}  // namespace toe::sim
