// From a finished handshake to a flow of the data path.
#include <algorithm>

#include "control/impl.h"
#include "wire/build.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kInitialWindow = 10;  // segments, RFC 6928
constexpr std::uint16_t kTimestampBytes = 12;
constexpr std::uint16_t kLeastMss = 36;  // payload next to a full set of options
constexpr std::uint8_t kQuickAcks = 16;  // as Linux: at first every segment is acknowledged
constexpr std::uint32_t kInherited =
    shm::kNoDelay | shm::kCork | shm::kKeepAlive | shm::kQuickAck | shm::kUrgentInline;
constexpr auto kRelaxed = std::memory_order_relaxed;

std::string_view name_in(const char (&text)[shm::kCongestionNameBytes]) {
  return {text, strnlen(text, sizeof text)};
}

void store(std::atomic<std::uint8_t>* to, const IpAddr& address) {
  for (std::size_t i = 0; i < address.bytes.size(); ++i) to[i].store(address.bytes[i], kRelaxed);
}

}  // namespace

// A record with line and rings in `segment`; kNil when any of them is not to be had.
std::uint32_t Control::Impl::new_conn(Segment& segment, std::uint32_t uid) {
  User& user = users[uid];
  if (user.flows >= options.max_flows_per_user) {
    counters.user_limits.fetch_add(1, std::memory_order_relaxed);
    return kNil;
  }
  if (free_conns.empty()) return kNil;
  const std::uint32_t id = free_conns.back();
  Conn& c = conns[id];
  c = {};
  c.rx_ring = take_ring(segment, uid, options.initial_ring_bytes);
  if (c.rx_ring.valid()) c.tx_ring = take_ring(segment, uid, options.initial_ring_bytes);
  if (c.tx_ring.valid()) c.line = segment.take_line(LineUse::Kind::kConnection, id);
  if (c.line == 0) {
    free_ring(segment, uid, c.rx_ring);
    free_ring(segment, uid, c.tx_ring);
    return kNil;
  }
  free_conns.pop_back();
  ++user.flows;
  ++live_conns;
  c.state = Conn::State::kOpening;
  c.segment = index_of(segment.id());
  c.uid = uid;
  return id;
}

// The line as the application will first see it; options of the socket are inherited.
void Control::Impl::fill_line(std::uint32_t id, const flow::FlowKey& key,
                              const shm::SocketOptions& o) {
  const Conn& c = conns[id];
  shm::Line& line = segments[c.segment]->line(c.line);
  line.rx_ring[0].store(c.rx_ring.word, kRelaxed);
  line.tx_ring[0].store(c.tx_ring.word, kRelaxed);
  store(line.local_addr, key.local);
  store(line.remote_addr, key.remote);
  line.local_port.store(key.local_port, kRelaxed);
  line.remote_port.store(key.remote_port, kRelaxed);
  line.app_flags.store(o.app_flags & kInherited, kRelaxed);
  line.keep_idle_s.store(o.keep_idle_s, kRelaxed);
  line.keep_interval_s.store(o.keep_interval_s, kRelaxed);
  line.keep_count.store(o.keep_count, kRelaxed);
  line.user_timeout_ms.store(o.user_timeout_ms, kRelaxed);
  line.linger_s.store(o.linger_s, kRelaxed);
  line.rcvbuf.store(o.rcvbuf, kRelaxed);
  line.sndbuf.store(o.sndbuf, kRelaxed);
  line.state.store(static_cast<std::uint32_t>(shm::LineState::kConnecting),
                   std::memory_order_release);
}

// The shift with which the largest receive ring that the options allow can be announced.
std::uint8_t Control::Impl::window_scale(const shm::SocketOptions& o) const {
  const std::uint32_t most =
      std::min<std::uint32_t>(std::max(options.max_rx_ring_bytes, o.rcvbuf), shm::kMaxRingBytes);
  std::uint8_t shift = 0;
  while (shift < wire::kMaxWindowShift && most >> shift > 65535) ++shift;
  return shift;
}

std::uint16_t Control::Impl::send_mss(std::uint32_t id, bool timestamps) const {
  const Conn& c = conns[id];
  const std::uint32_t headers = flows[id].pre.key.remote.is_v4() ? 40 : 60;
  std::uint32_t mss = std::min<std::uint32_t>(
      c.peer_mss, c.port_mtu - std::min<std::uint32_t>(headers, c.port_mtu));
  if (c.max_segment != 0) mss = std::min<std::uint32_t>(mss, c.max_segment);
  mss -= std::min<std::uint32_t>(mss, timestamps ? kTimestampBytes : 0);
  return static_cast<std::uint16_t>(std::max<std::uint32_t>(mss, kLeastMss));
}

wire::HeaderTemplate Control::Impl::make_header(std::uint32_t id, bool timestamps) {
  const Conn& c = conns[id];
  const Route& route = routes.at(c.route).route;
  const flow::FlowKey& key = flows[id].pre.key;
  wire::TcpSegmentHeader h;
  h.eth_src = route.source_mac;
  h.eth_dst = route.next_hop_mac;
  h.vlan = c.vlan;
  h.src = key.local;
  h.dst = key.remote;
  h.src_port = key.local_port;
  h.dst_port = key.remote_port;
  h.options.has_timestamp = timestamps;
  wire::HeaderTemplate made = wire::make_template(h);
  made.mute = c.away || route.kind == Route::Kind::kUnreachable;
  return made;
}

