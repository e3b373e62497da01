// Random seeds through the simulation. Environment: SEED (base, printed), TOE_SEEDS (how many),
// SIM_SEED (replays one alone).
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sim/simulation.h"

namespace toe::sim {
namespace {

/// So many seeds hit every mark; fewer (in a build with sanitizers) need not.
constexpr std::uint64_t kSeedsForMarks = 200;
constexpr std::size_t kShownFailures = 5;

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == 0 ? otherwise : std::strtoull(text, nullptr, 0);
}

struct Tally {
  std::mutex mutex;
  Marks marks;
  std::vector<std::string> failures;
  std::atomic<std::uint64_t> next{0};
};

void run_seeds(std::uint64_t base, std::uint64_t count, Tally& tally) {
  for (std::uint64_t i = tally.next++; i < count; i = tally.next++) {
    const std::uint64_t seed = base + i;
    const Verdict verdict = Simulation(seed).run();
    const std::lock_guard lock(tally.mutex);
    tally.marks.add(verdict.marks);
    if (!verdict.failure.empty()) {
      tally.failures.push_back("SIM_SEED=" + std::to_string(seed) + ": " + verdict.failure);
      std::fprintf(stderr,
                   "failed; replay (SIM_TRACE=1 shows every frame): make sim SIM_SEED=%llu\n",
                   static_cast<unsigned long long>(seed));
    }
  }
}

TEST(Sim, EveryStreamArrivesWholeAndEverythingComesBack) {
  const char* one = std::getenv("SIM_SEED");
  const std::uint64_t count = one != nullptr ? 1 : number_from("TOE_SEEDS", 50);
  const std::uint64_t base =
      one != nullptr ? number_from("SIM_SEED", 0) : number_from("SEED", 1) * 1'000'000;
  std::printf("simulation: %llu seeds from SIM_SEED=%llu\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(base));
  Tally tally;
  std::vector<std::thread> threads;
  const unsigned width = std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
  for (unsigned i = 0; i < width; ++i) {
    threads.emplace_back([&] { run_seeds(base, count, tally); });
  }
  for (std::thread& thread : threads) thread.join();

  std::sort(tally.failures.begin(), tally.failures.end());
  for (std::size_t i = 0; i < std::min(tally.failures.size(), kShownFailures); ++i) {
    ADD_FAILURE() << tally.failures[i];
  }
  EXPECT_EQ(tally.failures.size(), 0u);
  for (std::size_t i = 0; i < static_cast<std::size_t>(Mark::kCount); ++i) {
    const std::uint64_t hits = tally.marks.count(static_cast<Mark>(i));
    std::printf("  %-20s %llu\n", kMarkNames[i], static_cast<unsigned long long>(hits));
    if (count >= kSeedsForMarks) {
      EXPECT_GT(hits, 0u) << "no seed reached: " << kMarkNames[i];
    }
  }
}

/// The server's process dies when it has written everything; of what its engine sends only the
/// SYN-ACK arrives, and later, if `heals`, all that it sends in vain.
Plan orphan_that_is_not_heard(bool heals) {
  Plan plan;
  plan.wire[1].lose = {{2, heals ? 8u : UINT64_MAX}};
  ConnectionPlan only;
  only.order = CloseOrder::kOrphan;
  only.bytes = 1000;
  plan.connections.assign(1, only);
  return plan;
}

// As on Linux: the peer is not told, and without keep-alive it would wait for ever.
TEST(Sim, AnOrphanThatGivesUpIsTheOneReasonToLeaveAPeerWaiting) {
  const Verdict lost = Simulation(orphan_that_is_not_heard(false)).run();
  EXPECT_EQ(lost.failure, "");
  EXPECT_EQ(lost.given_up, 1u);
  const Verdict healed = Simulation(orphan_that_is_not_heard(true)).run();
  EXPECT_EQ(healed.failure, "");
  EXPECT_EQ(healed.given_up, 0u);
}

TEST(Sim, EqualSeedsGiveEqualRuns) {
  const std::uint64_t base = number_from("SEED", 1) * 7;
  for (std::uint64_t seed = base; seed < base + 3; ++seed) {
    const Verdict first = Simulation(seed).run();
    const Verdict second = Simulation(seed).run();
    EXPECT_EQ(first.digest, second.digest) << "SIM_SEED=" << seed;
    EXPECT_EQ(first.ended, second.ended);
    EXPECT_EQ(first.steps, second.steps);
  }
}

}  // namespace
}  // namespace toe::sim
