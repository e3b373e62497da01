// Loss recovery with SACK: scoreboard, RACK-TLP (RFC 8985), PRR (RFC 9937), and the way back from
// reductions that were wrong (RFC 4015, RFC 3708). docs/design/0003 says how the parts fit.
#include <algorithm>

#include "datapath/protocol_detail.h"
#include "datapath/prr.h"
#include "datapath/rack.h"
#include "wire/seqnum.h"

namespace toe::datapath {
namespace {

using flow::CaState;

bool outstanding(const ProtocolSlice& s) { return s.snd_max > s.snd_una; }

std::uint64_t flight(const ProtocolSlice& s) { return s.snd_max - s.snd_una - s.discount; }

/// What one acknowledgement has brought to light.
struct Findings {
  Delivery delivery;
  std::uint64_t acked = 0;          ///< by position
  std::uint64_t flight_before = 0;  ///< in flight before it came
  bool sacked = false;              ///< it sacked something new
  bool dsack = false;
  bool probe_dsack = false;  ///< the duplicate is the tail probe
  bool undone = false;       ///< it took a reduction back
  bool lost = false;         ///< more was found lost
};

Nanos known_min_rtt(const ProtocolSlice& s) {
  return s.min_rtt.ns == INT64_MAX ? Nanos{0} : s.min_rtt;
}

struct Span {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

Span span_of(const wire::SackBlock& block, std::uint64_t reference) {
  const std::int64_t begin = wire::unwrap({block.start}, {0}, reference);
  return {begin, begin + static_cast<std::int32_t>(block.end - block.start)};
}

/// RFC 2883 section 4: the first block is a duplicate if it lies below the acknowledgement of its
/// own segment or within the second block.
bool is_duplicate(const Span& first, const Span* second, std::int64_t ack) {
  if (first.begin < ack) return true;
  return second != nullptr && first.begin >= second->begin && first.end <= second->end;
}

void take_duplicate(Step& t, const Span& twice, Findings& f) {
  ProtocolSlice& s = t.s;
  flow::LossState& loss = s.loss;
  const auto oldest = static_cast<std::int64_t>(s.snd_una) - std::int64_t{s.max_snd_wnd};
  if (twice.end > static_cast<std::int64_t>(s.snd_max) ||
      twice.begin < std::max(oldest, Span{}.begin)) {
    t.counters.bad_sacks.add();
    return;
  }
  const auto begin = static_cast<std::uint64_t>(twice.begin);
  const auto end = static_cast<std::uint64_t>(twice.end);
  t.counters.dsacks_in.add();
  f.dsack = true;
  f.probe_dsack = loss.probe.again && loss.probe.end == end;
  if (!f.probe_dsack) rack_on_dsack(loss.rack, s.snd_una, s.snd_max);
  // Duplicates of bytes that left once are the network's.
  const std::uint64_t from = std::max(begin, loss.undo.marker);
  const std::uint64_t to = std::min(end, loss.undo.resent_end);
  if (loss.undo.possible && from < to) loss.undo.resent -= static_cast<std::int64_t>(to - from);
}

void take_blocks(Step& t, const AckNews& news, Scoreboard* board, Findings& f) {
  const RxSummary& seg = news.seg;
  const std::uint64_t una = t.s.snd_una;
  std::uint8_t i = 0;
  if (seg.sack_count != 0) {
    const Span first = span_of(seg.sack[0], una);
    const Span second = seg.sack_count > 1 ? span_of(seg.sack[1], una) : Span{};
    const std::int64_t ack = wire::unwrap({seg.ack}, {0}, una);
    if (first.begin < first.end &&
        is_duplicate(first, seg.sack_count > 1 ? &second : nullptr, ack)) {
      take_duplicate(t, first, f);
      i = 1;
    }
  }
  for (; i < seg.sack_count; ++i) {
    const Span block = span_of(seg.sack[i], una);
    if (block.begin >= block.end || block.end > static_cast<std::int64_t>(t.s.snd_max)) {
      t.counters.bad_sacks.add();
    } else if (board != nullptr && block.end > static_cast<std::int64_t>(una)) {
      board->sack(static_cast<std::uint64_t>(std::max(block.begin, static_cast<std::int64_t>(una))),
                  static_cast<std::uint64_t>(block.end), f.delivery);
    }
  }
  f.sacked = f.delivery.bytes != 0;
}

RackClock clock_of(const Step& t, const RxSummary* seg) {
  const ProtocolSlice& s = t.s;
  RackClock clock{t.now, s.srtt, s.min_rtt};
  if (seg == nullptr || !s.ts_on || !seg->has_timestamp || seg->tsecr == 0) return clock;
  const std::int64_t now_ms = t.now.ns / 1'000'000;
  const auto ago =
      static_cast<std::int32_t>(static_cast<std::uint32_t>(now_ms) + s.ts_offset - seg->tsecr);
  clock.echo = true;
  clock.echoed = Time{(now_ms - ago + 1) * 1'000'000 - 1};
  return clock;
}

/// Section 6.2 step 5, and its timer.
void detect(Step& t, Scoreboard& board, const RackClock& clock, Findings& f) {
  ProtocolSlice& s = t.s;
  const std::uint64_t lost_before = board.lost();
  const RackContext context{
      s.ca_state >= CaState::kRecovery,
      board.sacked() >= std::uint64_t{kDupAckThreshold} * s.mss || s.dup_acks >= kDupAckThreshold};
  const Nanos window = rack_window(s.loss.rack, clock, context);
  const RackVerdict verdict = rack_detect(board, s.loss.rack, window, t.now);
  if (verdict.wait.ns > 0) {
    s.reorder_wait = true;
    s.probe_at = std::min(t.now + verdict.wait, s.rto_at);
  } else if (s.reorder_wait) {
    s.reorder_wait = false;
    s.probe_at = Time::never();
  }
  // A peer that repeats its ACK but has no room to store what it cannot use names no blocks.
  if (s.dup_acks >= kDupAckThreshold && board.sacked() == 0 && board.lost() == 0 &&
      s.ca_state < CaState::kRecovery) {
    board.lose(s.snd_una, std::min(s.snd_una + s.mss, s.snd_max));
  }
  f.lost = board.lost() != lost_before;
}

/// False: marks of the same window have reduced cwnd.
bool reduce(Step& t) {
  ProtocolSlice& s = t.s;
  const bool reduced = reduce_for_loss(s);
  s.cwnd_acked = 0;
  s.timed_rtt = false;
  if (reduced) t.out.events |= Outcome::kLoss;
  return reduced;
}

/// The most that may leave in one burst where the window opens at once: as in the first round trip
/// (RFC 6928), or this part of the window.
constexpr std::uint32_t kBurstSegments = 10;
constexpr std::uint32_t kBurstPart = 4;

/// `cwnd`, or less of it where too little is in flight: slow start, clocked by acknowledgements,
/// leads there then (RFC 6582 section 3.2 step 3).
std::uint32_t without_burst(const ProtocolSlice& s, std::uint32_t cwnd) {
  const std::uint32_t burst = std::max(kBurstSegments * s.mss, cwnd / kBurstPart);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(cwnd, flight(s) + burst));
}

void leave_recovery(Step& t) {
  ProtocolSlice& s = t.s;
  s.cwnd = without_burst(s, s.cc.ssthresh);
  s.ca_state = CaState::kOpen;
  s.cwnd_acked = 0;
  rack_on_recovered(s.loss.rack);
}

void begin_recovery(Step& t, std::uint64_t flight_before) {
  ProtocolSlice& s = t.s;
  if (reduce(t)) prr_begin(s.loss.prr, flight_before);
  s.ca_state = CaState::kRecovery;
  s.recover = s.snd_max;
  t.counters.fast_retransmits.add();
  t.counters.sack_recoveries.add();
}

/// The states of congestion control after the board has spoken, and cwnd. Where nothing was
/// delivered cwnd stays (RFC 9937 section 6): what was found lost meanwhile may leave again.
void steer(Step& t, const Scoreboard& board, const Findings& f) {
  ProtocolSlice& s = t.s;
  const bool repaired = s.ca_state >= CaState::kRecovery && f.acked != 0 && s.snd_una >= s.recover;
  if (s.ca_state == CaState::kRecovery && repaired) {
    leave_recovery(t);
  } else if (repaired) {
    s.ca_state = CaState::kOpen;
    rack_on_recovered(s.loss.rack);
  }
  const bool begins = s.ca_state < CaState::kRecovery && board.lost() != 0;
  if (begins) begin_recovery(t, f.flight_before);
  if (s.ca_state == CaState::kRecovery) {
    if (begins || f.delivery.bytes != 0) {
      s.cwnd = prr_window(s, f.delivery.bytes, f.acked != 0 && !f.lost);
    }
  } else if (s.ca_state == CaState::kCwr) {
    if (f.delivery.bytes != 0) cwr_advance(t, f.delivery.bytes);
  } else if (f.delivery.bytes != 0 && !repaired && !f.undone) {
    if (s.ca_state == CaState::kLoss) s.cwnd_limited = true;
    grow_cwnd(s, s.ca_state == CaState::kLoss ? f.delivery.bytes : f.acked);
  }
}

void undo(Step& t) {
  ProtocolSlice& s = t.s;
  const flow::UndoState& before = s.loss.undo;
  // What was sent again had not been lost but overtaken. RFC 8985 section 6.2 step 3 sees that only
  // of bytes that left once, and without the wait nearly all of them leave twice; as Linux.
  if (!before.timeout && before.retransmitted && !s.loss.rack.reordering) {
    s.loss.rack.reordering = true;
    t.counters.reorderings.add();
  }
  s.cc.ssthresh = std::max(s.cc.ssthresh, before.ssthresh);
  s.ca_state = CaState::kOpen;
  s.recover = s.snd_una;
  s.rexmit_end = 0;
  s.snd_nxt = s.snd_max;  // nothing has to be sent again
  s.loss.undo.possible = false;
  ++s.reductions;
  s.ecn = static_cast<std::uint8_t>(s.ecn & ~flow::kEcnCwrDue);
  if (s.board != 0) {
    Scoreboard& board = t.pools.boards.at(s.board);
    board.unlose();
    note_board(s, board);
  }
  s.cwnd = std::max(s.cwnd, before.cwnd);
  t.out.events |= Outcome::kUndo;
}

/// Duplicates were reported for all that was sent again: it was not lost.
bool undo_by_dsack(Step& t, const Scoreboard* board) {
  const flow::UndoState& u = t.s.loss.undo;
  if (!u.possible || !u.retransmitted || u.resent > 0) return false;
  if (t.s.ca_state == CaState::kRecovery && board != nullptr && board->lost() != 0) return false;
  t.counters.undone_by_dsack.add();
  undo(t);
  return true;
}

/// RFC 8985 section 7.4.2: what became of the tail probe.
void judge_probe(Step& t, const AckNews& news, const Findings& f) {
  ProtocolSlice& s = t.s;
  flow::ProbeState& probe = s.loss.probe;
  if (probe.end == 0 || news.ack < probe.end) return;
  if (!probe.again || f.probe_dsack) {
    probe = {};
  } else if (news.ack > probe.end) {  // the probe filled a hole: one loss
    probe = {};
    t.counters.probe_repairs.add();
    if (s.ca_state != CaState::kOpen) return;
    t.counters.fast_retransmits.add();
    reduce(t);
    s.cwnd = std::min(s.cwnd, s.cc.ssthresh);
  } else if (news.duplicate && f.acked == 0 && news.seg.sack_count == 0) {
    probe = {};  // both copies have arrived
  }
}

void judge(Step& t, const AckNews& news, Scoreboard& board, Findings& f) {
  ProtocolSlice& s = t.s;
  const RackClock clock = clock_of(t, &news.seg);
  if (rack_update(s.loss.rack, f.delivery, clock)) t.counters.reorderings.add();
  if (f.acked == 0 && (f.sacked || (news.duplicate && !f.dsack))) {  // RFC 6675 section 2
    t.counters.duplicate_acks.add();
    if (s.dup_acks < UINT8_MAX) ++s.dup_acks;
  }
  // Karn: what was sent again may have caused this answer.
  if (s.ca_state >= CaState::kRecovery && !s.timed_rtt && f.delivery.fresh.end != 0 &&
      f.delivery.again.end == 0) {
    // A run carries the instant of its last byte; nothing arrives sooner than the least round trip.
    take_coarse_rtt(s, std::max(t.now - f.delivery.fresh.sent, known_min_rtt(s)));
  }
  note_board(s, board);
  f.undone = undo_by_dsack(t, &board) || (f.acked != 0 && undo_by_time(t, news.seg));
  detect(t, board, clock, f);
  note_board(s, board);
  steer(t, board, f);
  note_board(s, board);
}

}  // namespace

void take_careful_ack(Step& t, const AckNews& news) {
  ProtocolSlice& s = t.s;
  Findings f;
  Scoreboard* board = outstanding(s) ? borrow_board(t) : nullptr;
  f.flight_before = flight(s);
  f.acked = news.ack - s.snd_una;
  take_blocks(t, news, board, f);
  if (f.acked != 0) {
    begin_advance(t, news.seg, news.ack);
    if (board != nullptr) board->advance(news.ack, f.delivery);
  }
  if (board != nullptr) {
    judge(t, news, *board, f);
  } else {
    if (!undo_by_dsack(t, nullptr) && f.acked != 0) undo_by_time(t, news.seg);
    if (f.acked != 0) {
      reno_advance(t, f.acked);
    } else if (news.duplicate && !f.dsack) {
      reno_duplicate(t);
    }
  }
  judge_probe(t, news, f);
  if (s.board != 0 && !outstanding(s)) return_board(t);
  s.careful = s.ca_state >= CaState::kRecovery || s.loss.probe.end != 0 ||
              (s.board != 0 && !t.pools.boards.at(s.board).plain());
  if (f.acked != 0) finish_advance(t);
}

std::uint32_t prr_window(ProtocolSlice& s, std::uint64_t delivered, bool safe) {
  return prr_on_ack(s.loss.prr, {delivered, flight(s), s.cc.ssthresh, s.mss, safe});
}

Scoreboard* borrow_board(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.board == 0) {
    if (s.ca_state >= CaState::kRecovery || s.snd_nxt != s.snd_max) return nullptr;
    s.board = t.pools.boards.take();
    if (s.board == 0) {
      t.counters.no_board.add();
      return nullptr;
    }
    t.pools.boards.at(s.board).reset(s.snd_una);
  }
  Scoreboard& board = t.pools.boards.at(s.board);
  if (s.snd_una >= board.end()) {
    board.reset(s.snd_una);
  } else if (s.snd_una > board.begin()) {  // acknowledged while nobody looked at it
    Delivery known;
    board.advance(s.snd_una, known);
  }
  board.add(s.snd_max, s.sent_at);
  return &board;
}

