// Acknowledgements: windows, round-trip time, congestion window, loss detection without SACK.
#include <algorithm>

#include "datapath/protocol_burst.h"
#include "datapath/protocol_detail.h"
#include "datapath/protocol_round.h"
#include "wire/segment.h"
#include "wire/seqnum.h"

namespace toe::datapath {
namespace {

bool outstanding(const ProtocolSlice& s) { return s.snd_max > s.snd_una; }

void update_window(Step& t, const RxSummary& seg, std::int64_t seq, std::uint64_t ack) {
  ProtocolSlice& s = t.s;
  const auto wl1 = static_cast<std::int64_t>(s.snd_wl1);
  // RFC 9293 section 3.10.7.4, fifth check: not from an older segment. One that acknowledges more
  // is newer whatever its sequence number, and the edge is counted from its acknowledgement.
  if (ack <= s.snd_una && (seq < wl1 || (seq == wl1 && ack < s.snd_wl2))) return;
  s.snd_wl1 = seq < 0 ? 0 : static_cast<std::uint64_t>(seq);
  s.snd_wl2 = ack;
  const std::uint32_t window = std::uint32_t{seg.window} << s.snd_wscale;
  if (window == 0 && s.snd_wnd != 0 && s.snd_end > s.snd_nxt) t.counters.zero_windows.add();
  if (window != s.snd_wnd) {
    s.snd_wnd = window;
    s.persist_at = Time::never();
    s.persist_backoff = 0;
    s.override_sws = false;
  }
  s.max_snd_wnd = std::max(s.max_snd_wnd, window);
}

Nanos rto_of(const ProtocolSlice& s) {
  return std::min(s.srtt + std::max(s.rttvar * 4, s.min_rto), kMaxRto);
}

/// RFC 6298 section 2, with Linux's floor on the variance term.
void smooth_rtt(ProtocolSlice& s, Nanos sample) {
  if (s.srtt.ns == 0) {
    s.srtt = sample;
    s.rttvar = sample / 2;
  } else {
    const Nanos delta{sample.ns > s.srtt.ns ? sample.ns - s.srtt.ns : s.srtt.ns - sample.ns};
    s.rttvar = (s.rttvar * 3 + delta) / 4;
    s.srtt = (s.srtt * 7 + sample) / 8;
  }
  s.rto = rto_of(s);
  s.rto_doubled = false;
}

/// As Linux (tcp_min_rtt_wlen): the path may have changed since.
constexpr Nanos kMinRttWindow = seconds(300);

/// The least round trip is that of the path as it was within the window. When the old one has
/// expired the smoothed one bounds what happens to be measured next.
void note_min_rtt(ProtocolSlice& s, Nanos sample, Time now) {
  if (sample <= s.min_rtt) {
    s.min_rtt = sample;
  } else if (now - s.min_rtt_at > kMinRttWindow) {
    s.min_rtt = s.srtt.ns == 0 ? sample : std::min(sample, s.srtt);
  } else {
    return;
  }
  s.min_rtt_at = now;
}

void take_rtt(Step& t, Nanos sample) {
  ProtocolSlice& s = t.s;
  if (sample.ns < 0) return;
  note_round_rtt(t, sample);
  note_min_rtt(s, sample, t.now);
  smooth_rtt(s, sample);
}

/// The echoed timestamp names the segment that was answered. If the first answer was lost, that is
/// a later one than the one being timed: its round trip is shorter, and that is the one that
/// counts.
Nanos most_rtt(const Step& t, const RxSummary& seg) {
  if (!t.s.ts_on || !seg.has_timestamp || seg.tsecr == 0) return {INT64_MAX};
  const auto now_ms = static_cast<std::uint32_t>(t.now.ns / 1'000'000) + t.s.ts_offset;
  const auto echoed_ms_ago = static_cast<std::int32_t>(now_ms - seg.tsecr);
  return echoed_ms_ago < 0 ? Nanos{INT64_MAX} : millis(std::int64_t{echoed_ms_ago} + 1);
}

void sample_rtt(Step& t, const RxSummary& seg, std::uint64_t ack) {
  ProtocolSlice& s = t.s;
  if (s.timed_rtt && ack >= s.rtt_pos) {
    s.timed_rtt = false;
    const Nanos sample = t.now - s.rtt_start;
    if (sample <= s.srtt * 2) return take_rtt(t, sample);
    const Nanos most = most_rtt(t, seg);
    return sample <= most ? take_rtt(t, sample) : take_coarse_rtt(s, most);
  }
  watch_round_rtt(t, seg);
  // RFC 6298 section 5: a timeout stays doubled until a round trip is measured. Of what was sent
  // again only the echoed timestamp tells which copy is acknowledged.
  if (!s.rto_doubled || !s.ts_on || !seg.has_timestamp || seg.tsecr == 0) return;
  const auto now_ms = static_cast<std::uint32_t>(t.now.ns / 1'000'000) + s.ts_offset;
  const Nanos rtt = millis(static_cast<std::int32_t>(now_ms - seg.tsecr));
  // An echo from before the timeout: the first answer was lost, and what was waited for the second
  // is no round trip.
  if (t.now - rtt + millis(1) > s.first_rto) take_coarse_rtt(s, rtt);
}

void enter_recovery(Step& t) {
  ProtocolSlice& s = t.s;
  if (reduce_for_loss(s)) t.out.events |= Outcome::kLoss;
  t.counters.fast_retransmits.add();
  s.recover = s.snd_max;
  s.ca_state = flow::CaState::kRecovery;
  s.cwnd = s.cc.ssthresh + kDupAckThreshold * s.mss;
  s.rexmit_end = s.snd_una + s.mss;
  s.timed_rtt = false;  // Karn: the timed segment may be the lost one
}

/// RFC 6582 section 3.2 steps 4 and 5.
void recovery_ack(Step& t, std::uint64_t acked) {
  ProtocolSlice& s = t.s;
  if (s.snd_una >= s.recover) {
    const auto flight = static_cast<std::uint32_t>(s.snd_max - s.snd_una);
    s.cwnd = std::min(s.cc.ssthresh, std::max<std::uint32_t>(flight, s.mss) + s.mss);
    s.cwnd = std::max(s.cwnd, kMinCwndSegments * s.mss);
    s.ca_state = flow::CaState::kOpen;
    s.cwnd_acked = 0;
    return;
  }
  const auto deflate = static_cast<std::uint32_t>(std::min<std::uint64_t>(acked, s.cwnd));
  s.cwnd = std::max<std::uint32_t>(s.cwnd - deflate + (acked >= s.mss ? s.mss : 0u), s.mss);
  s.rexmit_end = s.snd_una + s.mss;  // the next hole
}

void restart_rto(Step& t) {
  ProtocolSlice& s = t.s;
  s.rto_at = outstanding(s) ? t.now + s.rto : Time::never();
  if (s.reorder_wait) s.probe_at = std::min(s.probe_at, s.rto_at);
}

void end_round(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.snd_una < s.round_end) return;
  // A window that falls says nothing of the next round, but DCTCP counts marks in each.
  const bool steady = s.ca_state == flow::CaState::kOpen || s.ca_state == flow::CaState::kLoss ||
                      (s.ca_state == flow::CaState::kCwr && s.cc.exact_marks);
  if (steady && (s.cwnd_limited || s.cc.every_round)) report_round(t);
  s.round_end = s.snd_max;
  s.cwnd_limited = false;
}

// Inlined where no loss is about; loss recovery calls them.
[[gnu::always_inline]] inline void take_in(Step& t, const RxSummary& seg, std::uint64_t ack) {
  ProtocolSlice& s = t.s;
  sample_rtt(t, seg, ack);
  s.snd_una = ack;
  s.snd_nxt = std::max(s.snd_nxt, ack);  // data sent before a rewind has arrived after all
  s.fin_acked = s.fin_queued && ack > s.snd_end;
  s.dup_acks = 0;
  if (s.backoff == 0) return;
  s.backoff = 0;  // the timeout itself stays until a round trip is measured: RFC 6298 section 5
  t.out.events |= Outcome::kProgress;
}

[[gnu::always_inline]] inline void wind_up(Step& t) {
  ProtocolSlice& s = t.s;
  restart_rto(t);
  schedule_probe(t);
  end_round(t);
  const std::uint64_t used = s.snd_end - std::min(s.snd_una, s.snd_end);
  publish(t);
  t.out.hint_tx = used * 3 <= std::uint64_t{s.snd_ring_bytes} * 2;
  if (s.fin_acked && !fin_received(s) && s.orphan) t.out.events |= Outcome::kHalfClosed;
}

/// The way of a connection without trouble.
void take_plain_advance(Step& t, const RxSummary& seg, std::uint64_t ack) {
  ProtocolSlice& s = t.s;
  const std::uint64_t acked = ack - s.snd_una;
  take_in(t, seg, ack);
  if (s.ca_state != flow::CaState::kOpen) {
    undo_by_time(t, seg);
    reno_advance(t, acked);
  } else {
    grow_cwnd(s, acked);
  }
  if (s.board != 0 && !outstanding(s)) return_board(t);
  wind_up(t);
}

/// RFC 9293 section 3.10.7.4 and RFC 5961 section 5: [snd_una - max window, snd_max]; as Linux,
/// nothing from before the first byte, which was never sent.
bool ack_in_range(Step& t, std::int64_t ack) {
  const ProtocolSlice& s = t.s;
  const auto window = static_cast<std::int64_t>(std::max<std::uint32_t>(s.max_snd_wnd, 1u));
  const auto oldest = std::max<std::int64_t>(static_cast<std::int64_t>(s.snd_una) - window, 0);
  if (ack <= static_cast<std::int64_t>(s.snd_max) && ack >= oldest) return true;
  t.counters.drops.bad_ack.add();
  challenge(t);
  return false;
}

}  // namespace

