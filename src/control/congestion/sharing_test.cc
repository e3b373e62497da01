// Flows of one algorithm at a shared bottleneck: equal shares, a used link, a bounded queue.
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "control/congestion/test_link.h"

namespace toe::control {
namespace {

struct Outcome {
  double fairness = 0;
  double use = 0;  ///< share of the link
  double queue = 0;
};

// Flows begin one after the other; the second half of the time counts.
Outcome share(const LinkPlan& plan, const char* name, int flows, Nanos time) {
  TestLink link(plan);
  for (int i = 0; i < flows; ++i) link.add(*find_congestion(name), Time{} + time / 100 * i);
  link.run(Time{} + time / 2);
  const std::vector<double> before = link.acked();
  link.take_longest_queue();
  link.run(Time{} + time);
  std::vector<double> shares = link.acked();
  for (std::size_t i = 0; i < shares.size(); ++i) shares[i] -= before[i];
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  Outcome o;
  o.fairness = jain(shares);
  o.use = sum * 8 / (plan.bits_per_s * seconds_of(time / 2));
  o.queue = link.take_longest_queue();
  std::printf("  %-10s %d flows: fairness %.3f, use %.3f, queue %.0f\n", name, flows, o.fairness,
              o.use, o.queue);
  return o;
}

LinkPlan wide_area() { return {}; }  // 100 Mbit/s, 20 ms, a queue of one bandwidth-delay product

LinkPlan data_centre() {
  LinkPlan p;
  p.bits_per_s = 10e9;
  p.rtt = micros(100);
  p.queue = 2'000'000;
  p.marked_above = 100'000;  // about K of RFC 8257 section 5.1
  return p;
}

TEST(Sharing, CubicFlowsShareALinkFairly) {
  for (const int n : {2, 8}) {
    const Outcome o = share(wide_area(), "cubic", n, seconds(200));
    EXPECT_GE(o.fairness, 0.95);
    EXPECT_GE(o.use, 0.95);
  }
}

TEST(Sharing, PacedCubicFlowsToo) {
  LinkPlan plan = wide_area();
  plan.settings.pacing = Pacing::kOn;
  for (const int n : {2, 8}) {
    const Outcome o = share(plan, "cubic", n, seconds(200));
    EXPECT_GE(o.fairness, 0.95);
    EXPECT_GE(o.use, 0.9);
  }
}

TEST(Sharing, RenoFlowsShareALinkFairly) {
  for (const int n : {2, 8}) {
    const Outcome o = share(wide_area(), "reno", n, seconds(200));
    EXPECT_GE(o.fairness, 0.95);
    EXPECT_GE(o.use, 0.9);
  }
}

TEST(Sharing, DctcpKeepsTheQueueShort) {
  for (const char* name : {"dctcp", "dctcp-rate"}) {
    for (const int n : {2, 8}) {
      const Outcome o = share(data_centre(), name, n, seconds(2));
      EXPECT_GE(o.fairness, 0.95) << name;
      EXPECT_GE(o.use, 0.85) << name;
      EXPECT_LE(o.queue, 500'000) << name;  // a quarter of what the queue could hold
    }
  }
}

TEST(Sharing, TimelyKeepsTheQueueShortWithoutMarks) {
  LinkPlan plan = data_centre();
  plan.marked_above = ~0u;
  for (const int n : {2, 8}) {
    const Outcome o = share(plan, "timely", n, seconds(2));
    EXPECT_GE(o.use, 0.8);
    EXPECT_LE(o.queue, 1'000'000);
  }
}

TEST(Sharing, ConstantSendsAtItsRateWhateverIsLost) {
  LinkPlan plan = wide_area();
  plan.settings.constant_rate = 15'000'000;  // 120 Mbit/s: more than the link
  TestLink link(plan);
  link.add(constant(), Time{});
  link.run(Time{} + seconds(10));
  const TestLink::Flow& f = link.flow(0);
  EXPECT_NEAR(static_cast<double>(f.sent), 150e6, 3e6);
  EXPECT_GT(f.lost, 0u);
}

TEST(Sharing, HyStartEndsSlowStartWithLessLoss) {
  LinkPlan plan = wide_area();
  plan.rtt = millis(80);
  plan.queue = 1'000'000;
  std::uint64_t lost[2] = {};
  for (const bool with : {false, true}) {
    TestLink link(plan);
    link.add(cubic(), Time{});
    link.flow(0).cc.watch_rtt = with;
    if (!with) std::get<CubicState>(link.flow(0).state).hystart.phase = HyStart::Phase::kOver;
    link.run(Time{} + seconds(3));
    lost[with ? 1 : 0] = link.flow(0).lost;
  }
  EXPECT_GT(lost[0], 500'000u);
  EXPECT_LT(lost[1] * 2, lost[0]) << lost[1] << " against " << lost[0];
}

}  // namespace
}  // namespace toe::control
