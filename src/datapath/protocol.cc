#include "datapath/protocol.h"

#include <algorithm>
#include <cerrno>

#include "datapath/protocol_detail.h"
#include "shm/segment_format.h"
#include "wire/segment.h"
#include "wire/seqnum.h"

namespace toe::datapath {
namespace {

/// As Linux: one tick late is no old duplicate. Where a network reorders, what left before a
/// retransmission may come behind it.
constexpr std::int32_t kPawsSlack = 1;
/// Timestamps are taken as old only while the last good one is younger (RFC 7323 section 5.5).
constexpr Nanos kPawsIdleLimit = seconds(24 * 24 * 3600);

std::int64_t position(std::uint32_t low, std::uint64_t reference) {
  return wire::unwrap({low}, {0}, reference);
}

/// PAWS (RFC 7323 section 5.3): false when the segment is an old duplicate.
bool paws_ok(const Step& t, const RxSummary& seg) {
  const ProtocolSlice& s = t.s;
  if (!s.ts_on || !seg.has_timestamp || (seg.flags & wire::kRst) != 0) return true;
  const auto age = static_cast<std::int32_t>(seg.tsval - s.ts_recent);
  return age >= -kPawsSlack || t.now - s.ts_recent_age > kPawsIdleLimit;
}

/// Acceptability test of RFC 9293 section 3.10.7.4, in the relaxed form that also lets a segment
/// pass whose end lies in the window (its old head is trimmed later).
bool in_window(const ProtocolSlice& s, std::int64_t seq, std::int64_t end) {
  const auto nxt = static_cast<std::int64_t>(s.rcv_nxt);
  const auto edge = static_cast<std::int64_t>(std::max(s.rcv_adv, s.rcv_nxt));
  return end >= std::min(nxt, static_cast<std::int64_t>(s.last_ack_sent)) && seq <= edge;
}

void take_timestamp(Step& t, const RxSummary& seg, std::int64_t seq) {
  ProtocolSlice& s = t.s;
  if (!s.ts_on || !seg.has_timestamp) return;
  // RFC 7323 section 4.3: only from the segment that the last ACK asked for.
  if (seq > static_cast<std::int64_t>(s.last_ack_sent)) return;
  const auto age = static_cast<std::int32_t>(seg.tsval - s.ts_recent);
  if (age < 0 && age >= -kPawsSlack) return;  // paws_ok() let it pass, it is not the recent one
  s.ts_recent = seg.tsval;
  s.ts_recent_age = t.now;
}

/// As Linux: behind the highest bytes that SACK reports, which the real peer has sent as well.
bool follows_sacked(const Step& t, std::int64_t seq) {
  if (!t.s.sack_on || t.s.ranges == 0) return false;
  return seq == static_cast<std::int64_t>(t.pools.ranges.at(t.s.ranges).ranges.highest());
}

/// RFC 5961 section 3: exactly at the left edge resets; elsewhere in the window is challenged.
void take_reset(Step& t, std::int64_t seq) {
  ProtocolSlice& s = t.s;
  if (seq != static_cast<std::int64_t>(s.rcv_nxt) && !follows_sacked(t, seq)) {
    t.counters.drops.bad_rst.add();
    challenge(t);
    return;
  }
  // Linux: a reset after the peer's FIN reads as a broken pipe.
  end(t, flow::Event::Close::kReset, fin_received(s) ? EPIPE : ECONNRESET);
}

/// Answers a segment outside the window, or with an old timestamp (RFC 7323 section 5.3 R1). One
/// with data or FIN is a retransmission whose ACK was lost: its sender waits for an answer, so it
/// always gets one. Empty ones could be ACKs that answer our ACKs.
void refuse(Step& t, const RxSummary& seg, std::int64_t seq) {
  if ((seg.flags & wire::kRst) != 0) return;
  const bool repeats = seg.payload_length != 0 || (seg.flags & wire::kFin) != 0;
  if (repeats && (seg.flags & wire::kSyn) == 0) {
    t.s.ack_now = true;
    const auto end = std::min(seq + seg.payload_length, static_cast<std::int64_t>(t.s.rcv_nxt));
    if (seq >= 0 && seq < end) {
      acknowledge_quickly(t.s);
      report_duplicate(t.s, {static_cast<std::uint64_t>(seq), static_cast<std::uint64_t>(end)});
    }
  } else {
    challenge(t);
  }
}

/// False: the segment goes no further.
bool checks_pass(Step& t, const RxSummary& seg, std::int64_t seq, std::int64_t seq_end) {
  if (!paws_ok(t, seg)) {
    t.counters.drops.paws.add();
    refuse(t, seg, seq);
    return false;
  }
  if (!in_window(t.s, seq, seq_end)) {
    t.counters.drops.out_of_window.add();
    refuse(t, seg, seq);
    return false;
  }
  if ((seg.flags & wire::kRst) != 0) {
    take_reset(t, seq);
    return false;
  }
  if ((seg.flags & wire::kSyn) != 0) {  // RFC 5961 section 4
    t.counters.drops.bad_syn.add();
    challenge(t);
    return false;
  }
  if ((seg.flags & wire::kAck) == 0) {
    t.counters.drops.no_ack_flag.add();
    return false;
  }
  return true;
}

}  // namespace

void on_segment(Step& t, const RxSummary& seg) {
  ProtocolSlice& s = t.s;
  if (s.closed) {
    t.counters.drops.closed_flow.add();
    return;
  }
  ranges_of(t.pools, s);  // so that they are there, or s.ranges is 0
  const std::int64_t seq = position(seg.seq, s.rcv_nxt);
  const std::int64_t seq_end = seq + seg.payload_length + ((seg.flags & wire::kFin) != 0 ? 1 : 0);
  if (checks_pass(t, seg, seq, seq_end) && take_ack(t, seg, seq)) {
    take_timestamp(t, seg, seq);
    s.last_heard = t.now;
    s.probes = 0;
    if ((seg.flags & wire::kUrg) != 0) take_urgent_pointer(t, seg, seq);
    take_payload(t, seg, seq);
    if (s.urgent_wait) take_urgent_byte(t);
    end_if_done(t);
  }
  settle(t);
}

void on_start(Step& t) {
  t.s.last_heard = t.now;
  if (t.s.keepalive) t.s.keepalive_at = t.now + t.s.keep_idle;
  publish(t);
  t.out.hint_rx = t.out.hint_tx = true;
  settle(t);
}

void on_orphan(Step& t, bool reset) {
  ProtocolSlice& s = t.s;
  if (s.closed) return;
  s.orphan = true;
  if (reset || s.rcv_head != rx_tail(s)) {  // unread input is lost: RFC 2525 section 2.17
    on_abort(t, ECONNRESET, true);
    return;
  }
  s.fin_queued = true;
  s.cork = false;
  settle(t);
  if (s.fin_acked) t.out.events |= Outcome::kHalfClosed;
}

void on_abort(Step& t, std::uint32_t error, bool reset) {
  if (t.s.closed) return;
  t.s.rst_pending = reset;
  end(t, flow::Event::Close::kAborted, error);
  t.out.schedule = reset;
}

void challenge(Step& t) {
  ProtocolSlice& s = t.s;
  if (t.now - s.oow_ack_at < kOowAckInterval) return;
  s.oow_ack_at = t.now;
  s.ack_now = true;
  t.counters.challenge_acks.add();
}

void end(Step& t, flow::Event::Close how, std::uint32_t error) {
  ProtocolSlice& s = t.s;
  s.closed = true;
  give_back(t.pools, s);
  s.rto_at = s.probe_at = s.persist_at = s.keepalive_at = Time::never();
  s.ack_now = s.ack_now && how == flow::Event::Close::kTimeWait;
  publish(t);
  t.out.hint_rx = t.out.hint_tx = true;
  t.out.line_closed = true;
  t.out.error = error;
  if (how != flow::Event::Close::kTimeWait && how != flow::Event::Close::kDone) {
    t.out.line_flags |= shm::kReset;
  }
  t.out.close = how;
  t.out.events |= Outcome::kClosed;
}

void end_if_done(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.closed || !s.fin_acked || !fin_received(s)) return;
  end(t, s.active_close ? flow::Event::Close::kTimeWait : flow::Event::Close::kDone, 0);
}

