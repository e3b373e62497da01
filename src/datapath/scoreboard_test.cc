#include "datapath/scoreboard.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace toe::datapath {
namespace {

/// "begin-end state@ms" per run; states: S sacked, L lost, R sent again.
std::string text(const Scoreboard& b) {
  std::string all;
  for (std::uint32_t i = 0; i < b.count(); ++i) {
    const Scoreboard::Run& run = b.run(i);
    all += (i == 0 ? "" : " ") + std::to_string(b.begin_of(i)) + "-" + std::to_string(run.end);
    all += std::string(run.sacked ? "S" : "") + (run.lost ? "L" : "") + (run.again ? "R" : "");
    if (!run.sacked) all += "@" + std::to_string(run.sent().ns / 1'000'000);
  }
  return all;
}

Time ms(std::int64_t t) { return {millis(t).ns}; }

Scoreboard board_of(std::uint64_t end) {
  Scoreboard b;
  b.reset(0);
  b.add(end, ms(1));
  return b;
}

TEST(Scoreboard, KeepsBytesSentTogetherAsOneRun) {
  Scoreboard b;
  b.reset(100);
  b.add(200, ms(1));
  b.add(300, ms(1));
  b.add(400, ms(2));
  EXPECT_EQ(text(b), "100-300@1 300-400@2");
  EXPECT_TRUE(b.plain());
}

TEST(Scoreboard, AdvanceDeliversWhatWasNotSacked) {
  Scoreboard b = board_of(1000);
  Delivery d;
  b.sack(200, 300, d);
  EXPECT_EQ(d.bytes, 100u);
  d = {};
  b.advance(400, d);
  EXPECT_EQ(d.bytes, 300u);
  EXPECT_EQ(text(b), "400-1000@1");
  EXPECT_EQ(b.sacked(), 0u);
}

TEST(Scoreboard, ARepeatedBlockDeliversNothing) {
  Scoreboard b = board_of(1000);
  Delivery d;
  b.sack(200, 300, d);
  d = {};
  b.sack(200, 300, d);
  b.sack(250, 300, d);
  EXPECT_EQ(d.bytes, 0u);
  EXPECT_EQ(d.lowest_fresh, UINT64_MAX);
  EXPECT_EQ(text(b), "0-200@1 200-300S 300-1000@1");
}

TEST(Scoreboard, BlocksOutsideAreIgnored) {
  Scoreboard b = board_of(1000);
  Delivery d;
  b.advance(500, d);
  d = {};
  b.sack(0, 500, d);
  b.sack(1000, 2000, d);
  b.sack(900, 800, d);
  b.sack(0, UINT64_MAX, d);
  EXPECT_EQ(d.bytes, 500u);
  EXPECT_EQ(text(b), "500-1000S");
}

TEST(Scoreboard, TellsWhichDeliveredBytesLeftLast) {
  Scoreboard b;
  b.reset(0);
  b.add(100, ms(1));
  b.add(200, ms(2));
  b.add(300, ms(3));
  b.lose(0, 50);
  b.resent(0, 50, ms(9));
  Delivery d;
  b.sack(0, 200, d);
  EXPECT_EQ(d.fresh.sent, ms(2));
  EXPECT_EQ(d.fresh.end, 200u);
  EXPECT_EQ(d.again.sent, ms(9));
  EXPECT_EQ(d.again.end, 50u);
  EXPECT_EQ(d.lowest_fresh, 50u);
  EXPECT_EQ(d.highest, 200u);
}

TEST(Scoreboard, LostBytesAreNamedFromTheLowestOn) {
  Scoreboard b = board_of(1000);
  Delivery d;
  b.sack(500, 600, d);
  b.lose(0, 700);
  EXPECT_EQ(b.lost(), 600u) << "not what the peer has";
  std::uint64_t begin = 0, end = 0;
  ASSERT_TRUE(b.next_lost(begin, end));
  EXPECT_EQ(begin, 0u);
  EXPECT_EQ(end, 500u);
  b.resent(0, 100, ms(5));
  EXPECT_EQ(text(b), "0-100R@5 100-500L@1 500-600S 600-700L@1 700-1000@1");
  b.resent(100, 500, ms(5));
  ASSERT_TRUE(b.next_lost(begin, end));
  EXPECT_EQ(begin, 600u);
  EXPECT_EQ(text(b), "0-500R@5 500-600S 600-700L@1 700-1000@1");
}

TEST(Scoreboard, LossCanBeTakenBack) {
  Scoreboard b = board_of(1000);
  b.lose(0, 300);
  b.unlose();
  EXPECT_EQ(b.lost(), 0u);
  EXPECT_EQ(text(b), "0-1000@1");
}

TEST(Scoreboard, SacksCanBeTakenBack) {
  Scoreboard b = board_of(1000);
  Delivery d;
  b.sack(100, 300, d);
  b.unsack();
  EXPECT_EQ(b.sacked(), 0u);
  EXPECT_EQ(b.begin(), 0u);
  EXPECT_EQ(b.end(), 1000u);
}

TEST(Scoreboard, AtTheBoundTimesAreJoinedBeforeStates) {
  Scoreboard b;
  b.reset(0);
  for (std::uint64_t i = 1; i <= 2 * Scoreboard::kRuns; ++i) {
    b.add(i * 10, ms(static_cast<std::int64_t>(i)));
  }
  EXPECT_EQ(b.count(), Scoreboard::kRuns);
  Delivery d;
  b.sack(100, 105, d);
  EXPECT_EQ(b.sacked(), 5u);
  EXPECT_LE(b.count(), Scoreboard::kRuns);
  for (std::uint32_t i = 0; i < b.count(); ++i) {
    const auto last = static_cast<std::int64_t>((b.run(i).end + 9) / 10);
    if (!b.run(i).sacked) {
      EXPECT_GE(b.run(i).sent(), ms(last)) << i;
    }
  }
}

TEST(Scoreboard, AtTheBoundTheHighestSacksAreForgotten) {
  Scoreboard b(128);
  b.reset(0);
  b.add(10'000, ms(1));
  Delivery d;
  for (std::uint64_t i = 0; i < 100; ++i) b.sack(i * 100, i * 100 + 50, d);
  EXPECT_LE(b.count(), 128u);
  EXPECT_LT(b.sacked(), 5000u);
  EXPECT_GE(b.sacked(), 3000u);
  EXPECT_EQ(b.run(0).end, 50u);
  EXPECT_TRUE(b.run(0).sacked) << "the lowest are kept";
  EXPECT_EQ(b.end(), 10'000u);
}

// --- Against an oracle that keeps every byte by itself ---

struct Byte {
  std::int64_t sent = 0;
  bool sacked = false, lost = false, again = false;
};

struct Oracle {
  std::map<std::uint64_t, Byte> bytes;
  std::uint64_t end = 0;

  std::uint64_t begin() const { return bytes.empty() ? end : bytes.begin()->first; }
  std::uint64_t count(bool Byte::*what) const {
    std::uint64_t n = 0;
    for (const auto& [position, byte] : bytes) n += byte.*what ? 1 : 0;
    return n;
  }
  void deliver(std::uint64_t position, const Byte& b, Delivery& d) const {
    ++d.bytes;
    Delivery::Latest& latest = b.again ? d.again : d.fresh;
    const Time sent{b.sent};
    if (latest.end == 0 || sent > latest.sent ||
        (sent == latest.sent && position + 1 > latest.end)) {
      latest = {sent, position + 1};
    }
    if (!b.again) d.lowest_fresh = std::min(d.lowest_fresh, position);
  }
};

/// One random walk of board and oracle; positions step by `step` bytes at most.
class Walk {
 public:
  explicit Walk(std::uint64_t step, std::uint32_t bound = Scoreboard::kRuns)
      : board(bound), step_(step) {
    board.reset(0);
  }

  void turn() {
    now_ += *rc::gen::inRange(0, 3);
    delivery = expected = {};
    switch (*rc::gen::inRange(0, 7)) {
      case 0:
      case 1:
        return add();
      case 2:
        return advance();
      case 3:
      case 4:
        return sack();
      case 5:
        return lose();
      default:
        return resend();
    }
  }

  Scoreboard board;
  Oracle oracle;
  Delivery delivery, expected;

 private:
  std::uint64_t some(std::uint64_t low, std::uint64_t high) {
    return low >= high ? low : *rc::gen::inRange(low, high + 1);
  }
  void add() {
    const std::uint64_t to = oracle.end + some(1, step_);
    for (std::uint64_t p = oracle.end; p < to; ++p) oracle.bytes[p].sent = now_;
    oracle.end = to;
    board.add(to, {now_});
  }
  void advance() {
    const std::uint64_t una = some(oracle.begin(), std::min(oracle.begin() + step_, oracle.end));
    while (!oracle.bytes.empty() && oracle.begin() < una) {
      const auto first = oracle.bytes.begin();
      if (!first->second.sacked) oracle.deliver(first->first, first->second, expected);
      oracle.bytes.erase(first);
    }
    board.advance(una, delivery);
  }
  void sack() {
    const std::uint64_t begin = some(oracle.begin(), oracle.end);
    const std::uint64_t end = begin + some(1, step_);
    for (auto& [position, byte] : oracle.bytes) {
      if (position < begin || position >= end || byte.sacked) continue;
      oracle.deliver(position, byte, expected);
      byte.sacked = true;
      byte.lost = false;
    }
    board.sack(begin, end, delivery);
  }
  void lose() {
    const std::uint64_t begin = some(oracle.begin(), oracle.end);
    const std::uint64_t end = some(begin, std::min(begin + step_, oracle.end));
    for (auto& [position, byte] : oracle.bytes) {
      if (position >= begin && position < end && !byte.sacked) byte.lost = true;
    }
    board.lose(begin, end);
  }
  void resend() {
    std::uint64_t begin = 0, end = 0;
    if (!board.next_lost(begin, end)) return;
    end = some(begin + 1, end);
    for (auto& [position, byte] : oracle.bytes) {
      if (position < begin || position >= end || byte.sacked) continue;
      byte.lost = false;
      byte.again = true;
      byte.sent = now_;
    }
    board.resent(begin, end, {now_});
  }

  std::uint64_t step_;
  std::int64_t now_ = 1;
};

void check_invariant(const Scoreboard& b) {
  std::uint64_t sacked = 0, lost = 0, resent = 0;
  RC_ASSERT(b.count() <= Scoreboard::kRuns);
  for (std::uint32_t i = 0; i < b.count(); ++i) {
    RC_ASSERT(b.bytes_of(i) > 0u);
    RC_ASSERT(!(b.run(i).sacked && b.run(i).lost));
    if (b.run(i).sacked) sacked += b.bytes_of(i);
    if (b.run(i).lost) lost += b.bytes_of(i);
    if (b.run(i).again && !b.run(i).sacked && !b.run(i).lost) resent += b.bytes_of(i);
  }
  RC_ASSERT(sacked == b.sacked());
  RC_ASSERT(lost == b.lost());
  RC_ASSERT(resent == b.resent());
}

TEST(Scoreboard, AgreesWithAnOracleBelowTheBound) {
  EXPECT_TRUE(rc::check([] {
    Walk walk(6);  // 7 turns in 60 send at most 6 bytes: the bound is never reached
    for (int i = 0; i < 60; ++i) {
      walk.turn();
      if (walk.oracle.end - walk.oracle.begin() >= Scoreboard::kRuns - 2) return;
      const Scoreboard& b = walk.board;
      check_invariant(b);
      RC_ASSERT(b.begin() == walk.oracle.begin());
      RC_ASSERT(b.end() == walk.oracle.end);
      RC_ASSERT(b.sacked() == walk.oracle.count(&Byte::sacked));
      RC_ASSERT(b.lost() == walk.oracle.count(&Byte::lost));
      std::uint32_t run = 0;
      for (const auto& [position, byte] : walk.oracle.bytes) {
        if (b.run(run).end <= position) ++run;
        RC_ASSERT(b.run(run).sacked == byte.sacked);
        RC_ASSERT(b.run(run).lost == byte.lost);
        if (byte.sacked) continue;
        RC_ASSERT(b.run(run).again == byte.again);
        RC_ASSERT(b.run(run).sent().ns == byte.sent);
      }
      RC_ASSERT(walk.delivery.bytes == walk.expected.bytes);
      RC_ASSERT(walk.delivery.fresh.end == walk.expected.fresh.end);
      RC_ASSERT(walk.delivery.again.end == walk.expected.again.end);
      RC_ASSERT(walk.delivery.lowest_fresh == walk.expected.lowest_fresh);
    }
  }));
}

// Beyond the bound the board may know less, never more: nothing counts as delivered that is not,
// nothing as sent earlier than it was, and all that is lost is either known as lost or believed in
// flight.
TEST(Scoreboard, ForgetsSoundlyAtTheBound) {
  EXPECT_TRUE(rc::check([] {
    Walk walk(400, 128);
    for (int i = 0; i < 250; ++i) {
      walk.turn();
      const Scoreboard& b = walk.board;
      check_invariant(b);
      RC_ASSERT(b.count() <= 128u);
      RC_ASSERT(b.begin() == walk.oracle.begin());
      RC_ASSERT(b.end() == walk.oracle.end);
    }
    std::uint32_t run = 0;
    for (const auto& [position, byte] : walk.oracle.bytes) {
      while (walk.board.run(run).end <= position) ++run;
      const Scoreboard::Run& r = walk.board.run(run);
      if (r.sacked) RC_ASSERT(byte.sacked);
      if (!r.sacked && !byte.sacked) RC_ASSERT(r.sent().ns >= byte.sent);
      if (byte.lost) RC_ASSERT(r.lost);
    }
  }));
}

}  // namespace
}  // namespace toe::datapath
