// Received payload: placement, acknowledgement policy, receive window, receive ring.
#include <algorithm>
#include <cerrno>

#include "datapath/protocol_detail.h"
#include "wire/segment.h"

namespace toe::datapath {
namespace {

/// Payload positions [begin, end) after trimming, and where they start in the frame.
struct Piece {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint16_t skipped = 0;

  bool empty() const { return begin >= end; }
};

/// Trims what was received before, what does not fit, and what lies behind the peer's FIN.
Piece trim(const ProtocolSlice& s, const RxSummary& seg, std::int64_t seq) {
  const auto begin = std::max(seq, static_cast<std::int64_t>(s.rcv_nxt));
  const auto limit = static_cast<std::int64_t>(std::min(s.rcv_limit, s.rcv_fin));
  const auto end = std::min(seq + seg.payload_length, limit);
  if (end <= begin) return {};
  return {static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end),
          static_cast<std::uint16_t>(begin - seq)};
}

void start_delayed_ack(Step& t) {
  if (t.s.ack_delayed) return;
  t.s.ack_delayed = true;
  t.s.ack_at = t.now + t.options.delayed_ack;
  t.out.delay_ack = true;
}

/// Every segment is acknowledged, as Linux does at first and behind losses.
bool quick_mode(const ProtocolSlice& s) { return s.quick_acks > 0 && !s.pingpong; }

/// RFC 1122 section 4.2.3.2 and RFC 5681 section 4.2.
void decide_ack(Step& t, std::uint16_t length, bool filled_gap) {
  ProtocolSlice& s = t.s;
  s.rcv_mss = std::max(s.rcv_mss, length);
  const bool two_segments = s.rcv_nxt - s.last_ack_sent > s.rcv_mss;
  const bool quick = quick_mode(s);
  if (filled_gap) {
    s.quick_acks = kQuickAcks;  // who lost something has a small window and waits for every ACK
  } else if (quick) {
    --s.quick_acks;
  }
  if (t.options.immediate_ack || filled_gap || two_segments || quick) {
    s.ack_now = true;
  } else {
    start_delayed_ack(t);
  }
}

/// As many as make a peer without SACK send again (RFC 5681 section 3.2), whatever the burst.
constexpr std::uint8_t kMaxMoreAcks = 3;

/// In-order data may reach ranges that wait beyond a gap.
std::uint64_t join_ranges(Step& t, const Piece& piece) {
  ProtocolSlice& s = t.s;
  flow::Reassembly& ranges = t.pools.ranges.at(s.ranges).ranges;
  const flow::Range twice = ranges.first_common(piece.begin, piece.end);
  if (twice.begin < twice.end) report_duplicate(s, twice);
  const std::uint64_t next = ranges.advance(piece.end);
  if (ranges.empty()) {
    t.pools.ranges.give(s.ranges);
    s.ranges = 0;
  }
  return next;
}

/// `owed`: an earlier segment of the burst is not acknowledged yet.
void take_in_order(Step& t, const Piece& piece, bool owed) {
  ProtocolSlice& s = t.s;
  const bool gap = s.ranges != 0;
  // What is acknowledged now must not look like duplicates; while a gap closes, and of a burst in
  // quick mode, two ACKs make it rare that the peer hears nothing of it.
  s.more_acks = (gap || quick_mode(s)) && owed ? 1 : 0;
  const std::uint64_t before = s.rcv_nxt;
  s.rcv_nxt = gap ? join_ranges(t, piece) : piece.end;
  t.counters.bytes_in.add(s.rcv_nxt - before);
  publish(t);
  t.out.hint_rx = true;
  decide_ack(t, static_cast<std::uint16_t>(piece.end - piece.begin + piece.skipped), gap);
  judge_rx_ring(t);
}

/// As Linux: where segments overlap, the bytes of the one that starts lower stay.
void cut_head(const flow::Reassembly& ranges, Piece& piece) {
  for (std::uint32_t i = 0; i < ranges.count(); ++i) {
    const flow::Range& r = ranges.at(i);
    if (r.begin >= piece.begin || r.end <= piece.begin || r.end >= piece.end) continue;
    piece.skipped = static_cast<std::uint16_t>(piece.skipped + (r.end - piece.begin));
    piece.begin = r.end;
    return;
  }
}

/// False: nothing of it is wanted.
bool take_out_of_order(Step& t, Piece& piece) {
  ProtocolSlice& s = t.s;
  // RFC 5681 section 4.2: a duplicate ACK for each, at once.
  if (s.ack_now && s.more_acks < kMaxMoreAcks) ++s.more_acks;
  s.ack_now = true;
  if (s.ranges == 0) {
    if (t.pools.ranges.full()) t.counters.ranges_forgotten.add();
    s.ranges = t.pools.ranges.take(&s);
  }
  ReceiveRanges& r = t.pools.ranges.at(s.ranges);
  const flow::Range twice = r.ranges.first_common(piece.begin, piece.end);
  if (twice.begin < twice.end) report_duplicate(s, twice);
  const bool all_twice = twice.begin == piece.begin && twice.end == piece.end;
  cut_head(r.ranges, piece);
  if (!r.ranges.add(piece.begin, piece.end)) {
    t.counters.drops.no_range.add();
    return false;
  }
  note_arrival(r, piece.begin);
  if (!all_twice) t.counters.out_of_order.add();
  return !all_twice;
}

/// RFC 2883: what of a segment lies before the in-order end was received twice.
void report_old_bytes(Step& t, std::int64_t seq, std::int64_t seq_end) {
  const auto end = std::min(seq_end, static_cast<std::int64_t>(t.s.rcv_nxt));
  if (seq < 0 || seq >= end) return;
  acknowledge_quickly(t.s);
  report_duplicate(t.s, {static_cast<std::uint64_t>(seq), static_cast<std::uint64_t>(end)});
}

std::uint64_t highest_received(Step& t) {
  const ReceiveRanges* r = ranges_of(t.pools, t.s);
  return r == nullptr ? 0 : r->ranges.highest();
}

void take_fin(Step& t, std::int64_t fin_at) {
  ProtocolSlice& s = t.s;
  const auto position = static_cast<std::uint64_t>(fin_at);
  if (s.rcv_fin == UINT64_MAX && fin_at >= static_cast<std::int64_t>(s.rcv_nxt) &&
      position <= s.rcv_limit && position >= highest_received(t)) {
    s.rcv_fin = position;
  }
}

/// The FIN counts once everything before it is there.
void consume_fin(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.rcv_nxt != s.rcv_fin) return;
  ++s.rcv_nxt;
  s.ack_now = true;
  publish(t);
  t.out.hint_rx = true;
}

}  // namespace

