// What the sender knows of the bytes in flight: which the peer has (RFC 2018), which are given up
// for lost, which were sent again, and when each left (RFC 8985 section 5.1). Knows nothing of
// congestion control; a value.
//
// INVARIANT: runs are non-empty, adjacent and ascending: together they are [begin(), end()). Two
// neighbours differ in state or in sending time.
// Bound: kRuns, of which only those in use are ever touched. When one more is needed, two
// neighbours become one: those that differ only in time first (both then count as sent at the later
// instant: found lost a little later), else the two highest (what the peer has of them is
// forgotten: perhaps sent once more). Nothing lost is ever taken for delivered.
#ifndef TOE_DATAPATH_SCOREBOARD_H_
#define TOE_DATAPATH_SCOREBOARD_H_

#include <array>
#include <cstdint>

#include "base/limits.h"
#include "base/types.h"

namespace toe::datapath {

/// Bytes that arrived at the peer by one acknowledgement, as loss detection wants to know it.
struct Delivery {
  struct Latest {
    Time sent;
    std::uint64_t end = 0;  ///< 0 = none
  };
  std::uint64_t bytes = 0;
  Latest fresh;                             ///< sent last, among what was sent once
  Latest again;                             ///< sent last, among what was sent more than once
  std::uint64_t lowest_fresh = UINT64_MAX;  ///< first position among what was sent once
  std::uint64_t highest = 0;                ///< end of the highest
};

class Scoreboard {
 public:
  /// Two for each hole that a receiver of ours can report.
  static constexpr std::uint32_t kRuns = 2 * kOutOfOrderRanges;

  /// Bytes of one state, sent together.
  struct Run {
    std::uint64_t end;
    std::uint64_t sent_ns : 61;
    bool sacked : 1;  ///< the peer has them
    bool lost : 1;    ///< given up, not sent again since; never with `sacked`
    bool again : 1;   ///< sent more than once

    Time sent() const { return {static_cast<std::int64_t>(sent_ns)}; }
    void set_sent(Time t) { sent_ns = static_cast<std::uint64_t>(t.ns) & ((1ull << 61) - 1); }
  };
  static_assert(sizeof(Run) == 16);

  /// A smaller bound is for tests.
  explicit Scoreboard(std::uint32_t bound = kRuns) : bound_(bound) {}

  /// Forgets everything; nothing before `una` is in flight.
  void reset(std::uint64_t una);

  /// [end(), end) left for the first time, the last of it at `sent`.
  void add(std::uint64_t end, Time sent);
  /// Everything before `una` is acknowledged. REQUIRES: una <= end().
  void advance(std::uint64_t una, Delivery& delivery);
  /// The peer has [begin, end); what lies outside of this board is ignored.
  void sack(std::uint64_t begin, std::uint64_t end, Delivery& delivery);
  /// [begin, end) left once more at `now`. REQUIRES: within this board.
  void resent(std::uint64_t begin, std::uint64_t end, Time now);
  /// [begin, end) is given up for lost, except what the peer has. REQUIRES: within this board.
  void lose(std::uint64_t begin, std::uint64_t end);

  /// The lowest bytes to send again. False: none.
  bool next_lost(std::uint64_t& begin, std::uint64_t& end) const;
  /// Nothing is lost after all.
  void unlose();
  /// The peer has taken back what it said it had (RFC 2018 section 8).
  void unsack();

  std::uint64_t begin() const { return begin_; }
  std::uint64_t end() const { return count_ == 0 ? begin_ : runs_[count_ - 1].end; }
  std::uint64_t sacked() const { return sacked_; }
  std::uint64_t lost() const { return lost_; }
  /// Sent again and neither lost since nor known to have arrived.
  std::uint64_t resent() const { return resent_; }
  /// True when all that is known is what was sent when: nothing sacked, lost or sent again.
  bool plain() const { return sacked_ == 0 && lost_ == 0 && resent_ == 0; }

  // Runs in ascending order, for loss detection.
  std::uint32_t count() const { return count_; }
  const Run& run(std::uint32_t i) const { return runs_[i]; }
  std::uint64_t begin_of(std::uint32_t i) const { return i == 0 ? begin_ : runs_[i - 1].end; }
  std::uint64_t bytes_of(std::uint32_t i) const { return runs_[i].end - begin_of(i); }
  /// REQUIRES: neither sacked nor lost.
  void lose_run(std::uint32_t i);

 private:
  static bool alike(const Run& a, const Run& b);
  /// What is counted of run i is counted once more (+1), or not any more (-1).
  void count_run(std::uint32_t i, int sign);
  void make_room(std::uint32_t runs);
  void join(std::uint32_t i);
  std::uint32_t cut(std::uint64_t position);
  void tidy(std::uint32_t first, std::uint32_t last);
  void deliver(std::uint64_t begin, std::uint64_t end, const Run& run, Delivery& delivery);

  std::uint32_t count_ = 0;
  const std::uint32_t bound_;
  std::uint64_t begin_ = 0;
  std::uint64_t sacked_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t resent_ = 0;
  std::array<Run, kRuns> runs_;  // the first count_ mean something
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_SCOREBOARD_H_