std::uint32_t share_of_cwnd(const ProtocolSlice& s, std::uint16_t beta) {
  const auto share = static_cast<std::uint32_t>(std::uint64_t{s.cwnd} * beta / 1024);
  return std::max(share, kMinCwndSegments * s.mss);
}

bool reduce_for_loss(ProtocolSlice& s) {
  const bool marked = s.ca_state == flow::CaState::kCwr;
  owe_cwr(s);
  if (marked && !s.cc.exact_marks) return false;
  prepare_undo(s);
  s.loss.undo.possible = !marked;
  s.cc.ssthresh = share_of_cwnd(s, s.cc.loss_beta);
  return true;
}

void take_coarse_rtt(ProtocolSlice& s, Nanos sample) {
  if (sample.ns >= 0) smooth_rtt(s, std::max(sample, micros(1)));
}

/// The one fixed rule (RFC 5681 section 3.1, RFC 3465, RFC 9406 section 4.2).
void grow_cwnd(ProtocolSlice& s, std::uint64_t acked) {
  if (!s.cwnd_limited || s.ca_state == flow::CaState::kRecovery) return;
  // A cap below the window is reached as bytes leave the network: never less than is in flight.
  const auto fallen = static_cast<std::uint32_t>(s.cwnd - std::min<std::uint64_t>(acked, s.cwnd));
  if (s.cwnd < s.cc.ssthresh) {
    const std::uint64_t most = std::uint64_t{s.cc.slow_start_limit} * s.mss;
    const auto step = static_cast<std::uint32_t>(
        std::min(acked, most) / std::max<std::uint8_t>(s.cc.slow_start_divisor, 1));
    s.cwnd = std::min(s.cwnd + step, std::max(s.cc.ssthresh, s.cwnd));
  } else {
    const std::uint32_t per_segment =
        std::max<std::uint32_t>(s.cc.cwnd_cnt == 0 ? s.cwnd : s.cc.cwnd_cnt, s.mss);
    s.cwnd_acked += static_cast<std::uint32_t>(std::min<std::uint64_t>(acked, s.cwnd));
    while (s.cwnd_acked >= per_segment) {
      s.cwnd_acked -= per_segment;
      s.cwnd += s.mss;
    }
  }
  s.cwnd = std::min(s.cwnd, std::max(s.cc.cwnd_cap, fallen));
}

