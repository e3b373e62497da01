// Frames that control sends: SYN, SYN-ACK, RST, and ACKs outside established connections.
#include <algorithm>

#include "control/impl.h"
#include "wire/build.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kMinMtu = 576;

}  // namespace

// A frame that cannot be had is a lost frame: every caller is repeated by a timer or by the peer.
void Control::Impl::send(const wire::TcpSegmentHeader& h) {
  Frame frame = links.frames.acquire();
  if (!frame.valid()) return count(counters.drops.control_no_frame);
  std::uint8_t* chunk = links.frames.chunk(frame.chunk);
  const std::size_t length =
      wire::build_segment(h, {}, {chunk + frame.offset, links.frames.chunk_bytes() - frame.offset});
  if (length == 0) {
    links.frames.release(frame);
    return;
  }
  frame.length = static_cast<std::uint16_t>(length);
  world.transmit(frame);
}

std::uint32_t Control::Impl::timestamp(std::uint32_t offset) const {
  return static_cast<std::uint32_t>(now.ns / 1'000'000) + offset;
}

// RFC 6528: a clock of 4 us plus a keyed hash of the 4-tuple.
std::uint32_t Control::Impl::initial_sequence(const flow::FlowKey& key) const {
  return static_cast<std::uint32_t>(now.ns / 4000) +
         static_cast<std::uint32_t>(flow::hash_of(key, secrets.isn));
}

// The same for every connection of a 4-tuple, so that its timestamps go on growing (RFC 6191).
std::uint32_t Control::Impl::timestamp_offset(const flow::FlowKey& key) const {
  const flow::HashKey secret{secrets.isn.k1, secrets.isn.k0 ^ secrets.random};
  return static_cast<std::uint32_t>(flow::hash_of(key, secret) >> 16);
}

bool Control::Impl::fill_addresses(const Attempt& a, wire::TcpSegmentHeader& h) {
  const RouteEntry& e = routes.at(a.route);
  if (!e.known || e.route.kind != Route::Kind::kDirect || a.away) return false;
  h.eth_src = e.route.source_mac;
  h.eth_dst = e.route.next_hop_mac;
  h.vlan = a.vlan;
  h.src = a.key.local;
  h.dst = a.key.remote;
  h.src_port = a.key.local_port;
  h.dst_port = a.key.remote_port;
  return true;
}

// The MSS to announce; `limit` is TCP_MAXSEG, 0 = none.
std::uint16_t Control::Impl::own_mss(std::uint32_t mtu, const IpAddr& remote,
                                     std::uint32_t limit) const {
  const std::uint32_t mss = std::max(mtu, kMinMtu) - (remote.is_v4() ? 40 : 60);
  return static_cast<std::uint16_t>(limit != 0 ? std::min(mss, limit) : mss);
}

// As Linux: the route may say what to announce, TCP_MAXSEG only lowers it.
std::uint16_t Control::Impl::announced_mss(const Attempt& a) {
  const std::uint32_t limit =
      a.listener != kNil ? listeners[a.listener].options.max_segment : a.options.max_segment;
  const Route& route = routes.at(a.route).route;
  if (route.advmss == 0) return own_mss(route.mtu, a.key.remote, limit);
  return limit != 0 ? static_cast<std::uint16_t>(std::min<std::uint32_t>(route.advmss, limit))
                    : route.advmss;
}

// The window of a SYN-ACK, never scaled (RFC 7323 section 2.2).
std::uint16_t Control::Impl::initial_window() const {
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(options.initial_ring_bytes, 65535));
}

// The options of a SYN go out always; those of a SYN-ACK as far as the peer sent them.
void Control::Impl::send_syn(Attempt& a) {
  wire::TcpSegmentHeader h;
  if (!fill_addresses(a, h)) return;
  const bool answer = a.state == Attempt::State::kSynReceived;
  a.own_mss = announced_mss(a);
  // As Linux (tcp_ecn_fallback): something on the way may drop SYNs that ask for ECN.
  const bool asks = !answer && a.ecn_asked && a.retries == 0;
  if (!answer && a.ecn_asked && a.retries == 1) {
    counters.ecn_fallbacks.fetch_add(1, std::memory_order_relaxed);
  }
  h.flags = answer ? wire::kSyn | wire::kAck : wire::kSyn;
  if (asks) h.flags |= wire::kEce | wire::kCwr;
  if (answer && a.ecn_on) h.flags |= wire::kEce;
  if (a.ect && (asks || a.ecn_on)) h.ecn = wire::kEct0;
  h.seq = a.iss;
  h.ack = answer ? a.irs + 1 : 0;
  h.window = initial_window();
  h.options.mss = a.own_mss;
  h.options.sack_permitted = answer ? a.sack_on : options.sack;
  h.options.has_timestamp = !answer || a.ts_on;
  h.options.tsval = timestamp(a.ts_offset);
  h.options.tsecr = answer ? a.ts_recent : 0;
  h.options.has_wscale = !answer || a.wscale_on;
  h.options.wscale = a.own_wscale;
  if (a.retries == 0) a.sent = now;
  send(h);
}

void Control::Impl::send_attempt_ack(const Attempt& a, std::uint32_t seq, std::uint32_t ack) {
  wire::TcpSegmentHeader h;
  if (!fill_addresses(a, h)) return;
  h.flags = wire::kAck;
  if (a.ect && a.ecn_on) h.ecn = wire::kEct0;
  h.seq = seq;
  h.ack = ack;
  const std::uint32_t shift = a.wscale_on ? a.own_wscale : 0;
  h.window = static_cast<std::uint16_t>(
      std::min<std::uint32_t>(options.initial_ring_bytes >> shift, 65535));
  h.options.has_timestamp = a.ts_on;
  h.options.tsval = timestamp(a.ts_offset);
  h.options.tsecr = a.ts_recent;
  send(h);
}

// A half-open connection ends here: its peer learns at once.
void Control::Impl::send_attempt_reset(const Attempt& a) {
  wire::TcpSegmentHeader h;
  if (!fill_addresses(a, h)) return;
  h.flags = wire::kRst | wire::kAck;
  if (a.ect && a.ecn_on) h.ecn = wire::kEct0;
  h.seq = a.iss + 1;
  h.ack = a.irs + 1;
  counters.out_resets.fetch_add(1, std::memory_order_relaxed);
  send(h);
}

// RFC 9293 section 3.10.7.1: the answer to a segment that belongs to nothing here.
void Control::Impl::send_reset(const wire::TcpSegment& cause) {
  if ((cause.flags & wire::kRst) != 0) return;
  wire::TcpSegmentHeader h = wire::reply_header(cause);
  if ((cause.flags & wire::kAck) != 0) {
    h.flags = wire::kRst;
    h.seq = cause.ack;
  } else {
    h.flags = wire::kRst | wire::kAck;
    h.ack = cause.seq + cause.seq_length();
  }
  counters.out_resets.fetch_add(1, std::memory_order_relaxed);
  send(h);
}

}  // namespace toe::control