/// What is outstanding in larger segments was dropped for its size, which says nothing of
/// congestion (RFC 1191 section 6.5): all of it leaves again, in smaller ones.
void on_mss(Step& t, std::uint16_t mss) {
  ProtocolSlice& s = t.s;
  const bool smaller = mss < s.mss;
  s.mss = mss;
  if (!smaller || s.closed || !outstanding(s)) return;
  Scoreboard* board = s.sack_on ? borrow_board(t) : nullptr;
  if (board != nullptr) {
    board->lose(s.snd_una, s.snd_max);
    note_board(s, *board);
    s.careful = true;
    if (s.ca_state < CaState::kRecovery) {  // an episode of repair in which nothing is reduced
      s.ca_state = CaState::kLoss;
      s.recover = s.snd_max;
      s.loss.undo.possible = false;
    }
  } else {
    s.snd_nxt = s.snd_una;
  }
  s.timed_rtt = false;
  settle(t);
}

void return_board(Step& t) {
  ProtocolSlice& s = t.s;
  t.pools.boards.give(s.board);
  s.board = 0;
  s.discount = s.loss.lost = s.loss.resent = 0;
  if (!s.reorder_wait) return;
  s.reorder_wait = false;
  s.probe_at = Time::never();
}

void note_board(ProtocolSlice& s, const Scoreboard& board) {
  s.discount = static_cast<std::uint32_t>(board.sacked() + board.lost());
  s.loss.lost = static_cast<std::uint32_t>(board.lost());
  s.loss.resent = static_cast<std::uint32_t>(board.resent());
}

