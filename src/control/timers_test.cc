#include "control/timers.h"

#include <map>
#include <set>

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace toe::control {
namespace {

std::vector<std::uint32_t> fired(TimerWheel& wheel, Time now) {
  std::vector<std::uint32_t> ids;
  for (std::uint32_t id = 0; wheel.fire(now, id);) ids.push_back(id);
  return ids;
}

TEST(TimerWheel, FiresAtTheFirstTickNotBefore) {
  TimerWheel wheel(4);
  wheel.arm(0, Time{5'000'001});
  EXPECT_TRUE(fired(wheel, Time{5'999'999}).empty());
  EXPECT_EQ(fired(wheel, Time{6'000'000}), std::vector<std::uint32_t>{0});
  EXPECT_FALSE(wheel.armed(0));
  EXPECT_EQ(wheel.next_deadline(), Time::never());
}

TEST(TimerWheel, MoveAndCancel) {
  TimerWheel wheel(4);
  wheel.arm(1, Time{} + millis(10));
  wheel.arm(1, Time{} + seconds(100));
  wheel.arm(2, Time{} + millis(10));
  wheel.cancel(2);
  wheel.arm(3, Time::never());
  EXPECT_EQ(wheel.count(), 1u);
  EXPECT_TRUE(fired(wheel, Time{} + seconds(99)).empty());
  EXPECT_EQ(fired(wheel, Time{} + seconds(100)), std::vector<std::uint32_t>{1});
}

TEST(TimerWheel, PastInstantsFireAtOnce) {
  TimerWheel wheel(2);
  fired(wheel, Time{} + seconds(50));
  wheel.arm(0, Time{} + seconds(1));
  EXPECT_LE(wheel.next_deadline(), Time{} + seconds(50));
  EXPECT_EQ(fired(wheel, Time{} + seconds(50)), std::vector<std::uint32_t>{0});
}

TEST(TimerWheel, FarInstantsSurviveTheOutermostLevel) {
  TimerWheel wheel(1);
  const Time far = Time{} + seconds(86400 * 40);
  wheel.arm(0, far);
  Time now{};
  int looks = 0;
  while (wheel.armed(0)) {
    ASSERT_LE(wheel.next_deadline(), far);
    now = wheel.next_deadline();
    fired(wheel, now);
    ASSERT_LT(++looks, 20);
  }
  EXPECT_EQ(now, far);
}

// Against the obvious model, stepping either by random spans or from deadline to deadline.
TEST(TimerWheel, BehavesLikeASortedList) {
  EXPECT_TRUE(rc::check([] {
    constexpr std::uint32_t kTimers = 32;
    TimerWheel wheel(kTimers);
    std::map<std::uint32_t, std::int64_t> model;  // timer -> ms
    std::int64_t now = *rc::gen::inRange<std::int64_t>(0, 10'000'000);
    fired(wheel, Time{} + millis(now));
    for (int i = 0; i < 60; ++i) {
      const auto id = *rc::gen::inRange<std::uint32_t>(0, kTimers);
      const auto span = *rc::gen::element<std::int64_t>(3, 70, 5000, 300'000, 20'000'000);
      if (*rc::gen::inRange(0, 5) == 0) {
        wheel.cancel(id);
        model.erase(id);
      } else {
        const auto at = now + *rc::gen::inRange<std::int64_t>(0, span);
        wheel.arm(id, Time{} + millis(at));
        model[id] = at;
      }
      if (*rc::gen::inRange(0, 2) == 0) {
        const Time next = wheel.next_deadline();
        std::int64_t first = INT64_MAX;
        for (const auto& [t, at] : model) first = std::min(first, at);
        if (model.empty()) {
          RC_ASSERT(next == Time::never());
          continue;
        }
        RC_ASSERT(next <= Time{} + millis(first));
        now = std::max(now, next.ns / 1'000'000);
      } else {
        now += *rc::gen::inRange<std::int64_t>(0, span);
      }
      std::set<std::uint32_t> due;
      for (const auto& [t, at] : model) {
        if (at <= now) due.insert(t);
      }
      const auto ids = fired(wheel, Time{} + millis(now));
      RC_ASSERT(std::set<std::uint32_t>(ids.begin(), ids.end()) == due);
      RC_ASSERT(ids.size() == due.size());
      for (const std::uint32_t t : due) model.erase(t);
      RC_ASSERT(wheel.count() == model.size());
    }
  }));
}

}  // namespace
}  // namespace toe::control
