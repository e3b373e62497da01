// Persist, keep-alive, and the application's words: positions, flags, ring switch, lies.
#include <cerrno>

#include <gtest/gtest.h>

#include "datapath/test_stage.h"

namespace toe::datapath {
namespace {

using flow::Event;

// --- Persist: RFC 9293 section 3.8.6.1 ---

TEST(Persist, ProbesAClosedWindow) {
  Script t;
  t.recv({.window = 0});
  t.write(100);
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.pass(millis(210));
  EXPECT_EQ(t.take_sent(), Sent({"A -1+0 a0"}));
  EXPECT_EQ(t.counters.window_probes.value(), 1u);
}

TEST(Persist, ProbesAWindowThatClosedUnderWaitingData) {
  Script t;
  t.recv({.window = 1000});
  t.write(3000);
  t.take_sent();
  t.recv({.ack = 1000, .window = 0});
  t.pass(millis(500));
  EXPECT_GE(t.take_sent().size(), 1u);
  EXPECT_EQ(t.counters.zero_windows.value(), 1u);
}

TEST(Persist, IntervalsGrowAlsoWhenThePeerAnswers) {
  Script t;
  t.recv({.window = 0});
  t.write(100);
  std::vector<Nanos> gaps;
  Time before = t.now;
  for (int ms = 0; ms < 60000 && gaps.size() < 6; ++ms) {
    t.pass(millis(1));
    if (t.take_sent().empty()) continue;
    gaps.push_back(t.now - before);
    before = t.now;
    t.recv({.window = 0});
  }
  ASSERT_EQ(gaps.size(), 6u);
  for (std::size_t i = 1; i < gaps.size(); ++i) EXPECT_GT(gaps[i], gaps[i - 1]);
}

TEST(Persist, AnsweredProbesKeepTheConnectionForEver) {
  Script t;
  t.recv({.window = 0});
  t.write(100);
  for (int i = 0; i < 100; ++i) {
    t.pass(seconds(130));
    t.recv({.window = 0});
  }
  EXPECT_FALSE(t.closed);
}

// As Linux: nobody waits for it, and a peer must not keep it for ever.
TEST(Persist, AnOrphanIsGivenUpAlthoughThePeerAnswers) {
  for (const bool outstanding : {false, true}) {
    Script t;
    t.recv({.window = outstanding ? 1000u : 0u});
    t.write(100);
    t.orphan(false);
    t.take_sent();
    t.recv({.window = 0});
    const Time start = t.now;
    while (!t.closed && t.now - start < seconds(400)) {
      t.pass(millis(100));
      if (!t.take_sent().empty()) t.recv({.window = 0});
    }
    EXPECT_EQ(t.closed, Event::Close::kTimedOut) << outstanding;
    EXPECT_GT(t.now - start, seconds(100)) << outstanding;
  }
}

TEST(Persist, UnansweredProbesEndIt) {
  Script t;
  t.recv({.window = 0});
  t.write(100);
  t.pass(seconds(3000));
  EXPECT_EQ(t.closed, Event::Close::kTimedOut);
}

TEST(Persist, AnOpenedWindowSendsAtOnceAndStopsProbing) {
  Script t;
  t.recv({.window = 0});
  t.write(100);
  t.pass(millis(300));
  t.take_sent();
  t.recv({.window = 5000});
  EXPECT_EQ(t.take_sent(), Sent({"PA 0+100 a0"}));
  EXPECT_EQ(t.s.persist_at, Time::never());
}

TEST(Persist, WaitingFinIsProbedToo) {
  Script t;
  t.recv({.window = 0});
  t.write(100);
  t.shut_write();
  t.take_sent();
  t.pass(millis(300));
  EXPECT_EQ(t.take_sent().size(), 1u);
}

TEST(Persist, DataOutstandingUnderAClosedWindowIsNotGivenUpWhileThePeerAnswers) {
  Script t;
  t.write(1000);
  t.recv({.window = 0});  // the peer took its window back
  for (int i = 0; i < 3000; ++i) {
    t.pass(seconds(1));
    if (!t.take_sent().empty()) t.recv({.window = 0});
  }
  EXPECT_FALSE(t.closed);
}

// --- Keep-alive: RFC 9293 section 3.8.4 ---

TEST(KeepAlive, ProbesAnIdlePeerAndGivesUp) {
  Script t;
  AppUpdate u = t.same();
  u.options_changed = true;
  u.keep_idle_s = 10;
  u.keep_interval_s = 2;
  u.keep_count = 3;
  t.app(u);
  t.set_flags(shm::kKeepAlive);
  t.pass(seconds(9));
  EXPECT_EQ(t.take_sent(), Sent({}));
  t.pass(seconds(2));
  EXPECT_EQ(t.take_sent(), Sent({"A -1+0 a0"}));
  t.pass(seconds(10));
  EXPECT_EQ(t.closed, Event::Close::kTimedOut);
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(ETIMEDOUT));
  EXPECT_EQ(t.counters.keepalive_probes.value(), 3u);
}

void set_user_timeout(Script& t, std::uint32_t ms) {
  AppUpdate u = t.same();
  u.options_changed = true;
  u.user_timeout_ms = ms;
  t.app(u);
}

TEST(Persist, UserTimeoutEndsAPeerThatAnswersButTakesNothing) {
  Script t;
  set_user_timeout(t, 1500);
  t.recv({.window = 0});
  t.write(100);
  for (int i = 0; i < 16; ++i) {
    t.pass(millis(100));
    t.recv({.window = 0});
  }
  EXPECT_FALSE(t.closed);
  t.recv({.window = 1000});  // progress: the time begins anew
  t.recv({.ack = 100, .window = 0});
  t.write(100);
  t.pass(millis(1600));
  EXPECT_FALSE(t.closed);
  t.recv({.window = 0});
  t.pass(millis(200));
  EXPECT_EQ(t.closed, Event::Close::kTimedOut);
  EXPECT_LE(t.counters.window_probes.value(), 8u);  // it was the time, not the count of probes
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(ETIMEDOUT));
}

