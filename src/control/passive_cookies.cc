// Handshakes without a record: what happens to SYNs for which a listener or the table of half-open
// connections has no room.
#include <algorithm>

#include "control/impl.h"

namespace toe::control {
namespace {

/// What a peer sends behind its handshake comes this soon after the SYN-ACK.
constexpr Nanos kFlight = seconds(3);

std::uint32_t clock_ms(Time now) { return static_cast<std::uint32_t>(now.ns / 1'000'000); }

}  // namespace

// A flood of SYNs with forged sources must not fill the route cache: the answer goes back to where
// the SYN came from, as that of an RST. But a peer that is known to be out of reach gets none: what
// it sends behind its handshake would be answered by RSTs, and the route may come back soon.
void Control::Impl::answer_by_cookie(Listener& l, const wire::TcpSegment& s) {
  const flow::FlowKey key{s.dst, s.src, s.dst_port, s.src_port};
  const std::uint32_t route = routes.find({{s.dst, s.src, s.dst_port, 0}, l.uid});
  if (route != kNil && routes.at(route).known &&
      routes.at(route).route.kind != Route::Kind::kDirect) {
    return count(counters.drops.syn_no_route);
  }
  SynFacts syn = facts_of(s);
  const Congestion& algorithm = congestion_of(l.options, kNil);
  syn.ecn = syn.ecn && syn.timestamps && accepts_ecn(algorithm, syn.ect);
  const auto iss = make_cookie(key, syn, now, cookie_secret());
  if (!iss) return count(counters.syn_dropped_backlog);
  wire::TcpSegmentHeader h = wire::reply_header(s);
  h.flags = wire::kSyn | wire::kAck;
  if (syn.ecn) h.flags |= wire::kEce;
  if (syn.ecn && algorithm.needs_ecn) h.ecn = wire::kEct0;
  h.seq = *iss;
  h.ack = s.seq + 1;
  h.window = initial_window();
  h.options.mss = own_mss(options.link_mtu, s.src, l.options.max_segment);
  h.options.has_timestamp = syn.timestamps;
  h.options.tsval = cookie_timestamp(clock_ms(now), syn) + timestamp_offset(key);
  h.options.tsecr = s.options.tsval;
  h.options.has_wscale = syn.timestamps && syn.wscale_on;
  h.options.wscale = window_scale(l.options);
  h.options.sack_permitted = syn.timestamps && syn.sack_on && options.sack;
  l.last_cookie = now;
  count(counters.syn_cookies_sent);
  send(h);
}

// The ACK of a handshake that no record stands for: fills `syn`.
bool Control::Impl::brings_cookie(const wire::TcpSegment& s, SynFacts& syn) {
  if ((s.flags & (wire::kAck | wire::kSyn | wire::kRst)) != wire::kAck) return false;
  const std::uint32_t on = find_listener(s.dst, s.dst_port);
  if (on == kNil || stopping) return false;
  const Time last = listeners[on].last_cookie;
  if (last == Time{} || now - last > kCookiePeriod * 2) return false;
  const flow::FlowKey key{s.dst, s.src, s.dst_port, s.src_port};
  syn.irs = s.seq - 1;
  if (!read_cookie(key, s.ack - 1, now, cookie_secret(), syn) ||
      spent_cookies.contains(key, s.ack - 1, cookie_secret())) {
    count(counters.syn_cookies_failed);
    return false;
  }
  if (s.options.has_timestamp) {
    read_cookie_timestamp(s.options.tsecr - timestamp_offset(key), syn);
  }
  count(counters.syn_cookies_received);
  return true;
}

// Data of a handshake by cookie that comes before the segment with the cookie, because that was
// lost or overtaken. To a reset the peer would lose a connection that its repetition makes.
bool Control::Impl::runs_ahead_of_cookie(const Listener& l, const wire::TcpSegment& s) const {
  if ((s.flags & (wire::kAck | wire::kSyn | wire::kRst)) != wire::kAck) return false;
  if (l.last_cookie == Time{} || now - l.last_cookie > kFlight) return false;
  if (s.seq_length() == 0 || !resembles_cookie(s.ack - 1, now)) return false;
  const flow::FlowKey key{s.dst, s.src, s.dst_port, s.src_port};
  return !spent_cookies.contains(key, s.ack - 1, cookie_secret());
}

// The attempt that a cookie brings back; kNil: no room, the peer will repeat what it sends.
std::uint32_t Control::Impl::recall_attempt(const wire::TcpSegment& s, const SynFacts& syn) {
  const std::uint32_t on = find_listener(s.dst, s.dst_port);
  const std::uint32_t id = open_attempt(on, s);
  if (id == kNil) {
    count(counters.syn_dropped_limit);
    return kNil;
  }
  Attempt& a = attempts[id];
  take_cookie(a, syn, s);
  a.own_mss = own_mss(options.link_mtu, s.src, listeners[on].options.max_segment);
  return id;
}

void Control::Impl::take_cookie(Attempt& a, const SynFacts& syn, const wire::TcpSegment& s) {
  take_syn(a, syn, s);
  a.iss = s.ack - 1;
  a.by_cookie = true;
  a.ecn_asked = false;  // and answered
  a.ecn_on = syn.ecn;
  a.retries = 1;  // the round trip was not timed
}

// False: the segment does not bring a cookie of this attempt.
bool Control::Impl::adopt_cookie(Attempt& a, const wire::TcpSegment& s) {
  SynFacts syn;
  if (a.active || !brings_cookie(s, syn)) return false;
  take_cookie(a, syn, s);
  return true;
}

}  // namespace toe::control