void on_reorder_timeout(Step& t) {
  ProtocolSlice& s = t.s;
  s.reorder_wait = false;
  if (s.board == 0 || !outstanding(s)) return;
  Scoreboard& board = *borrow_board(t);
  Findings f;
  f.flight_before = flight(s);
  detect(t, board, clock_of(t, nullptr), f);
  if (f.lost) t.counters.reorder_waits.add();
  note_board(s, board);
  steer(t, board, f);
  s.careful = true;
}

bool lose_on_timeout(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.backoff > kBoardTimeouts) {
    if (s.board != 0) return_board(t);
    return false;
  }
  Scoreboard* board = s.sack_on ? borrow_board(t) : nullptr;
  if (board == nullptr) return false;
  // RFC 2018 section 8: a peer that has the first bytes would have acknowledged them.
  if (board->count() != 0 && board->run(0).sacked) board->unsack();
  const RackClock clock = clock_of(t, nullptr);
  const Nanos rtt = std::max(s.loss.rack.rtt, s.srtt);
  rack_on_timeout(*board, rtt + rack_window(s.loss.rack, clock, {true, true}), t.now);
  note_board(s, *board);
  s.cwnd = static_cast<std::uint32_t>(std::min<std::uint64_t>(flight(s) + s.mss, UINT32_MAX));
  return true;
}