void take_payload(Step& t, const RxSummary& seg, std::int64_t seq) {
  ProtocolSlice& s = t.s;
  const bool has_fin = (seg.flags & wire::kFin) != 0;
  if (seg.payload_length == 0 && !has_fin) return;

  const bool owed = s.ack_now;
  Piece piece = trim(s, seg, seq);
  if (!piece.empty() && s.orphan) {  // nobody will read it: RFC 9293 section 3.10.4 (CLOSE)
    on_abort(t, 0, true);
    return;
  }
  if (!piece.empty() && s.shut_both && fin_sent(s)) {  // RFC 9293 section 3.10.4; as Linux
    on_abort(t, ECONNRESET, true);
    return;
  }
  if (has_fin) take_fin(t, seq + seg.payload_length);
  if (seq < static_cast<std::int64_t>(s.rcv_nxt)) {
    report_old_bytes(t, seq, seq + seg.payload_length);
  }
  if (piece.empty()) {
    s.ack_now = true;  // repeated, beyond the window, or a FIN behind a gap: RFC 5681 section 4.2
  } else {
    if (s.last_data.ns != 0 && t.now - s.last_data > s.rto) {
      s.quick_acks = kQuickAcks;  // the peer's window may have restarted
    }
    s.last_data = t.now;
    const bool in_order = piece.begin == s.rcv_nxt;
    if (in_order) take_in_order(t, piece, owed);
    if (in_order || take_out_of_order(t, piece)) {
      t.out.copy_pos = piece.begin;
      t.out.copy_offset = static_cast<std::uint16_t>(seg.payload_offset + piece.skipped);
      t.out.copy_length = static_cast<std::uint16_t>(piece.end - piece.begin);
      if (s.ecn != 0) take_ecn_field(t, seg, piece.end - piece.begin);
    }
  }
  consume_fin(t);
  // While bytes are missing, each answer says which are there (RFC 2018 section 4).
  if (s.ranges != 0 && s.sack_on && s.ack_now) s.sack_due = true;
}

void acknowledge_quickly(ProtocolSlice& s) {
  s.quick_acks = kQuickAcks;
  s.pingpong = false;
}

void report_duplicate(ProtocolSlice& s, const flow::Range& twice) {
  s.ack_now = true;
  if (!s.sack_on) return;
  s.sack_due = true;
  flow::Range& known = s.duplicate;
  if (known.begin >= known.end) {
    known = twice;
  } else if (twice.begin <= known.end && known.begin <= twice.end) {
    known = {std::min(known.begin, twice.begin), std::max(known.end, twice.end)};
  }
}

