// Goodput of one flow over lossy and reordering wires, against what the path and the response
// function of CUBIC (RFC 9438 section 5) let it have. Deterministic by seed.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include <gtest/gtest.h>

#include "sim/simulation.h"

namespace toe::sim {
namespace {

constexpr std::uint64_t kLink = 100'000'000;  // bit/s
constexpr double kPayload = 1448.0 / 1514;    // of a frame
constexpr Nanos kMeasured = seconds(20);
constexpr std::uint64_t kSeeds = 6;
constexpr std::uint64_t kManySeeds = 12;  // where some runs have half of what the others have

struct Point {
  const char* name;
  int rtt_ms;
  double loss;
  double reorder;
  double least;  ///< share of the expectation, mean of the seeds
  std::uint64_t seeds = kSeeds;
};

// A queue of two bandwidth-delay products; frames that are held back come a quarter of the round
// trip later at most.
Plan plan_of(const Point& point, std::uint64_t seed) {
  Plan plan;
  plan.seed = seed;
  plan.max_ring = 4u << 20;
  plan.think = micros(20);
  for (netlab::Impairments& side : plan.wire) {
    side.delay = millis(point.rtt_ms) / 2;
    side.loss = point.loss;
    side.reorder = point.reorder;
    side.reorder_by = millis(point.rtt_ms) / 4;
  }
  plan.wire[0].rate = kLink;
  plan.wire[0].queue = {0, kLink / 8 * static_cast<std::uint64_t>(point.rtt_ms) * 2 / 1000};
  ConnectionPlan endless;
  endless.bytes = 1ull << 40;
  endless.one_way = true;
  plan.connections.assign(1, endless);
  return plan;
}

// Bits per second: the link, or what CUBIC makes of random loss (the larger of its own curve and
// of that of Reno with its factor).
double expected(const Point& point) {
  const double link = static_cast<double>(kLink) * kPayload;
  if (point.loss == 0) return link;
  const double rtt = point.rtt_ms / 1e3;
  const double curve = 1.054 * std::pow(rtt / point.loss, 0.75);
  const double friendly = std::sqrt(1.5 / point.loss);
  return std::min(link, std::max(curve, friendly) * 1448 * 8 / rtt);
}

double measure(const Point& point) {
  double sum = 0;
  for (std::uint64_t seed = 1; seed <= point.seeds; ++seed) {
    Simulation simulation(plan_of(point, seed));
    EXPECT_EQ(simulation.run_for(kMeasured), "");
    sum += static_cast<double>(simulation.received()[0]) * 8e9 / static_cast<double>(kMeasured.ns);
  }
  return sum / static_cast<double>(point.seeds);
}

void compare(std::initializer_list<Point> points) {
  for (const Point& point : points) {
    const double got = measure(point);
    std::printf("  %-14s %3d ms: %6.2f Mbit/s, %.2f of what is expected\n", point.name,
                point.rtt_ms, got / 1e6, got / expected(point));
    EXPECT_GE(got / expected(point), point.least) << point.name << ", " << point.rtt_ms << " ms";
  }
}

TEST(Goodput, WithoutLossTheLinkIsFull) {
  compare({{"clean", 20, 0, 0, 0.97}, {"clean", 100, 0, 0, 0.94}});
}

TEST(Goodput, RandomLossCostsWhatTheResponseFunctionSays) {
  compare({{"0.01 % loss", 20, 0.0001, 0, 0.95},
           {"0.1 % loss", 20, 0.001, 0, 0.95},
           {"1 % loss", 20, 0.01, 0, 0.93},
           {"3 % loss", 20, 0.03, 0, 0.83},
           {"0.01 % loss", 100, 0.0001, 0, 0.9},
           {"0.1 % loss", 100, 0.001, 0, 0.95},
           {"1 % loss", 100, 0.01, 0, 0.9},
           {"3 % loss", 100, 0.03, 0, 0.83}});
}

// Not always all of it: where the queue overflows in slow start, what was overtaken by a
// retransmission comes with a timestamp that PAWS refuses (RFC 7323 section 5), and is lost too. At
// 100 ms a run that overflows spends half of its time on that: one of four runs with 1 %.
TEST(Goodput, ReorderingIsNotTakenForLoss) {
  compare({{"1 % reordered", 20, 0, 0.01, 0.95},
           {"5 % reordered", 20, 0, 0.05, 0.93},
           {"25 % reordered", 20, 0, 0.25, 0.8},
           {"1 % reordered", 100, 0, 0.01, 0.8, kManySeeds},
           {"5 % reordered", 100, 0, 0.05, 0.5}});
}

}  // namespace
}  // namespace toe::sim