void prepare_undo(ProtocolSlice& s) {
  s.loss.undo = {};
  s.loss.undo.marker = s.snd_una;
  s.loss.undo.cwnd = s.cwnd;
  s.loss.undo.ssthresh = s.cc.ssthresh;
  s.loss.undo.possible = true;
  ++s.reductions;
}

void note_resent(Step& t, std::uint64_t begin, std::uint64_t end) {
  flow::LossState& loss = t.s.loss;
  loss.undo.resent += static_cast<std::int64_t>(end - begin);
  loss.undo.resent_end = std::max(loss.undo.resent_end, end);
  if (loss.undo.retransmitted) return;
  loss.undo.retransmitted = true;
  loss.undo.first_tsval = t.out.tsval;
}

bool undo_by_time(Step& t, const RxSummary& seg) {
  ProtocolSlice& s = t.s;
  const flow::UndoState& u = s.loss.undo;
  if (!u.possible || s.ca_state == CaState::kOpen) return false;
  const bool whole = s.snd_una >= s.recover;
  const bool echo = s.ts_on && seg.has_timestamp && seg.tsecr != 0;
  const bool earlier = echo && static_cast<std::int32_t>(seg.tsecr - u.first_tsval) < 0;
  if (u.retransmitted ? !earlier : !whole) return false;
  // One late segment proves nothing of the other holes of a fast recovery.
  if (s.ca_state == CaState::kRecovery && !whole) {
    if (s.board == 0 || s.loss.resent != 0) return false;
  }
  t.counters.undone_by_time.add();
  undo(t);
  return true;
}

}  // namespace toe::datapath
