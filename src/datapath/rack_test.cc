#include "datapath/rack.h"

#include <string>

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace toe::datapath {
namespace {

using flow::RackState;

Time ms(std::int64_t t) { return {seconds(100).ns + millis(t).ns}; }

/// A flow with a round trip of 100 ms that sends 1,000 bytes per millisecond from position 0 on.
struct Flight {
  Scoreboard board;
  RackState rack;
  Nanos min_rtt = millis(100);
  Nanos srtt = millis(100);

  explicit Flight(std::uint64_t segments) {
    board.reset(0);
    for (std::uint64_t i = 0; i < segments; ++i) {
      board.add((i + 1) * 1000, ms(static_cast<std::int64_t>(i)));
    }
  }
  RackClock clock(std::int64_t at) const { return {ms(at), srtt, min_rtt}; }
  bool sack(std::uint64_t segment, std::int64_t at) {
    Delivery d;
    board.sack(segment * 1000, (segment + 1) * 1000, d);
    return rack_update(rack, d, clock(at));
  }
  bool ack(std::uint64_t segments, std::int64_t at) {
    Delivery d;
    board.advance(segments * 1000, d);
    return rack_update(rack, d, clock(at));
  }
  RackVerdict detect(std::int64_t at, const RackContext& context = {}) {
    return rack_detect(board, rack, rack_window(rack, clock(at), context), ms(at));
  }
};

TEST(Rack, LaterArrivalsProveEarlierBytesLostAfterTheWindow) {
  Flight f(10);
  f.sack(1, 101);
  RackVerdict v = f.detect(101);
  EXPECT_EQ(v.lost, 0u);
  EXPECT_EQ(v.wait, millis(24)) << "sent at 0, round trip 100, window 25";
  v = f.detect(125);
  EXPECT_EQ(v.lost, 1000u);
  EXPECT_EQ(v.wait.ns, 0);
}

TEST(Rack, WhatLeftLaterIsNotInDoubt) {
  Flight f(10);
  f.sack(1, 101);
  EXPECT_EQ(f.detect(1000).lost, 1000u) << "the eight behind the arrived one may still arrive";
}

TEST(Rack, WithManySackedNothingIsWaitedFor) {
  Flight f(10);
  for (std::uint64_t i = 1; i <= 3; ++i) f.sack(i, 100 + static_cast<std::int64_t>(i));
  EXPECT_EQ(f.detect(103, {.many_sacked = true}).lost, 1000u);
}

TEST(Rack, UnlessReorderingWasSeen) {
  Flight f(10);
  f.sack(3, 103);
  EXPECT_TRUE(f.sack(1, 104));
  EXPECT_FALSE(f.sack(2, 105)) << "only the first time is news";
  EXPECT_EQ(f.detect(105, {.many_sacked = true}).lost, 0u);
  EXPECT_EQ(f.detect(126, {.many_sacked = true}).lost, 1000u);
}

TEST(Rack, CumulativeArrivalBelowTheHighestIsReorderingToo) {
  Flight f(10);
  f.sack(3, 103);
  EXPECT_TRUE(f.ack(4, 105));
}

TEST(Rack, AFilledHoleIsNoReordering) {
  Flight f(10);
  f.sack(1, 101);
  f.board.lose(0, 1000);
  f.board.resent(0, 1000, ms(110));
  EXPECT_FALSE(f.ack(2, 210));
  EXPECT_FALSE(f.rack.reordering);
}

TEST(Rack, ALostRetransmissionIsFoundByWhatLeftAfterIt) {
  Flight f(10);
  for (std::uint64_t i = 1; i < 10; ++i) f.sack(i, 100 + static_cast<std::int64_t>(i));
  f.detect(109, {.recovering = true});
  f.board.resent(0, 1000, ms(109));
  f.board.add(11'000, ms(110));
  EXPECT_EQ(f.detect(209, {.recovering = true}).lost, 0u);
  f.sack(10, 211);
  EXPECT_EQ(f.detect(211, {.recovering = true}).lost, 1000u);
}

TEST(Rack, AnAmbiguousRetransmissionIsNotMeasured) {
  Flight f(3);
  f.ack(1, 100);
  f.board.lose(1000, 2000);
  f.board.resent(1000, 2000, ms(150));
  f.ack(2, 160);  // 10 ms after the second copy: it answers the first
  EXPECT_EQ(f.rack.end, 1000u);
  f.board.lose(2000, 3000);
  f.board.resent(2000, 3000, ms(200));
  Delivery d;
  f.board.advance(3000, d);
  RackClock clock = f.clock(350);
  clock.echo = true;
  clock.echoed = ms(199);  // late enough for the second copy, but the echo names the first
  rack_update(f.rack, d, clock);
  EXPECT_EQ(f.rack.end, 1000u);
  clock.echoed = ms(200);
  rack_update(f.rack, d, clock);
  EXPECT_EQ(f.rack.end, 3000u);
  EXPECT_EQ(f.rack.rtt, millis(150));
}

TEST(Rack, DuplicatesWidenTheWindowOncePerRound) {
  Flight f(1);
  f.rack.reordering = true;
  const auto window = [&] { return rack_window(f.rack, f.clock(0), {.recovering = true}); };
  EXPECT_EQ(window(), millis(25));
  rack_on_dsack(f.rack, 1000, 5000);
  rack_on_dsack(f.rack, 2000, 6000);
  EXPECT_EQ(window(), millis(50));
  rack_on_dsack(f.rack, 5000, 9000);
  EXPECT_EQ(window(), millis(75));
  for (int i = 0; i < 100; ++i) {
    rack_on_dsack(f.rack, f.rack.dsack_round, f.rack.dsack_round + 1);
  }
  EXPECT_EQ(window(), millis(100)) << "never more than the smoothed round trip";
  for (int i = 0; i < 16; ++i) rack_on_recovered(f.rack);
  EXPECT_EQ(window(), millis(25)) << "sixteen recoveries without a duplicate";
}

TEST(Rack, WithoutAMeasurementTheWindowIsTheRoundTrip) {
  Flight f(1);
  f.min_rtt = {INT64_MAX};
  f.rack.reordering = true;
  EXPECT_EQ(rack_window(f.rack, f.clock(0), {}), f.srtt);
}

TEST(Rack, ATimeoutLosesTheFirstAndAllThatIsOld) {
  Flight f(10);
  f.sack(4, 104);
  f.board.add(11'000, ms(300));
  EXPECT_EQ(rack_on_timeout(f.board, millis(125), ms(310)), 9000u);
  EXPECT_FALSE(f.board.run(f.board.count() - 1).lost) << "left 10 ms ago";
  Flight young(2);
  EXPECT_EQ(rack_on_timeout(young.board, millis(125), ms(0)), 1000u) << "the first bytes always";
}

// The definition of section 6.2 step 5, byte by byte, on boards that never reach their bound.
TEST(Rack, AgreesWithTheDefinition) {
  EXPECT_TRUE(rc::check([] {
    Flight f(*rc::gen::inRange<std::uint64_t>(2, 30));
    const std::uint64_t segments = f.board.end() / 1000;
    const auto sacked = *rc::gen::container<std::vector<std::uint64_t>>(
        rc::gen::inRange<std::uint64_t>(0, segments));
    const std::int64_t at = 100 + static_cast<std::int64_t>(segments);
    for (const std::uint64_t s : sacked) f.sack(s, at);
    const std::int64_t look = at + *rc::gen::inRange(0, 60);
    const RackContext context{*rc::gen::arbitrary<bool>(), *rc::gen::arbitrary<bool>()};
    const Nanos window = rack_window(f.rack, f.clock(look), context);
    std::uint64_t lost = 0;
    Nanos wait{0};
    for (std::uint64_t s = 0; s < segments && f.rack.end != 0; ++s) {
      if (std::find(sacked.begin(), sacked.end(), s) != sacked.end()) continue;
      const Time sent = ms(static_cast<std::int64_t>(s));
      if (sent > f.rack.sent) continue;
      const Nanos remaining = (sent + f.rack.rtt + window) - ms(look);
      if (remaining.ns <= 0) lost += 1000;
      wait = std::max(wait, remaining);
    }
    const RackVerdict v = rack_detect(f.board, f.rack, window, ms(look));
    RC_ASSERT(v.lost == lost);
    RC_ASSERT(v.wait == wait);
    RC_ASSERT(f.board.lost() == lost);
  }));
}

}  // namespace
}  // namespace toe::datapath
