// Sending: what the windows, Nagle and the timers allow now.
#include <algorithm>
#include <utility>

#include "datapath/protocol_burst.h"
#include "datapath/protocol_detail.h"
#include "wire/segment.h"

namespace toe::datapath {
namespace {

std::uint32_t now_ms(Time now) { return static_cast<std::uint32_t>(now.ns / 1'000'000); }

bool rexmit_pending(const ProtocolSlice& s) { return s.rexmit_end > s.snd_una; }

std::uint64_t flight(const ProtocolSlice& s) { return s.snd_max - s.snd_una - s.discount; }

bool fin_pending(const ProtocolSlice& s) { return s.fin_queued && s.snd_nxt <= s.snd_end; }

/// Congestion window over what is not in flight any more. Without SACK one segment more per early
/// duplicate ACK (RFC 3042); sacked bytes have the same effect by themselves.
std::uint64_t congestion_edge(const ProtocolSlice& s) {
  const std::uint64_t edge = s.snd_una + s.cwnd + s.discount;
  if (s.dup_acks == 0) return edge;
  const bool limited_transmit =
      s.ca_state < flow::CaState::kRecovery && s.dup_acks < kDupAckThreshold && s.discount == 0;
  return edge + (limited_transmit ? std::uint32_t{s.dup_acks} * s.mss : 0);
}

std::uint64_t window_edge(const ProtocolSlice& s) { return s.snd_una + s.snd_wnd; }

/// Bytes that may leave from snd_nxt on as one segment, ignoring Nagle.
std::uint32_t allowed(const ProtocolSlice& s) {
  const std::uint64_t edge = std::min(congestion_edge(s), window_edge(s));
  const std::uint64_t end = std::min(s.snd_end, edge);
  return end <= s.snd_nxt
             ? 0
             : static_cast<std::uint32_t>(std::min<std::uint64_t>(end - s.snd_nxt, s.mss));
}

/// True when a segment shorter than mss may leave now: Nagle (RFC 9293 section 3.7.4) in
/// Minshall's form, cork, and the sender's silly-window avoidance (section 3.8.6.2.1).
bool short_segment_ok(const ProtocolSlice& s, std::uint32_t length) {
  if (s.snd_nxt < s.snd_max) return true;  // sent before: waiting for more would wait for ever
  const bool all = s.snd_nxt + length == s.snd_end;
  if (s.override_sws || (all && s.fin_queued)) return true;
  if (all && s.urgent_sent && urgent_unacknowledged(s)) return true;  // as Linux
  if (!all) return length * 2 >= s.max_snd_wnd;
  if (s.cork) return false;
  return s.nodelay || s.snd_sml <= s.snd_una;
}

/// What may leave from snd_nxt on as the next segment.
struct Sendable {
  std::uint32_t length = 0;  ///< 0 = no data now
  bool fin = false;          ///< it carries the FIN
  bool any() const { return length > 0 || fin; }
};

Sendable sendable(const ProtocolSlice& s) {
  if (s.snd_nxt >= s.snd_end && !s.fin_queued) return {};  // most calls
  std::uint32_t length = allowed(s);
  if (length > 0 && length < s.mss && !short_segment_ok(s, length)) length = 0;
  return {length, fin_pending(s) && s.snd_nxt + length == s.snd_end};
}

void clear_ack_debt(ProtocolSlice& s) {
  s.ack_now = s.more_acks > 0 && !s.closed;
  if (s.more_acks > 0) --s.more_acks;
  s.ack_delayed = false;
  s.sack_due = s.ack_now && s.sack_on && s.ranges != 0;
  s.last_ack_sent = s.rcv_nxt;
}

/// Fills the outcome with one segment at `pos`. Everything that leaves acknowledges.
void emit(Step& t, std::uint64_t pos, std::uint32_t length, std::uint8_t flags) {
  ProtocolSlice& s = t.s;
  t.out.transmit = true;
  t.out.seq = pos;
  t.out.payload_length = static_cast<std::uint16_t>(length);
  t.out.ack = s.rcv_nxt;
  t.out.window = announce_window(s);
  t.out.tsval = now_ms(t.now) + s.ts_offset;
  t.out.tsecr = s.ts_recent;
  t.out.tcp_flags = flags;
  if (s.urgent_sent) mark_urgent(t);
  if (s.ecn != 0) put_ecn(t);
  clear_ack_debt(s);
}

void note_new_data(Step& t, std::uint64_t end, std::uint32_t length) {
  ProtocolSlice& s = t.s;
  // Answering soon after input: delayed ACKs will ride on data (as Linux's interactive mode).
  if (length > 0 && t.now - s.last_data < t.options.delayed_ack) s.pingpong = true;
  if (!s.timed_rtt) {
    s.timed_rtt = true;
    s.rtt_pos = end;
    s.rtt_start = t.now;
  }
  if (s.ca_state != flow::CaState::kOpen) s.loss.prr.sent += length;
  t.counters.bytes_out.add(length);
}

void note_retransmission(Step& t, std::uint64_t pos, std::uint64_t end) {
  ProtocolSlice& s = t.s;
  t.out.retransmission = true;
  t.counters.retransmitted.add();
  s.timed_rtt = s.timed_rtt && s.rtt_pos <= pos;
  if (s.ca_state < flow::CaState::kRecovery) return;  // a tail probe
  note_resent(t, pos, end);
  if (s.ca_state == flow::CaState::kRecovery) s.loss.prr.sent += end - pos;
}

void send_at(Step& t, std::uint64_t pos, std::uint32_t length, bool fin) {
  ProtocolSlice& s = t.s;
  const std::uint64_t end = pos + length + (fin ? 1u : 0u);
  std::uint8_t flags = wire::kAck;
  if (fin) flags |= wire::kFin;
  if (length > 0 && (pos + length == s.snd_end || (pos < s.snd_push && pos + length >= s.snd_push)))
    flags |= wire::kPsh;
  emit(t, pos, length, flags);
  s.override_sws = false;
  s.persist_at = Time::never();
  s.persist_backoff = 0;
  if (s.rto_at == Time::never()) s.rto_at = t.now + s.rto;
  if (end <= s.snd_max) return note_retransmission(t, pos, end);
  note_burst(t);
  note_new_data(t, end, length);
  s.snd_max = end;
  s.last_length = static_cast<std::uint16_t>(end - pos);
  if (length > 0 && length < s.mss) s.snd_sml = end;
  if (fin) s.active_close = s.active_close || !fin_received(s);
  schedule_probe(t);
}

/// RFC 8257 section 3.2: bytes of which some came marked have two ACKs. Each takes in as many as
/// are of one kind, wherever they lie, for only their number counts; the kind of the last segment
/// comes last. False: they are of one kind.
[[gnu::noinline]] bool send_split_ack(Step& t) {
  ProtocolSlice& s = t.s;
  const Unacked u = unacked(s);
  if (!s.cc.exact_marks || !u.mixed() || s.closed) return false;
  const bool marked_first = (s.ecn & flow::kEcnEcho) == 0;
  const std::uint64_t first = marked_first ? u.marked : u.all - u.marked;
  const std::uint8_t more_acks = s.more_acks;
  const std::uint32_t kept = marked_first ? 0 : s.ce_pending;
  const std::uint64_t rcv_nxt = std::exchange(s.rcv_nxt, s.last_ack_sent + first);
  s.ce_pending -= kept;
  emit(t, s.snd_max, 0, wire::kAck);  // as if nothing else had come yet
  s.rcv_nxt = rcv_nxt;
  s.ce_pending += kept;
  s.more_acks = more_acks;
  s.ack_now = true;
  s.sack_due = s.sack_on && s.ranges != 0;
  t.counters.pure_acks_out.add();
  t.counters.split_acks.add();
  return true;
}

/// Also after a rewind from the right edge of what was sent: a sequence number that the peer has
/// passed would make it drop the acknowledgement, and two ends that both resend would never agree.
void send_ack(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.ecn != 0 && send_split_ack(t)) return;
  emit(t, s.snd_max, 0, wire::kAck);
  t.counters.pure_acks_out.add();
  const bool duplicate = s.duplicate.begin < s.duplicate.end;
  if (!s.sack_on || (s.ranges == 0 && !duplicate)) return;
  const ReceiveRanges* ranges = ranges_of(t.pools, s);
  t.out.sack = report_sack(ranges, s.duplicate, s.ts_on ? 3 : 4);
  if (duplicate) t.counters.dsacks_out.add();
  s.duplicate = {};
}

void send_reset(Step& t) {
  t.s.rst_pending = false;
  // Behind everything ever sent: the peer takes an RST only at its own rcv_nxt (RFC 5961), and
  // answers one that lies further by a challenge; but one behind its window it does not answer. A
  // peer that dropped what it had no memory for has shrunk its window (as Linux
  // tcp_acceptable_seq).
  const std::uint64_t edge = std::max(t.s.snd_una, std::min(t.s.snd_max, window_edge(t.s)));
  emit(t, edge, 0, wire::kRst | wire::kAck);
}

/// A segment the peer must answer: one position before snd_una, no payload (as Linux). In front of
/// it, when urgent data waits, one that the peer takes, so that it learns the urgent pointer.
void send_probe(Step& t) {
  if (t.s.urgent_due) {
    t.s.urgent_due = false;
    emit(t, t.s.snd_una, 0, wire::kAck);
    return;
  }
  t.s.probe_pending = false;
  emit(t, t.s.snd_una - 1, 0, wire::kAck);
}

void resend_hole(Step& t) {
  ProtocolSlice& s = t.s;
  const std::uint64_t data_end = std::min({s.rexmit_end, s.snd_end, s.snd_max, s.snd_una + s.mss});
  const std::uint64_t length = data_end > s.snd_una ? data_end - s.snd_una : 0;
  const bool fin = fin_sent(s) && s.snd_una + length == s.snd_end;
  s.rexmit_end = 0;
  if (length > 0 || fin) send_at(t, s.snd_una, static_cast<std::uint32_t>(length), fin);
}

/// A piece of outstanding bytes that one segment carries.
struct Chunk {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// What of [begin, end) fits one segment; the FIN counts as a byte of the stream and rides along.
Chunk first_chunk(const ProtocolSlice& s, std::uint64_t begin, std::uint64_t end) {
  const std::uint64_t data_end = std::min({end, s.snd_end, begin + s.mss});
  return {begin, end > s.snd_end && data_end == s.snd_end ? end : std::max(data_end, begin)};
}

void resend_chunk(Step& t, Scoreboard& board, const Chunk& chunk) {
  ProtocolSlice& s = t.s;
  const std::uint64_t data_end = std::min(chunk.end, s.snd_end);
  const std::uint64_t length = data_end > chunk.begin ? data_end - chunk.begin : 0;
  send_at(t, chunk.begin, static_cast<std::uint32_t>(length), chunk.end > s.snd_end);
  board.resent(chunk.begin, chunk.end, t.now);
  note_board(s, board);
}

/// The lowest lost bytes, if cwnd and the peer's window let them leave. Their segment, or an empty
/// chunk. REQUIRES: a scoreboard.
Chunk lost_chunk(Step& t) {
  const ProtocolSlice& s = t.s;
  std::uint64_t begin = 0, end = 0;
  if (!t.pools.boards.at(s.board).next_lost(begin, end)) return {};
  const std::uint64_t edge = window_edge(s);
  if (begin >= edge) return {};
  const Chunk chunk = first_chunk(s, begin, std::min(end, edge));
  const std::uint64_t data_end = std::min(chunk.end, s.snd_end);  // a FIN needs no room in cwnd
  const std::uint64_t length = data_end - std::min(data_end, begin);
  // PRR counts bytes: small ones delivered may not add up to a segment, and with nothing in flight
  // no acknowledgement would ever add to them.
  return flight(s) == 0 || flight(s) + length <= s.cwnd ? chunk : Chunk{};
}

/// True when a lost segment has left.
bool resend_lost(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.discount == 0) return false;
  const Chunk chunk = lost_chunk(t);
  if (chunk.begin == chunk.end) return false;
  Scoreboard& board = *borrow_board(t);
  if (chunk.begin == s.snd_una) {
    s.rto_at = rto_deadline(s, t.now);
    if (s.probe_at != Time::never()) s.probe_at = std::min(s.probe_at, s.rto_at);
  }
  resend_chunk(t, board, chunk);
  return true;
}

/// RFC 8985 section 7.3: new data if there is some and the peer has room, else the last segment
/// once more.
void send_tail_probe(Step& t) {
  ProtocolSlice& s = t.s;
  s.tail_probe = false;
  if (s.ca_state >= flow::CaState::kRecovery || s.snd_max == s.snd_una || s.discount != 0) return;
  const std::uint64_t end = std::min({s.snd_end, window_edge(s), s.snd_nxt + s.mss});
  flow::ProbeState probe;
  if (end > s.snd_nxt) {
    const bool fin = end == s.snd_end && fin_pending(s);
    send_at(t, s.snd_nxt, static_cast<std::uint32_t>(end - s.snd_nxt), fin);
    s.snd_nxt = end + (fin ? 1u : 0u);
  } else {
    Scoreboard* board = borrow_board(t);
    if (board == nullptr) {  // the timeout has to do, when it would have come
      s.rto_at = t.now + std::max(s.rto - s.srtt * 2, Nanos{0});
      return;
    }
    const std::uint64_t data_end = std::min(s.snd_max, s.snd_end);
    const std::uint64_t first = data_end - std::min<std::uint64_t>(s.mss, data_end);
    resend_chunk(t, *board, {std::max(first, s.snd_una), s.snd_max});
    probe.again = true;
    s.timed_rtt = false;  // Karn: the answer may be the probe's
  }
  probe.end = s.snd_max;
  s.loss.probe = probe;
  s.careful = true;
  s.probe_at = Time::never();
  s.rto_at = t.now + s.rto;
  t.counters.tail_probes.add();
}

void send_new(Step& t) {
  ProtocolSlice& s = t.s;
  const auto [length, fin] = sendable(s);
  if (s.snd_end > s.snd_nxt + length && congestion_edge(s) <= window_edge(s) &&
      congestion_edge(s) < s.snd_nxt + length + s.mss) {
    s.cwnd_limited = true;
  }
  if (length == 0 && !fin) return;
  send_at(t, s.snd_nxt, length, fin);
  s.snd_nxt += length + (fin ? 1u : 0u);
}

}  // namespace