// By socket, by route (kNil = not known), by default.
const Congestion& Control::Impl::congestion_of(const shm::SocketOptions& o, std::uint32_t route) {
  const Congestion* chosen = find_congestion(name_in(o.congestion));
  if (chosen == nullptr && route != kNil) {
    chosen = find_congestion(name_in(routes.at(route).route.congestion));
  }
  return chosen == nullptr ? *default_congestion : *chosen;
}

// REQUIRES: the attempt has its route.
void Control::Impl::fill_flow(std::uint32_t id, const Attempt& a, const shm::SocketOptions& o) {
  Conn& c = conns[id];
  flow::Flow& f = flows[id];
  f = {};
  f.pre.key = a.key;
  f.pre.iss = a.iss;
  f.pre.irs = a.irs;
  c.route = routes.share(a.route);
  c.port_mtu = routes.at(c.route).mtu();
  c.peer_mss = a.peer_mss;
  c.max_segment = static_cast<std::uint16_t>(std::min<std::uint32_t>(o.max_segment, 65535));
  c.vlan = a.vlan;
  c.away = a.away;
  c.algorithm = &congestion_of(o, c.route);
  fill_protocol(id, a, o);
  start_congestion(*c.algorithm, options.cc, flow::sample_of(f.protocol, now, false), c.cc_state,
                   c.cc);
  f.protocol.cc = c.cc;
  f.post.header = make_header(id, a.ts_on);
  f.post.iss = a.iss;
  f.post.irs = a.irs;
  f.post.segment = SegmentId{c.segment};
  f.post.line = c.line;
  f.post.rx_ring[1] = c.rx_ring;
  f.post.tx_ring[1] = c.tx_ring;
  f.post.opened = now;
  shm::Line& line = segments[c.segment]->line(c.line);
  line.mss.store(f.protocol.mss, kRelaxed);
  store(line.local_addr, a.key.local);
  line.local_port.store(a.key.local_port, kRelaxed);
}

void Control::Impl::fill_protocol(std::uint32_t id, const Attempt& a, const shm::SocketOptions& o) {
  Conn& c = conns[id];
  flow::ProtocolSlice& p = flows[id].protocol;
  p.mss = send_mss(id, a.ts_on);
  p.rcv_mss = std::min(a.own_mss, p.mss);
  // RFC 6298 section 5.7 and RFC 5681: a lost SYN or SYN-ACK is a sign of congestion. As Linux,
  // one retransmission is forgiven.
  p.cwnd = p.mss * (a.retries > 1 ? 1u : kInitialWindow);
  p.snd_wscale = a.wscale_on ? a.peer_wscale : std::uint8_t{0};
  p.rcv_wscale = a.wscale_on ? a.own_wscale : std::uint8_t{0};
  c.window_limit = 65535u << p.rcv_wscale;
  const std::uint32_t ring = c.rx_ring.bytes();
  p.rcv_adv = std::min<std::uint32_t>(ring, 65535);
  p.rcv_limit = ring;
  p.rcv_ring_bytes = ring;
  p.snd_ring_bytes = c.tx_ring.bytes();
  p.quick_acks = kQuickAcks;
  p.ts_on = a.ts_on;
  p.sack_on = a.sack_on;
  if (a.ecn_on) p.ecn = flow::kEcnOn;
  if (a.ecn_on) counters.ecn_negotiated.fetch_add(1, kRelaxed);
  p.ts_recent = a.ts_recent;
  p.ts_recent_age = now;
  p.ts_offset = a.ts_offset;
  p.nodelay = (o.app_flags & shm::kNoDelay) != 0;
  p.cork = (o.app_flags & shm::kCork) != 0;
  p.keepalive = (o.app_flags & shm::kKeepAlive) != 0;
  if (o.keep_idle_s != 0) p.keep_idle = seconds(o.keep_idle_s);
  if (o.keep_interval_s != 0) p.keep_interval = seconds(o.keep_interval_s);
  if (o.keep_count != 0) p.keep_count = o.keep_count;
  p.user_timeout = millis(o.user_timeout_ms);
  p.min_rto = options.min_rto;
  p.rto = options.initial_rto;
  p.last_heard = now;
  if (a.retries > 0) return;
  const Nanos rtt = std::max(now - a.sent, micros(1));  // RFC 6298 section 2.2
  p.srtt = rtt;
  p.rttvar = rtt / 2;
  p.min_rtt = rtt;
  p.min_rtt_at = now;
  p.rto = std::max(options.min_rto, rtt + p.rttvar * 4);
}

// REQUIRES: the record is filled, the attempt is gone, the command queue has room.
void Control::Impl::install(std::uint32_t id, const Attempt& a) {
  Conn& c = conns[id];
  flow::ProtocolSlice& p = flows[id].protocol;
  p.max_snd_wnd = p.snd_wnd;
  c.state = Conn::State::kLive;
  c.indexed = true;
  index.insert(a.key, id);
  flow::Command command = make_command(flow::Command::Kind::kInstall);
  command.flow = FlowId{id};
  command.segment = SegmentId{c.segment};
  if (c.listener != kNil) {
    const Listener& l = listeners[c.listener];
    command.line = l.line;
    command.ring = l.ring;
    command.accept_index = c.accept_index;
    command.generation = segments[c.segment]->line_use(c.line).generation;
  }
  shm::Line& line = segments[c.segment]->line(c.line);
  line.state.store(static_cast<std::uint32_t>(shm::LineState::kEstablished),
                   std::memory_order_release);
  commands.push(command);
  on_active(id);
}

}  // namespace toe::control