TEST(KeepAlive, UserTimeoutTakesThePlaceOfTheCount) {
  Script t;
  AppUpdate u = t.same();
  u.options_changed = true;
  u.keep_idle_s = 1;
  u.keep_interval_s = 1;
  u.keep_count = 1;
  u.user_timeout_ms = 3500;
  t.app(u);
  t.set_flags(shm::kKeepAlive);
  t.pass(millis(3900));
  EXPECT_FALSE(t.closed);
  EXPECT_EQ(t.counters.keepalive_probes.value(), 3u);
  t.take_sent();
  t.pass(millis(200));
  EXPECT_EQ(t.closed, Event::Close::kTimedOut);
  EXPECT_EQ(t.take_sent(), Sent({"RA 0+0 a0"}));  // a peer that is back shall know
}

TEST(Rto, UserTimeoutEndsItWhenItHasPassedNotATimeoutBefore) {
  Script t;
  set_user_timeout(t, 20'000);
  t.write(1000);
  t.run_to(t.s.rto_at);  // counted from here, as Linux
  t.pass(millis(19'990));
  EXPECT_FALSE(t.closed);
  t.pass(millis(20));
  EXPECT_EQ(t.closed, Event::Close::kTimedOut);
  EXPECT_EQ(t.error, static_cast<std::uint32_t>(ETIMEDOUT));
}

TEST(KeepAlive, AnAnswerKeepsItAlive) {
  Script t;
  t.set_flags(shm::kKeepAlive);
  for (int i = 0; i < 5; ++i) {
    t.pass(seconds(7200));
    EXPECT_EQ(t.take_sent().size(), 1u) << i;
    t.recv({});
  }
  EXPECT_FALSE(t.closed);
}

TEST(KeepAlive, DoesNotCountAgainstAPeerWithAClosedWindow) {
  Script t;
  AppUpdate u = t.same();
  u.options_changed = true;
  u.keep_idle_s = 1;
  u.keep_interval_s = 1;
  u.keep_count = 1;
  t.app(u);
  t.set_flags(shm::kKeepAlive);
  t.recv({.window = 0});
  t.write(100);
  t.pass(seconds(30));
  EXPECT_FALSE(t.closed) << "the persist timer decides";
}

TEST(KeepAlive, OffMeansOff) {
  Script t;
  t.set_flags(shm::kKeepAlive);
  t.set_flags(0);
  t.pass(seconds(100000));
  EXPECT_EQ(t.take_sent(), Sent({}));
}

// --- The application's words ---

TEST(App, OptionsAreBounded) {
  Script t;
  AppUpdate u = t.same();
  u.options_changed = true;
  u.keep_idle_s = u.keep_interval_s = u.keep_count = 0xffffffffu;
  EXPECT_TRUE(t.app(u));
  EXPECT_EQ(t.s.keep_idle, seconds(32767));
  EXPECT_EQ(t.s.keep_count, 127u);
}

struct Lie {
  const char* name;
  void (*tell)(AppUpdate&);
};

class AppLies : public testing::TestWithParam<Lie> {};

TEST_P(AppLies, AreRefused) {
  Script t;
  t.recv({.length = 1000});
  t.read(500);
  t.write(1000);
  t.recv({.ack = 600});
  AppUpdate u = t.same();
  GetParam().tell(u);
  EXPECT_FALSE(t.app(u));
}

INSTANTIATE_TEST_SUITE_P(
    , AppLies,
    testing::Values(Lie{"ReadMoreThanThereIs", [](AppUpdate& u) { u.rx_head = 1001; }},
                    Lie{"ReadBackwards", [](AppUpdate& u) { u.rx_head = 499; }},
                    Lie{"WroteBackwards", [](AppUpdate& u) { u.tx_tail = 999; }},
                    Lie{"WroteMoreThanTheRingHolds", [](AppUpdate& u) { u.tx_tail = 600 + 16385; }},
                    Lie{"WroteBeyondAnyBound", [](AppUpdate& u) { u.tx_tail = UINT64_MAX; }},
                    Lie{"SwitchedBeforeWhatWasWritten",
                        [](AppUpdate& u) {
                          u.tx_switched = true;
                          u.tx_ring_bytes = 65536;
                          u.tx_switch = 999;
                        }},
                    Lie{"SwitchedBehindWhatWasWritten",
                        [](AppUpdate& u) {
                          u.tx_switched = true;
                          u.tx_ring_bytes = 65536;
                          u.tx_switch = 1001;
                        }},
                    Lie{"SwitchedBeyondTheOldRing",
                        [](AppUpdate& u) {
                          u.tx_switched = true;
                          u.tx_ring_bytes = 65536;
                          u.tx_switch = u.tx_tail = 600 + 16385;
                        }},
                    Lie{"FilledMoreThanTheNewRing",
                        [](AppUpdate& u) {
                          u.tx_switched = true;
                          u.tx_ring_bytes = 65536;
                          u.tx_switch = 1000;
                          u.tx_tail = 1000 + 65537;
                        }}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(App, WritingBehindItsOwnFinIsALie) {
  Script t;
  t.shut_write();
  EXPECT_FALSE(t.write(1));
}

TEST(App, AnythingIsTakenFromAClosedFlow) {
  Script t;
  t.recv({.flags = wire::kRst});
  AppUpdate u = t.same();
  u.rx_head = UINT64_MAX;
  EXPECT_TRUE(t.app(u));
}

TEST(App, AFullRingIsNoLie) {
  Script t;
  EXPECT_TRUE(t.write(16384));
  EXPECT_FALSE(t.write(1));
}

TEST(TxRing, AnApplicationThatFillsTheRingIsOfferedALargerOne) {
  Script t;
  t.write(16384, shm::kWantTxRing);
  EXPECT_NE(t.events & Outcome::kWantTxRing, 0);
  t.events = 0;
  t.recv({.ack = 1000});
  t.write(1000, shm::kWantTxRing);
  EXPECT_EQ(t.events & Outcome::kWantTxRing, 0) << "asked once";
}

// A program that asks poll() first and writes pieces of less than a third never finds it full.
TEST(TxRing, SoIsOneThatWaitsForRoom) {
  Script t;
  t.write(10'000);
  EXPECT_EQ(t.events & Outcome::kWantTxRing, 0);
  t.write(1000);
  EXPECT_NE(t.events & Outcome::kWantTxRing, 0);
}

TEST(TxRing, NotWhereTheWindowIsNoLarger) {
  Script t;
  t.s.cwnd = 8 * kTestMss;
  t.write(16'000, shm::kWantTxRing);
  EXPECT_EQ(t.events & Outcome::kWantTxRing, 0);
}

TEST(TxRing, TheSwitchFreesRoomAtOnce) {
  Script t;
  t.write(16384);
  AppUpdate u = t.same();
  u.tx_switched = true;
  u.tx_ring_bytes = 65536;
  u.tx_switch = 16384;
  u.tx_tail = 16384 + 65536;
  EXPECT_TRUE(t.app(u));
  EXPECT_NE(t.last.events & Outcome::kTxSwitch, 0);
  EXPECT_EQ(t.last.tx_switch, 16384u);
  EXPECT_EQ(t.s.snd_ring_bytes, 65536u);
  EXPECT_FALSE(t.write(1));
  t.recv({.ack = 10000});
  EXPECT_FALSE(t.write(1)) << "only acknowledged bytes of the new ring make room in it";
}

}  // namespace
}  // namespace toe::datapath
