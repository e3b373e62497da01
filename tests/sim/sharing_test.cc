// Flows of one engine at a bottleneck of the wire: equal shares of a link that is used.
#include "sim/sharing.h"

#include <cstdio>

#include <gtest/gtest.h>

namespace toe::sim {
namespace {

constexpr std::uint64_t kLink = 40'000'000;  // bit/s
constexpr Nanos kWarmUp = seconds(20);
constexpr Nanos kMeasured = seconds(60);

// A round trip of 20 ms and a queue of one bandwidth-delay product.
Plan bottleneck(const char* algorithm, std::size_t flows) {
  Plan plan = endless_flows(algorithm, flows);
  plan.seed = 7;
  plan.think = micros(20);
  for (netlab::Impairments& side : plan.wire) side.delay = millis(10);
  plan.wire[0].rate = kLink;
  plan.wire[0].queue = {0, kLink / 8 / 50};
  return plan;
}

struct Result {
  double fairness = 0;  ///< Jain's index
  double use = 0;       ///< share of the link, payload only
};

Result share(const Plan& plan) {
  Result result;
  Simulation simulation(plan);
  EXPECT_EQ(simulation.run_for(kWarmUp), "");
  const Shares shares = shares_of(simulation, kMeasured);
  result.fairness = shares.fairness;
  result.use = shares.bytes * 8 / (static_cast<double>(kLink) * 60);
  std::printf(
      "  %-10s %zu flows: fairness %.3f, use %.3f, lost %llu\n", plan.congestion,
      plan.connections.size(), result.fairness, result.use,
      static_cast<unsigned long long>(simulation.tally(0).dropped_for(netlab::Drop::kQueueFull)));
  return result;
}

TEST(Sharing, FlowsOfOneAlgorithmGetEqualShares) {
  for (const char* algorithm : {"cubic", "reno"}) {
    for (const std::size_t flows : {2u, 8u}) {
      const Result result = share(bottleneck(algorithm, flows));
      EXPECT_GE(result.fairness, 0.95) << algorithm << ", " << flows;
      EXPECT_GE(result.use, 0.85) << algorithm << ", " << flows;
    }
  }
}

TEST(Sharing, PacedFlowsToo) {
  Plan plan = bottleneck("cubic", 8);
  plan.pacing = control::Pacing::kOn;
  const Result result = share(plan);
  EXPECT_GE(result.fairness, 0.95);
  EXPECT_GE(result.use, 0.85);
}

TEST(Sharing, RatesByMarksOrLossToo) {
  for (const char* algorithm : {"dctcp-rate", "dctcp"}) {
    const Result result = share(bottleneck(algorithm, 8));
    EXPECT_GE(result.fairness, 0.95) << algorithm;
    EXPECT_GE(result.use, 0.8) << algorithm;
  }
}

// The gradient of the delay is the same for all flows: TIMELY has no one point of equal shares.
TEST(Sharing, RatesByDelayAreNearEqual) {
  const Result result = share(bottleneck("timely", 8));
  EXPECT_GE(result.fairness, 0.75);
  EXPECT_GE(result.use, 0.75);
}

}  // namespace
}  // namespace toe::sim
