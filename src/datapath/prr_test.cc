#include "datapath/prr.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace toe::datapath {
namespace {

constexpr std::uint32_t kMss = 1000;

TEST(Prr, TheFirstRetransmissionLeavesAtOnce) {
  flow::PrrState prr;
  prr_begin(prr, 20'000);
  EXPECT_EQ(prr_on_ack(prr, {.delivered = 0, .flight = 19'000, .ssthresh = 10'000, .mss = kMss}),
            20'000u);
}

TEST(Prr, ReducesInProportion) {  // the flight sinks from 20 segments to 10 over the round trip
  flow::PrrState prr;
  prr_begin(prr, 20'000);
  std::uint64_t flight = 19'000;  // one is lost
  for (int i = 0; i < 19; ++i) {
    flight -= kMss;
    const std::uint32_t cwnd =
        prr_on_ack(prr, {.delivered = kMss, .flight = flight, .ssthresh = 10'000, .mss = kMss});
    while (flight + kMss <= cwnd) {
      flight += kMss;
      prr.sent += kMss;
    }
  }
  EXPECT_GE(flight, 9'000u);
  EXPECT_LE(flight, 10'000u);
  EXPECT_LE(prr.sent, 10'000u);
}

TEST(Prr, RefillsSlowlyAfterHeavyLoss) {
  flow::PrrState prr;
  prr_begin(prr, 20'000);
  prr.sent = kMss;
  // 15 of 20 segments are lost: what is delivered may be sent again, with one more if all is well.
  EXPECT_EQ(prr_on_ack(prr, {.delivered = kMss, .flight = 4'000, .ssthresh = 10'000, .mss = kMss}),
            5'000u);
  EXPECT_EQ(
      prr_on_ack(
          prr, {.delivered = kMss, .flight = 4'000, .ssthresh = 10'000, .mss = kMss, .safe = true}),
      6'000u);
}

TEST(Prr, NeverRefillsBeyondTheThreshold) {
  flow::PrrState prr;
  prr_begin(prr, 20'000);
  prr.sent = kMss;
  EXPECT_EQ(
      prr_on_ack(
          prr,
          {.delivered = 15'000, .flight = 9'500, .ssthresh = 10'000, .mss = kMss, .safe = true}),
      10'000u);
}

// Nothing is in flight and more has left than arrived: no acknowledgement would open it again.
TEST(Prr, AlwaysLeavesRoomForASegment) {
  flow::PrrState prr;
  prr_begin(prr, 10'000);
  prr.sent = 9'000;
  EXPECT_EQ(prr_on_ack(prr, {.delivered = 0, .flight = 0, .ssthresh = 7'000, .mss = kMss}), kMss);
  EXPECT_EQ(prr_on_ack(prr, {.delivered = 10, .flight = 0, .ssthresh = 7'000, .mss = kMss}), kMss);
}

// A program that pauses in a recovery earns nothing, nor does a peer that reports bytes twice.
TEST(Prr, NeverAllowsMoreThanWasInFlightBefore) {
  flow::PrrState prr;
  prr_begin(prr, 100 * kMss);
  std::uint32_t cwnd = 0;
  for (int i = 0; i < 300; ++i) {
    cwnd = prr_on_ack(prr, {.delivered = 2 * kMss,
                            .flight = 90 * kMss,
                            .ssthresh = 70 * kMss,
                            .mss = kMss,
                            .safe = true});
  }
  EXPECT_EQ(cwnd, 101u * kMss);
}

// What leaves in a recovery is bounded by what arrived: in proportion while the flight is above the
// threshold, one for one (and one more per safe acknowledgement) below it.
TEST(Prr, SendsNoMoreThanWasDelivered) {
  EXPECT_TRUE(rc::check([] {
    flow::PrrState prr;
    std::uint64_t flight = *rc::gen::inRange<std::uint64_t>(4, 200) * kMss;
    const std::uint64_t before = flight;
    const auto ssthresh = static_cast<std::uint32_t>(std::max<std::uint64_t>(flight / 2, 2 * kMss));
    prr_begin(prr, flight);
    std::uint64_t acks = 0, delivered = 0;
    while (delivered < before && flight > 0) {
      const auto n = *rc::gen::inRange<std::uint64_t>(1, 4) * kMss;
      const std::uint64_t gone = std::min(n, flight);
      const std::uint64_t lost = *rc::gen::inRange<std::uint64_t>(0, 2) * kMss;
      flight -= gone;
      flight -= std::min(flight, lost);
      delivered += gone;
      ++acks;
      const std::uint32_t cwnd = prr_on_ack(prr, {.delivered = gone,
                                                  .flight = flight,
                                                  .ssthresh = ssthresh,
                                                  .mss = kMss,
                                                  .safe = *rc::gen::arbitrary<bool>()});
      RC_ASSERT(cwnd >= flight);
      while (flight + kMss <= cwnd) {
        flight += kMss;
        prr.sent += kMss;
      }
      RC_ASSERT(prr.sent <= delivered + (acks + 1) * kMss);
      if (prr.sent > kMss) RC_ASSERT(flight <= std::max<std::uint64_t>(before, ssthresh));
    }
  }));
}

}  // namespace
}  // namespace toe::datapath