void update_rcv_limit(ProtocolSlice& s) {
  const std::uint64_t limit = std::max(s.rcv_head, s.rcv_switch) + s.rcv_ring_bytes;
  s.rcv_limit = std::max(s.rcv_limit, limit);
}

bool window_update_due(const ProtocolSlice& s) {
  const std::uint64_t open = s.rcv_limit - std::min(s.rcv_limit, s.rcv_nxt);
  const std::uint64_t announced = s.rcv_adv - std::min(s.rcv_adv, s.rcv_nxt);
  const std::uint64_t step = std::min<std::uint64_t>(s.rcv_ring_bytes / 2, 2u * s.rcv_mss);
  return open >= announced + step && open >= 2 * announced;
}

std::uint16_t announce_window(ProtocolSlice& s) {
  const std::uint32_t shift = s.rcv_wscale;
  std::uint64_t edge = std::max(s.rcv_limit, s.rcv_nxt);
  // Receiver's silly-window avoidance (RFC 9293 section 3.8.6.2.2): open in steps worth sending.
  const std::uint64_t step = std::min<std::uint64_t>(s.rcv_ring_bytes / 2, s.rcv_mss);
  if (edge < s.rcv_adv + step) edge = std::max(s.rcv_adv, s.rcv_nxt);
  const std::uint64_t largest = std::uint64_t{0xffff} << shift;
  const std::uint64_t bytes = std::min(edge - s.rcv_nxt, largest);
  std::uint64_t units = bytes >> shift;
  const std::uint64_t promised = s.rcv_adv - std::min(s.rcv_adv, s.rcv_nxt);
  // Round a promise up rather than take it back, but never promise beyond the ring: taking back
  // less than one unit is the lesser evil (RFC 7323 section 2.4).
  const bool fits = s.rcv_nxt + ((units + 1) << shift) <= s.rcv_limit;
  if ((units << shift) < promised && units < 0xffff && fits) ++units;
  s.rcv_adv = std::max(s.rcv_adv, s.rcv_nxt + (units << shift));
  return static_cast<std::uint16_t>(units);
}

void judge_rx_ring(Step& t) {
  ProtocolSlice& s = t.s;
  constexpr Nanos kMinRound = millis(1);
  if (s.rx_ring_asked || s.rcv_fin != UINT64_MAX) return;
  const std::uint64_t free = s.rcv_limit - std::min(s.rcv_limit, s.rcv_nxt);
  const std::uint64_t in_round = s.rcv_nxt - s.rcv_round_pos;
  const bool tight = free < s.rcv_ring_bytes / 2;
  // A peer in slow start sends twice as much in the next round, and has sent it when we see this.
  const bool doubling = in_round >= s.rcv_ring_bytes / 4 && in_round / 3 * 2 >= s.rcv_last_round;
  const bool fast = in_round >= s.rcv_ring_bytes / 2 || doubling;
  if (t.now - s.rcv_round_start > std::max(s.srtt, kMinRound)) {
    s.rcv_round_start = t.now;
    s.rcv_last_round = in_round;
    s.rcv_round_pos = s.rcv_nxt;
  }
  if (!tight && !fast) return;
  s.rx_ring_asked = true;
  t.out.events |= Outcome::kWantRxRing;
}

void switch_rx_ring(Step& t, std::uint32_t bytes) {
  ProtocolSlice& s = t.s;
  s.rx_ring_asked = false;
  const bool old_in_use = s.rcv_switch > s.rcv_head;
  // Behind the peer's FIN nothing comes: a ring is only good to replace one that is empty.
  const bool in_place = fin_received(s) && s.rcv_head == s.rcv_fin && bytes == s.rcv_ring_bytes;
  const bool wanted = s.rcv_fin == UINT64_MAX ? bytes >= s.rcv_ring_bytes : in_place;
  if (s.closed || old_in_use || !wanted) {
    t.out.events |= Outcome::kRxSwitchRefused;
    return;
  }
  s.rcv_switch = std::max(rx_tail(s), highest_received(t));
  s.rcv_ring_bytes = bytes;
  update_rcv_limit(s);
  t.out.rx_switch = s.rcv_switch;
  t.out.events |= Outcome::kRxSwitch;
  t.counters.ring_switches_rx.add();
  s.ack_now = s.ack_now || (window_update_due(s) && s.rcv_fin == UINT64_MAX);
  settle(t);
}

}  // namespace toe::datapath
