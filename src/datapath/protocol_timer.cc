// Timers: retransmission (RFC 6298), persist and keep-alive (RFC 9293 sections 3.8.6.1, 3.8.4).
#include <algorithm>
#include <cerrno>

#include "datapath/protocol_detail.h"

namespace toe::datapath {
namespace {

bool gave_up(const Step& t) {
  const ProtocolSlice& s = t.s;
  if (s.user_timeout.ns > 0) return t.now - s.first_rto >= s.user_timeout;
  // A peer that keeps its window closed is alive as long as it answers (RFC 9293 section 3.8.6.1).
  if (s.snd_wnd == 0 && !s.orphan) return t.now - s.last_heard > kMaxRto;
  if (s.backoff == 0) return false;
  const Nanos since = t.now - s.first_rto;
  return s.orphan ? since >= kGiveUpOrphan || s.rto >= kMaxRto : since >= kGiveUp;
}

/// As Linux: what a router said of the silence explains it better.
void time_out(Step& t) {
  const std::uint32_t error = t.s.soft_error != 0 ? t.s.soft_error : ETIMEDOUT;
  end(t, flow::Event::Close::kTimedOut, error);
}

/// RFC 5681 section 3.1 and RFC 6298 section 5: everything outstanding is sent again in slow start.
void on_rto(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.snd_max == s.snd_una) {
    s.rto_at = Time::never();
    return;
  }
  if (s.backoff == 0) s.first_rto = t.now;
  if (gave_up(t)) {
    time_out(t);
    return;
  }
  // As Linux: a timeout within an episode of loss is no second reason to reduce.
  if (s.ca_state < flow::CaState::kRecovery && reduce_for_loss(s)) s.loss.undo.timeout = true;
  if (s.backoff < UINT8_MAX) ++s.backoff;
  if (!lose_on_timeout(t)) {
    s.cwnd = s.mss;
    s.rexmit_end = 0;
    s.snd_nxt = s.snd_una;
  }
  s.ca_state = flow::CaState::kLoss;
  s.careful = s.sack_on;
  s.recover = s.snd_max;
  s.cwnd_acked = 0;
  s.dup_acks = 0;
  s.timed_rtt = false;
  s.cwnd_limited = true;
  s.loss.probe = {};
  s.tail_probe = s.reorder_wait = false;
  s.probe_at = Time::never();
  s.rto = std::min(s.rto * 2, kMaxRto);
  s.rto_doubled = true;
  s.rto_at = rto_deadline(s, t.now);
  // A closed window stops the resending: then one segment is forced as the probe.
  s.probe_pending = s.snd_wnd == 0;
  t.out.events |= Outcome::kTimeout;
}

/// The earlier of the two deadlines that RACK-TLP puts in front of the timeout.
void on_probe(Step& t) {
  ProtocolSlice& s = t.s;
  s.probe_at = Time::never();
  if (s.reorder_wait) {
    on_reorder_timeout(t);
  } else if (s.snd_max > s.snd_una && s.snd_wnd != 0) {
    s.tail_probe = true;
    s.rto_at = std::max(s.rto_at, t.now + s.rto);  // the probe goes first, once
  }
}

void on_persist(Step& t) {
  ProtocolSlice& s = t.s;
  s.persist_at = Time::never();
  if (s.snd_end <= s.snd_nxt) return;
  if (s.snd_wnd > 0) {  // the window is too small for a whole segment, or the bytes were corked
    s.override_sws = true;
    return;
  }
  if (s.persist_backoff == 0) s.first_rto = t.now;  // the window has just closed
  // As Linux: TCP_USER_TIMEOUT ends also a peer that answers, but takes nothing (RFC 5482).
  const bool too_long = s.user_timeout.ns > 0 && t.now - s.first_rto >= s.user_timeout;
  // Nobody waits for an orphan: an answering peer must not keep it for ever, either.
  const bool forgotten = s.orphan && t.now - s.first_rto >= kProbeOrphan;
  if (s.probes >= kMaxProbes || forgotten || (s.persist_backoff != 0 && too_long)) {
    time_out(t);
    return;
  }
  ++s.probes;
  s.probe_pending = true;
  announce_in_probe(s);
  t.counters.window_probes.add();
  if (s.persist_backoff < 10) ++s.persist_backoff;
  s.persist_at = t.now + std::min(Nanos{s.rto.ns << s.persist_backoff}, kMaxRto);
  if (s.user_timeout.ns > 0) s.persist_at = std::min(s.persist_at, s.first_rto + s.user_timeout);
}

void on_keepalive(Step& t) {
  ProtocolSlice& s = t.s;
  const Time due = s.last_heard + s.keep_idle;
  if (s.probes == 0 && due > t.now) {  // something was heard since
    s.keepalive_at = due;
    return;
  }
  if (s.snd_max > s.snd_una || s.snd_end > s.snd_nxt) {  // retransmission or persist decides
    s.keepalive_at = t.now + s.keep_interval;
    return;
  }
  const bool silent = s.user_timeout.ns > 0  // as Linux: it replaces the count
                          ? s.probes > 0 && t.now - s.last_heard >= s.user_timeout
                          : s.probes >= s.keep_count;
  if (silent) {
    s.rst_pending = true;  // as Linux: a peer that is back, or behind a broken path, shall know
    time_out(t);
    return;
  }
  ++s.probes;
  s.probe_pending = true;
  t.counters.keepalive_probes.add();
  s.keepalive_at = t.now + s.keep_interval;
}

}  // namespace

void on_timer(Step& t) {
  ProtocolSlice& s = t.s;
  s.armed_until = Time::never();
  if (s.closed) return;
  if (s.probe_at <= t.now) on_probe(t);
  if (!s.closed && s.rto_at <= t.now) on_rto(t);
  if (!s.closed && s.persist_at <= t.now) on_persist(t);
  if (!s.closed && s.keepalive_at <= t.now) on_keepalive(t);
  if (s.closed) {
    t.out.schedule = s.rst_pending;
    return;
  }
  settle(t);
}

void on_delayed_ack(Step& t) {
  ProtocolSlice& s = t.s;
  if (s.closed || !s.ack_delayed) return;
  s.ack_now = true;
  s.ack_delayed = false;
  // Nothing was answered in time: acknowledge sooner for a while, as Linux leaves its interactive
  // mode.
  s.pingpong = false;
  t.counters.delayed_acks.add();
  t.out.schedule = true;
}

}  // namespace toe::datapath
