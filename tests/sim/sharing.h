// What tests of sharing have in common: flows of one engine that never end, and how they share a
// link.
#ifndef TOE_TESTS_SIM_SHARING_H_
#define TOE_TESTS_SIM_SHARING_H_

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "sim/simulation.h"

namespace toe::sim {

inline Plan endless_flows(const char* algorithm, std::size_t flows) {
  Plan plan;
  plan.congestion = algorithm;
  plan.max_ring = 1u << 20;
  ConnectionPlan endless;
  endless.bytes = 1ull << 40;
  endless.one_way = true;
  plan.connections.assign(flows, endless);
  return plan;
}

struct Shares {
  double fairness = 0;  ///< Jain's index
  double bytes = 0;     ///< payload of all flows
};

/// What the server receives in `time`.
inline Shares shares_of(Simulation& simulation, Nanos time) {
  const std::vector<std::uint64_t> before = simulation.received();
  EXPECT_EQ(simulation.run_for(time), "");
  const std::vector<std::uint64_t> after = simulation.received();
  Shares shares;
  double squares = 0;
  for (std::size_t i = 0; i < after.size(); ++i) {
    const auto bytes = static_cast<double>(after[i] - before[i]);
    shares.bytes += bytes;
    squares += bytes * bytes;
  }
  shares.fairness = shares.bytes * shares.bytes / (static_cast<double>(after.size()) * squares);
  return shares;
}

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_SHARING_H_
