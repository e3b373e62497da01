// Round robin, and paces: exact at every rate, whatever the segments and however late the service.
#include "datapath/scheduler.h"

#include <cmath>
#include <map>
#include <random>

#include <gtest/gtest.h>

namespace toe::datapath {
namespace {

constexpr Time kStart{seconds(1000).ns};
constexpr std::uint64_t kKilobit = 125;                    // bytes/s
constexpr std::uint64_t kHundredGigabit = 12'500'000'000;  // bytes/s

TEST(Scheduler, ServesReadyFlowsInTurn) {
  Scheduler s(4);
  for (const std::uint32_t f : {2u, 0u, 3u}) s.push(FlowId{f}, kStart);
  s.push(FlowId{0}, kStart);  // queued already
  EXPECT_EQ(s.pop(kStart), FlowId{2});
  s.push(FlowId{2}, kStart);
  EXPECT_EQ(s.pop(kStart), FlowId{0});
  EXPECT_EQ(s.pop(kStart), FlowId{3});
  EXPECT_EQ(s.pop(kStart), FlowId{2});
  EXPECT_EQ(s.pop(kStart), kNoFlow);
}

// `late` draws how long after its deadline the scheduler is asked. Segment i may leave when all
// before it have been paid for, to the nanosecond, and leaves no later than the service comes.
template <typename Late, typename Size>
void check_pace(std::uint64_t rate, int segments, Late late, Size size) {
  Scheduler s(1);
  Time now = kStart;
  __extension__ using Wide = unsigned __int128;
  Wide bytes = 0;
  for (int i = 0; i < segments; ++i) {
    s.push(FlowId{0}, now);
    FlowId got = s.pop(now);
    Nanos delay{0};
    if (got == kNoFlow) {
      delay = late();
      now = s.next_deadline() + delay;
      got = s.pop(now);
    }
    ASSERT_EQ(got, FlowId{0});
    const auto exact = static_cast<std::int64_t>(bytes * 1'000'000'000 / rate);
    ASSERT_GE((now - kStart).ns, exact) << "segment " << i << " at " << rate;
    if (delay.ns == 0 && i > 0 && late() == Nanos{0}) {
      ASSERT_EQ((now - kStart).ns, exact) << "segment " << i << " at " << rate;
    }
    ASSERT_LE((now - kStart).ns, exact + Scheduler::kCatchUp.ns);
    const std::uint32_t length = size();
    s.pace(FlowId{0}, length, rate, now);
    bytes += length;
  }
}

TEST(Scheduler, KeepsEveryPaceToTheNanosecond) {
  for (std::uint64_t rate = kKilobit; rate <= kHundredGigabit; rate = rate * 3 + 1) {
    check_pace(
        rate, 2000, [] { return Nanos{0}; }, [] { return 1448u; });
  }
  check_pace(
      1, 50, [] { return Nanos{0}; }, [] { return 1448u; });
  check_pace(
      kHundredGigabit, 200'000, [] { return Nanos{0}; }, [] { return 1447u; });
}

TEST(Scheduler, DoesNotDriftWhenItIsServedLate) {
  std::mt19937 random(7);
  std::uniform_int_distribution<std::int64_t> late(1, Scheduler::kCatchUp.ns - 1);
  std::uniform_int_distribution<std::uint32_t> size(1, 9000);
  for (const std::uint64_t rate : std::initializer_list<std::uint64_t>{
           kKilobit, 12'345, 1'000'003, 987'654'321, kHundredGigabit}) {
    check_pace(
        rate, 5000, [&] { return Nanos{late(random)}; }, [&] { return size(random); });
  }
}

// N segments at rate r: the last one leaves within one segment's time of the exact instant.
TEST(Scheduler, ManySegmentsTakeExactlyTheirTime) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 40; ++round) {
    const double exponent = std::uniform_real_distribution<>(2.1, 10.09)(random);
    const auto rate = static_cast<std::uint64_t>(std::pow(10, exponent));
    Scheduler s(1);
    Time now = kStart;
    const std::uint64_t n = 3000;
    for (std::uint64_t i = 0; i < n; ++i) {
      s.push(FlowId{0}, now);
      if (s.pop(now) == kNoFlow) {
        now = s.next_deadline() + Nanos{static_cast<std::int64_t>(random() % 50'000)};
        ASSERT_EQ(s.pop(now), FlowId{0});
      }
      s.pace(FlowId{0}, 1448, rate, now);
    }
    const double exact = static_cast<double>((n - 1) * 1448) * 1e9 / static_cast<double>(rate);
    const double segment = 1448e9 / static_cast<double>(rate);
    EXPECT_NEAR(static_cast<double>((now - kStart).ns), exact, segment + 50'000) << rate;
  }
}

TEST(Scheduler, ManyFlowsKeepTheirOwnPaces) {
  constexpr std::uint32_t kFlows = 200;
  Scheduler s(kFlows);
  std::map<std::uint32_t, std::uint64_t> sent;
  const auto rate_of = [](std::uint32_t f) { return 10'000ull * (f + 1); };
  Time now = kStart;
  for (std::uint32_t f = 0; f < kFlows; ++f) s.push(FlowId{f}, now);
  while (now < kStart + seconds(5)) {
    for (FlowId f = s.pop(now); f != kNoFlow; f = s.pop(now)) {
      ++sent[index_of(f)];
      s.pace(f, 1000, rate_of(index_of(f)), now);
      s.push(f, now);
    }
    ASSERT_GT(s.next_deadline(), now);
    now = s.next_deadline();
  }
  for (std::uint32_t f = 0; f < kFlows; ++f) {
    const double expected = 5.0 * static_cast<double>(rate_of(f)) / 1000;
    EXPECT_NEAR(static_cast<double>(sent[f]), expected, 1.01) << f;
  }
}

TEST(Scheduler, AStallIsNotMadeUpForByABurst) {
  Scheduler s(1);
  s.pace(FlowId{0}, 1000, 1'000'000, kStart);  // a segment per millisecond
  s.push(FlowId{0}, kStart);
  const Time late = kStart + seconds(3);
  int burst = 0;
  for (; s.pop(late) == FlowId{0}; ++burst) {
    s.pace(FlowId{0}, 1000, 1'000'000, late);
    s.push(FlowId{0}, late);
  }
  EXPECT_LE(burst, 2);  // kCatchUp is one segment
}

TEST(Scheduler, TimeWithoutDataEarnsNothing) {
  Scheduler s(1);
  s.pace(FlowId{0}, 1000, 10'000'000, kStart);
  const Time later = kStart + micros(900);  // within kCatchUp
  int burst = 0;
  s.push(FlowId{0}, later);
  for (; s.pop(later) == FlowId{0}; ++burst) {
    s.pace(FlowId{0}, 1000, 10'000'000, later);
    s.push(FlowId{0}, later);
  }
  EXPECT_EQ(burst, 1);
}

TEST(Scheduler, PacedAndUnpacedFlowsDoNotHoldEachOtherUp) {
  Scheduler s(2);
  s.pace(FlowId{0}, 1000, 1000, kStart);
  s.push(FlowId{0}, kStart);
  s.push(FlowId{1}, kStart);
  EXPECT_EQ(s.pop(kStart), FlowId{1});
  EXPECT_EQ(s.pop(kStart), kNoFlow);
  EXPECT_EQ(s.next_deadline(), kStart + seconds(1));
  EXPECT_EQ(s.pop(kStart + seconds(1)), FlowId{0});
}

TEST(Scheduler, WhatIsUrgentDoesNotWaitForThePace) {
  Scheduler s(1);
  s.pace(FlowId{0}, 1000, 1000, kStart);
  s.push(FlowId{0}, kStart);
  EXPECT_EQ(s.pop(kStart), kNoFlow);
  s.push(FlowId{0}, kStart, true);
  s.push(FlowId{0}, kStart, true);
  EXPECT_EQ(s.pop(kStart), FlowId{0});
  EXPECT_TRUE(s.held(FlowId{0}, kStart));
  EXPECT_EQ(s.pop(kStart), kNoFlow);
  EXPECT_EQ(s.next_deadline(), kStart + seconds(1));  // data still waits
  EXPECT_EQ(s.pop(kStart + seconds(1)), FlowId{0});
  EXPECT_FALSE(s.held(FlowId{0}, kStart + seconds(1)));
  EXPECT_EQ(s.pop(kStart + seconds(1)), kNoFlow);
}

TEST(Scheduler, ANewConnectionInheritsNoPace) {
  Scheduler s(1);
  s.pace(FlowId{0}, 1000, 1, kStart);
  s.reset(FlowId{0});
  s.push(FlowId{0}, kStart);
  EXPECT_EQ(s.pop(kStart), FlowId{0});
}

// The record's last user was waiting for a slow pace when it ended.
TEST(Scheduler, ANewConnectionDoesNotWaitForTheLastOnesTurn) {
  Scheduler s(2);
  s.pace(FlowId{0}, 1000, 1, kStart);
  s.push(FlowId{0}, kStart);
  s.reset(FlowId{0});
  s.push(FlowId{0}, kStart);
  EXPECT_EQ(s.pop(kStart), FlowId{0});
  EXPECT_EQ(s.next_deadline(), Time::never());
}

TEST(Scheduler, ExtremesDoNotOverflow) {
  Scheduler s(1);
  for (int i = 0; i < 1000; ++i) s.pace(FlowId{0}, UINT32_MAX, 1, kStart);  // 34 years each
  EXPECT_TRUE(s.held(FlowId{0}, kStart + seconds(1'000'000'000)));
  s.reset(FlowId{0});
  s.pace(FlowId{0}, 1448, UINT64_MAX, kStart);
  EXPECT_FALSE(s.held(FlowId{0}, kStart + micros(1)));
  s.pace(FlowId{0}, 1448, 1, kStart);
  s.pace(FlowId{0}, 1448, 0, kStart);
  EXPECT_FALSE(s.held(FlowId{0}, kStart));
}

TEST(PaceHeap, OrdersAndRemovesLikeAMap) {
  constexpr std::uint32_t kFlows = 64;
  PaceHeap heap(kFlows);
  std::map<std::uint32_t, std::int64_t> model;
  std::mt19937 random(3);
  for (int i = 0; i < 20'000; ++i) {
    const std::uint32_t f = random() % kFlows;
    if (model.contains(f)) {
      heap.remove(FlowId{f});
      model.erase(f);
    } else {
      model[f] = static_cast<std::int64_t>(random() % 1000);
      heap.insert(FlowId{f}, Time{model[f]});
    }
    ASSERT_EQ(heap.empty(), model.empty());
    if (model.empty()) continue;
    std::int64_t least = INT64_MAX;
    for (const auto& [flow, at] : model) least = std::min(least, at);
    ASSERT_EQ(heap.first_at().ns, least);
    ASSERT_EQ(model.at(index_of(heap.first())), least);
  }
}

}  // namespace
}  // namespace toe::datapath
