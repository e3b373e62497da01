// Connections from outside: SYN, SYN-ACK, the ACK that completes the handshake.
#include <algorithm>

#include "control/impl.h"
#include "wire/seqnum.h"

namespace toe::control {
namespace {

using wire::SeqNum;

constexpr Nanos kPatience = seconds(3);            ///< a SYN waits this long for route or steering
constexpr Nanos kChallengeInterval = millis(500);  // as Linux tcp_invalid_ratelimit

/// What costs its sender nothing is answered twice a second at most, whatever it is.
bool may_answer(Attempt& a, Time now) {
  if (now - a.challenged < kChallengeInterval) return false;
  a.challenged = now;
  return true;
}

}  // namespace

// `s` carries the peer's newest timestamp and window.
void Control::Impl::take_syn(Attempt& a, const SynFacts& syn, const wire::TcpSegment& s) {
  a.irs = syn.irs;
  a.peer_mss = syn.mss;
  a.ts_on = syn.timestamps;
  a.ts_recent = s.options.tsval;
  a.wscale_on = syn.wscale_on;
  a.peer_wscale = syn.wscale;
  a.sack_on = syn.sack_on && options.sack;
  a.peer_window = s.window;
}

// As Linux: a SYN that is itself ECT comes from a DCTCP peer, which wants exact marks.
bool Control::Impl::accepts_ecn(const Congestion& algorithm, bool ect_syn) const {
  return algorithm.needs_ecn || (options.ecn != Ecn::kOff && !ect_syn);
}

// `least_iss`: 0, or where the sequence numbers of an old connection end (RFC 6191).
void Control::Impl::on_syn(const wire::TcpSegment& s, std::uint32_t least_iss) {
  const std::uint32_t on = find_listener(s.dst, s.dst_port);
  if (on == kNil || stopping) {
    if (stopping) return count(counters.drops.syn_stopping);
    count(counters.syn_no_listener);
    // A 4-tuple in TIME-WAIT may be all that is left to us of a port: then another may listen at
    // the kernel, which gets the SYN when it is sent again.
    if (least_iss != 0) return;
    return send_reset(s);
  }
  Listener& l = listeners[on];
  count(counters.syn_received);
  if (l.queued > l.backlog) return count(counters.syn_dropped_backlog);
  if (busy()) return count(counters.syn_dropped_limit);
  const bool always = options.syn_cookies == SynCookies::kAlways && l.marked;
  const bool full = l.embryos.count + l.queued > l.backlog;
  const std::uint32_t id = always || full ? kNil : open_attempt(on, s);
  if (id == kNil) {
    if (options.syn_cookies != SynCookies::kNever && l.marked) return answer_by_cookie(l, s);
    return count(full ? counters.syn_dropped_backlog : counters.syn_dropped_limit);
  }
  Attempt& a = attempts[id];
  const SynFacts syn = facts_of(s);
  take_syn(a, syn, s);
  a.ecn_asked = syn.ecn;
  a.ect_syn = syn.ect;
  a.iss = initial_sequence(a.key);
  if (least_iss != 0 && SeqNum{a.iss} < SeqNum{least_iss}) a.iss = least_iss;
  go_on_passive(id);
}

// A record of the handshake that `s` begins or ends, in state kWaitMark; what it negotiates is for
// the caller to fill in. kNil: a limit is reached.
std::uint32_t Control::Impl::open_attempt(std::uint32_t on, const wire::TcpSegment& s) {
  const bool full = busy() || free_attempts.size() <= kSparedAttempts;
  const std::uint32_t id = full ? kNil : new_attempt();
  if (id == kNil) return kNil;
  Attempt& a = attempts[id];
  a.key = {s.dst, s.src, s.dst_port, s.src_port};
  Listener& l = listeners[on];
  const flow::FlowKey service{s.dst, s.src, s.dst_port, 0};
  a.route = routes.acquire({service, l.uid}, kSparedAttempts);
  if (a.route == kNil) {
    free_attempts.push_back(id);
    return kNil;
  }
  a.own_wscale = window_scale(l.options);
  a.vlan = s.vlan;
  a.listener = on;
  a.ts_offset = timestamp_offset(a.key);
  a.state = Attempt::State::kWaitMark;
  push_back(l.embryos, id, [this](std::uint32_t i) -> Link& { return attempts[i].siblings; });
  port_uses.add(a.key.local, a.key.local_port);
  index_attempt(id);
  timers.arm(static_cast<std::uint32_t>(conns.size()) + id, now + kPatience);
  return id;
}

// Answers the SYN unless something still has to be waited for.
void Control::Impl::go_on_passive(std::uint32_t id) {
  if (advance_passive(id)) send_syn(attempts[id]);
}

// True: the attempt is in SYN-RECEIVED. False: it waits for steering or a route, or was dropped.
bool Control::Impl::advance_passive(std::uint32_t id) {
  Attempt& a = attempts[id];
  stop_waiting(id);
  a.state = Attempt::State::kWaitMark;
  if (!listeners[a.listener].marked) return false;
  RouteEntry& e = routes.at(a.route);
  if (!e.known) {
    a.state = Attempt::State::kWaitRoute;
    push_back(e.waiters, id, [this](std::uint32_t i) -> Link& { return attempts[i].waiting; });
    return false;
  }
  if (e.route.kind != Route::Kind::kDirect) {
    // Where there is no room, it waits for its end like one whose sender is not found: dropped at
    // once, each SYN of a flood would be a question to the kernel.
    if (e.route.full()) return false;
    count(counters.drops.syn_no_route);
    drop_attempt(id);
    return false;
  }
  a.state = Attempt::State::kSynReceived;
  const Congestion& algorithm = congestion_of(listeners[a.listener].options, a.route);
  a.ect = algorithm.needs_ecn;
  if (a.ecn_asked) a.ecn_on = accepts_ecn(algorithm, a.ect_syn);
  timers.arm(static_cast<std::uint32_t>(conns.size()) + id, now + options.initial_rto);
  return true;
}

// Retransmission of SYN and SYN-ACK with exponential backoff, and the end of all waiting.
void Control::Impl::on_attempt_timer(std::uint32_t id) {
  Attempt& a = attempts[id];
  const bool sent = a.state == Attempt::State::kSynSent || a.state == Attempt::State::kSynReceived;
  const std::uint32_t limit = a.active ? options.syn_retries : options.synack_retries;
  const Nanos user = a.active ? millis(a.options.user_timeout_ms) : Nanos{};
  const bool over = user.ns > 0 && now - a.started >= user;
  if (!sent || a.retries >= limit || over) {
    if (a.active) return time_out_connect(id);
    count(sent ? counters.attempt_fails : counters.drops.syn_no_route);
    return drop_attempt(id);
  }
  ++a.retries;
  count(counters.timeouts);
  send_syn(a);
  timers.arm(static_cast<std::uint32_t>(conns.size()) + id,
             now + options.initial_rto * (std::int64_t{1} << a.retries));
}

// RFC 9293 section 3.10.7.4 for SYN-RECEIVED. True: the frame was passed on.
bool Control::Impl::on_syn_received(std::uint32_t id, const wire::TcpSegment& s, Frame frame) {
  Attempt& a = attempts[id];
  if (!a.active && listeners[a.listener].closing) {
    drop_attempt(id);
    send_reset(s);
    return false;
  }
  const std::uint32_t rcv_nxt = a.irs + 1;
  const std::uint32_t window = options.initial_ring_bytes;
  if ((s.flags & (wire::kSyn | wire::kAck | wire::kRst)) == wire::kSyn && s.seq == a.irs) {
    // Our SYN-ACK was lost. RFC 7323 section 4.3: the echo is that of the newer SYN, or the peer
    // measures a round trip from its first.
    const bool newer = SeqNum{a.ts_recent} < SeqNum{s.options.tsval};
    if (a.ts_on && s.options.has_timestamp && newer) a.ts_recent = s.options.tsval;
    if (may_answer(a, now)) {
      send_syn(a);
    } else {
      count(counters.drops.handshake_repeated);
    }
    return false;
  }
  if (a.active && s.seq == a.irs &&
      (s.flags & (wire::kSyn | wire::kAck)) == (wire::kSyn | wire::kAck) && s.ack == a.iss + 1) {
    a.ecn_on = a.ecn_on && grants_ecn(s);
    return on_handshake_ack(id, s, frame);  // simultaneous open: the peer's SYN-ACK
  }
  const bool old = a.ts_on && s.options.has_timestamp &&
                   SeqNum{s.options.tsval} < SeqNum{a.ts_recent};  // RFC 7323 section 5.3
  const bool inside = s.seq == rcv_nxt || SeqNum{s.seq}.in_window(SeqNum{rcv_nxt}, window);
  if ((s.flags & wire::kRst) != 0) {
    if (s.seq == rcv_nxt) {
      if (a.active) {
        fail_connect(id, ECONNREFUSED, shm::KernelReason::kNone);
      } else {
        count(counters.attempt_fails);
        drop_attempt(id);
      }
      return false;
    }
    count(counters.drops.handshake_bad_rst);
    // RFC 5961 section 3.2
    if (inside && may_answer(a, now)) send_attempt_ack(a, a.iss + 1, rcv_nxt);
    return false;
  }
  if (!inside || old || (s.flags & wire::kSyn) != 0) {
    count(counters.drops.handshake_outside);
    // An empty one may answer our own answer: a peer in TIME-WAIT for an earlier connection of the
    // same ports, woken by a late SYN. At a bounded rate, or the two would never stop.
    const bool repeats = s.seq_length() != 0 && (s.flags & wire::kSyn) == 0;
    if (repeats || may_answer(a, now)) send_attempt_ack(a, a.iss + 1, rcv_nxt);
    return false;
  }
  if ((s.flags & wire::kAck) == 0) {
    count(counters.drops.handshake_no_flag);
    return false;
  }
  // A SYN may have been answered twice, by a cookie and, with room again, by this record.
  if (s.ack != a.iss + 1 && !adopt_cookie(a, s)) {
    count(counters.drops.handshake_bad_ack);
    send_reset(s);
    return false;
  }
  return on_handshake_ack(id, s, frame);
}

bool Control::Impl::on_handshake_ack(std::uint32_t id, const wire::TcpSegment& s, Frame frame) {
  if (busy()) {  // the SYN-ACK is repeated, and its answer
    count(counters.drops.handshake_busy);
    return false;
  }
  Attempt& a = attempts[id];
  if (a.ts_on && s.options.has_timestamp && s.seq == a.irs + 1) a.ts_recent = s.options.tsval;
  a.peer_window = s.window;
  if (a.active) {
    install_active(id, s);
  } else if (!install_passive(id, s)) {
    return false;
  }
  if (s.payload_length == 0 && (s.flags & wire::kFin) == 0) return false;
  world.reinject(frame);
  return true;
}

// The connection gets its line and rings in the listener's segment: bytes have a home before
// accept. Without room for them the ACK counts as lost.
bool Control::Impl::install_passive(std::uint32_t id, const wire::TcpSegment& s) {
  const Attempt a = attempts[id];
  Listener& l = listeners[a.listener];
  if (l.queued > l.backlog) {  // as Linux: the peer will ask again
    count(counters.syn_dropped_backlog);
    return false;
  }
  Segment& segment = *segments[l.segment];
  const std::uint32_t conn = new_conn(segment, l.uid);
  if (conn == kNil) {
    count(counters.syn_dropped_limit);
    return false;
  }
  Conn& c = conns[conn];
  c.passive = true;
  c.queued = true;
  c.listener = a.listener;
  c.accept_index = l.announced++;
  ++l.queued;
  fill_line(conn, a.key, l.options);
  fill_flow(conn, a, l.options);
  flows[conn].protocol.snd_wnd = (s.flags & wire::kSyn) != 0
                                     ? s.window
                                     : std::uint32_t{s.window} << flows[conn].protocol.snd_wscale;
  port_uses.add(a.key.local, a.key.local_port);
  if (a.by_cookie) spent_cookies.add(a.key, a.iss, cookie_secret());
  drop_attempt(id);
  install(conn, a);
  count(counters.passive_opens);
  return true;
}

}  // namespace toe::control