/// RFC 5681 section 2: an ACK that says nothing new while data is outstanding.
void reno_duplicate(Step& t) {
  ProtocolSlice& s = t.s;
  t.counters.duplicate_acks.add();
  if (s.dup_acks < UINT8_MAX) ++s.dup_acks;
  if (s.ca_state == flow::CaState::kRecovery) {
    s.cwnd += s.mss;  // RFC 6582 section 3.2 step 3: one more segment has left
  } else if (s.dup_acks == kDupAckThreshold && s.ca_state < flow::CaState::kRecovery &&
             s.snd_una >= s.recover) {  // RFC 6582 step 1: not for losses already repaired
    enter_recovery(t);
  }
}

void reno_advance(Step& t, std::uint64_t acked) {
  ProtocolSlice& s = t.s;
  if (s.ca_state == flow::CaState::kRecovery) {
    recovery_ack(t, acked);
  } else if (s.ca_state == flow::CaState::kCwr) {
    cwr_advance(t, acked);
  } else {
    if (s.ca_state == flow::CaState::kLoss && s.snd_una >= s.recover) {
      s.ca_state = flow::CaState::kOpen;
    }
    grow_cwnd(s, acked);
  }
}

void begin_advance(Step& t, const RxSummary& seg, std::uint64_t ack) { take_in(t, seg, ack); }
void finish_advance(Step& t) { wind_up(t); }

bool take_ack(Step& t, const RxSummary& seg, std::int64_t seq) {
  ProtocolSlice& s = t.s;
  const std::int64_t position = wire::unwrap({seg.ack}, {0}, s.snd_una);
  if (!ack_in_range(t, position)) return false;
  const bool sacks = s.sack_on && seg.sack_count != 0;
  if (position < static_cast<std::int64_t>(s.snd_una)) {  // old; its data and blocks may be new
    if (sacks) take_careful_ack(t, {seg, s.snd_una, false});
    return true;
  }
  const auto ack = static_cast<std::uint64_t>(position);
  if (s.ecn != 0 && (seg.flags & (wire::kEce | wire::kCwr)) != 0) take_ecn_flags(t, seg, ack);
  const std::uint32_t window_before = s.snd_wnd;
  update_window(t, seg, seq, ack);
  if (ack > s.snd_una) s.soft_error = 0;
  const bool duplicate = ack == s.snd_una && outstanding(s) && seg.payload_length == 0 &&
                         (seg.flags & wire::kFin) == 0 && s.snd_wnd == window_before;
  if (sacks || s.careful || (duplicate && s.sack_on)) {
    take_careful_ack(t, {seg, ack, duplicate});
  } else if (ack > s.snd_una) {
    take_plain_advance(t, seg, ack);
  } else if (duplicate) {
    reno_duplicate(t);
  }
  return true;
}

}  // namespace toe::datapath