bool something_to_send(Step& t) {
  const ProtocolSlice& s = t.s;
  if (s.rst_pending) return true;
  if (s.closed) return s.ack_now;
  if (s.ack_now || s.probe_pending || s.tail_probe || rexmit_pending(s)) return true;
  if (sendable(s).any()) return true;
  if (s.discount == 0) return false;
  const Chunk lost = lost_chunk(t);
  return lost.begin < lost.end;
}

void start_persist(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.snd_end <= s.snd_nxt || s.snd_max > s.snd_una || s.persist_at != Time::never()) return;
  const Nanos wait = s.cork && s.snd_wnd > 0 ? kCorkLimit : s.rto;
  s.persist_at = t.now + wait;
}

void next_segment(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.rst_pending) {
    send_reset(t);
  } else if (s.closed) {
    if (s.ack_now) send_ack(t);
    return;
  } else if (s.sack_due) {
    send_ack(t);
  } else if (rexmit_pending(s)) {
    resend_hole(t);
  } else if (s.tail_probe) {
    send_tail_probe(t);
  } else if (!resend_lost(t)) {
    send_new(t);
  }
  if (!t.out.transmit && s.probe_pending) send_probe(t);
  if (!t.out.transmit && s.ack_now) send_ack(t);
  if (!s.closed) settle(t);
}

void next_bare_segment(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.rst_pending) {
    send_reset(t);
  } else if (s.probe_pending && !s.closed) {
    send_probe(t);
  } else if (s.ack_now) {
    send_ack(t);
  }
  if (!s.closed) settle(t);
}

}  // namespace toe::datapath