void give_back(RecoveryPools& pools, ProtocolSlice& s) {
  if (ranges_of(pools, s) != nullptr) pools.ranges.give(s.ranges);
  if (s.board != 0) pools.boards.give(s.board);
  s.ranges = s.board = 0;
  s.discount = 0;
  s.duplicate = {};
}

void publish(Step& t) {
  const ProtocolSlice& s = t.s;
  t.out.publish = true;
  t.out.rx_tail = rx_tail(s);
  t.out.tx_una = std::min(s.snd_una, s.snd_end);
  t.out.line_flags |= (fin_received(s) ? shm::kRxFin : 0u) | (s.fin_acked ? shm::kTxFinAcked : 0u) |
                      (s.urgent_seen ? shm::kRxUrgent : 0u);
}

void settle(Step& t) {
  ProtocolSlice& s = t.s;
  const bool work = something_to_send(t);
  if (!work && !s.closed) start_persist(t);
  const Time deadline =
      std::min(std::min(s.rto_at, s.probe_at), std::min(s.persist_at, s.keepalive_at));
  if (deadline < s.armed_until) {
    s.armed_until = deadline;
    t.out.arm_at = deadline;
    t.out.events |= Outcome::kArm;
  }
  t.out.schedule = t.out.schedule || work;
}

}  // namespace toe::datapath
