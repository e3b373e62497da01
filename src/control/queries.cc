// Questions of applications about sockets, and options that act at once.
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "control/impl.h"
#include "control/tcp_states.h"

namespace toe::control {
namespace {

constexpr int kTcpMaxSegment = 2;   // TCP_MAXSEG
constexpr int kTcpCongestion = 13;  // TCP_CONGESTION

std::uint32_t to_us(Nanos t) {
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(t.ns / 1000, 0, UINT32_MAX));
}

}  // namespace

// Makes the client a holder of the line behind the cookie. False: there is none for it.
bool Control::Impl::show_cookie(ClientId id, std::uint64_t cookie, shm::Shown::Entry& entry) {
  const std::uint32_t conn = find_cookie(cookie, clients.at(index_of(id)).uid);
  const auto listener = listener_by_cookie.find(cookie);
  if (conn != kNil) {
    const Conn& c = conns[conn];
    if (!show_segment(id, c.segment) || !add_holder(conn, id)) return false;
    entry = {shm::ShownKind::kConnection, c.segment, c.line, 0};
  } else if (listener != listener_by_cookie.end()) {
    Listener& l = listeners[listener->second];
    const auto member = std::find_if(l.members.begin(), l.members.end(),
                                     [&](const Member& m) { return m.cookie == cookie; });
    std::vector<ClientId>& holders = member->holders;
    const bool held = std::find(holders.begin(), holders.end(), id) != holders.end();
    if (!held && holders.size() == kMaxHolders) return false;
    if (!show_segment(id, l.segment)) return false;
    if (!held) holders.push_back(id);
    remember_listener(id, listener->second);
    entry = {shm::ShownKind::kListener, l.segment, l.line, 0};
  } else {
    return false;
  }
  entry.generation = segments[entry.segment_id]->line_use(entry.line).generation;
  return true;
}

// Which lines belong to these sockets? The asker becomes a holder of each.
void Control::Impl::on_show(const Request& r) {
  if (live_client(r.client) == nullptr) return;
  shm::Shown m{};
  m.count = std::min(r.count, kMaxCookies);
  for (std::uint32_t i = 0; i < m.count; ++i) {
    show_cookie(r.client, r.cookies[i], m.entries[i]);
  }
  reply(r.client, r.tag, shm::MessageType::kShown, m);
}

// The state of RFC 9293 as the kernel numbers it.
std::uint8_t Control::Impl::kernel_state(std::uint32_t id) const {
  const Conn& c = conns[id];
  if (c.state == Conn::State::kOpening) return kTcpSynSent;
  if (c.state != Conn::State::kLive) return kTcpClose;
  const flow::ProtocolSlice& p = flows[id].protocol;
  const bool fin_in = p.rcv_nxt > p.rcv_fin;
  const bool fin_out = p.fin_queued && p.snd_max > p.snd_end;
  if (!fin_out) return fin_in ? kTcpCloseWait : kTcpEstablished;
  if (fin_in) return p.active_close ? kTcpClosing : kTcpLastAck;
  return p.fin_acked ? kTcpFinWait2 : kTcpFinWait1;
}

void Control::Impl::fill_info(std::uint32_t id, shm::InfoReply& info) const {
  const Conn& c = conns[id];
  info.state = kernel_state(id);
  if (c.state != Conn::State::kLive && c.state != Conn::State::kRemoving) return;
  const flow::ProtocolSlice& p = flows[id].protocol;
  const flow::PostSlice& post = flows[id].post;
  const std::uint32_t mss = std::max<std::uint32_t>(p.mss, 1);
  constexpr std::uint32_t kKernelCaState[] = {0, 2, 3, 4};  // Open, CWR, Recovery, Loss
  info.ca_state = kKernelCaState[static_cast<std::size_t>(p.ca_state)];
  info.retransmits = p.backoff;
  info.backoff = p.backoff;
  // TCPI_OPT_TIMESTAMPS, _SACK, _WSCALE, _ECN, _ECN_SEEN
  info.options = (p.ts_on ? 1u : 0u) | (p.sack_on ? 2u : 0u) | (c.window_limit > 65535 ? 4u : 0u) |
                 ((p.ecn & flow::kEcnOn) != 0 ? 8u : 0u) |
                 ((p.ecn & flow::kEcnSeen) != 0 ? 16u : 0u);
  info.snd_wscale = p.snd_wscale;
  info.rcv_wscale = p.rcv_wscale;
  info.rto_us = to_us(p.rto);
  info.ato_us = 40'000;
  info.snd_mss = p.mss;
  info.rcv_mss = p.rcv_mss;
  info.unacked = static_cast<std::uint32_t>((p.snd_max - std::min(p.snd_una, p.snd_max)) / mss);
  info.lost = (p.loss.lost + mss - 1) / mss;
  info.retrans = (p.loss.resent + mss - 1) / mss;
  info.pmtu = c.port_mtu;
  info.rtt_us = to_us(p.srtt);
  info.rttvar_us = to_us(p.rttvar);
  info.snd_ssthresh = p.cc.ssthresh == UINT32_MAX ? INT32_MAX : p.cc.ssthresh / mss;
  info.snd_cwnd = p.cwnd / mss;
  info.rcv_space = p.rcv_ring_bytes;
  info.total_retrans = post.retrans;
  info.bytes_acked = post.bytes_acked;
  info.bytes_received = post.bytes_received;
  info.bytes_sent = post.bytes_sent;
  info.bytes_retrans = post.bytes_retrans;
  info.segs_out = post.segs_out;
  info.segs_in = post.segs_in;
  info.data_segs_in = post.data_segs_in;
  info.data_segs_out = post.data_segs_out;
  info.min_rtt_us = to_us(p.min_rtt);
  info.pacing_rate = p.cc.pacing_bytes_per_s;
  const std::string_view algorithm = c.algorithm->name;
  std::memcpy(info.congestion, algorithm.data(),
              std::min(algorithm.size(), sizeof info.congestion - 1));
  info.notsent_bytes = static_cast<std::uint32_t>(p.snd_end - std::min(p.snd_max, p.snd_end));
}

void Control::Impl::on_info(const Request& r) {
  const Client* client = live_client(r.client);
  if (client == nullptr) return;
  const Segment* segment = segment_of(index_of(r.segment));
  const LineUse use = segment == nullptr ? LineUse{} : segment->line_use(r.line);
  if (use.kind == LineUse::Kind::kFree || !may_use(*client, index_of(r.segment))) {
    return refuse(r.client, r.tag, shm::KernelReason::kInternal, EINVAL);
  }
  shm::InfoReply info{};
  if (use.kind == LineUse::Kind::kConnection) {
    fill_info(use.record, info);
  } else {
    info.state = kTcpListen;
    info.unacked = listeners[use.record].queued;  // as Linux: length and limit of the accept queue
    info.lost = listeners[use.record].backlog;
  }
  reply(r.client, r.tag, shm::MessageType::kInfoReply, info);
}

void Control::Impl::on_option(const Request& r) {
  const Client* client = live_client(r.client);
  if (client == nullptr) return;
  const Segment* segment = segment_of(index_of(r.segment));
  const LineUse use = segment == nullptr ? LineUse{} : segment->line_use(r.line);
  shm::OptionReply m{};
  if (use.kind == LineUse::Kind::kFree || !may_use(*client, index_of(r.segment)) || busy()) {
    m.error = busy() ? EBUSY : EINVAL;
  } else if (r.level != IPPROTO_TCP) {
    m.error = ENOPROTOOPT;
  } else {
    m.error = set_option(r, use);
  }
  reply(r.client, r.tag, shm::MessageType::kOptionReply, m);
}

// errno, 0 = done. On a listener the option counts for connections to come.
int Control::Impl::set_option(const Request& r, const LineUse& use) {
  const bool listener = use.kind == LineUse::Kind::kListener;
  if (r.name == kTcpCongestion) {
    char name[16] = {};
    std::memcpy(name, r.value, std::min<std::size_t>(r.value_length, sizeof name - 1));
    const Congestion* algorithm = find_congestion(name);
    if (algorithm == nullptr) return ENOENT;
    if (listener) {
      std::memcpy(listeners[use.record].options.congestion, name, sizeof name);
      return 0;
    }
    Conn& c = conns[use.record];
    if (c.state != Conn::State::kLive || c.algorithm == algorithm) return 0;
    c.algorithm = algorithm;
    start_congestion(*algorithm, options.cc,
                     flow::sample_of(flows[use.record].protocol, now, false), c.cc_state, c.cc);
    push_congestion(use.record);
    return 0;
  }
  if (r.name != kTcpMaxSegment) return ENOPROTOOPT;
  std::uint32_t value = 0;
  if (r.value_length < sizeof value) return EINVAL;
  std::memcpy(&value, r.value, sizeof value);
  // As Linux: TCP_MIN_MSS and MAX_TCP_WINDOW.
  if (value != 0 && (value < 88 || value > 32767)) return EINVAL;
  if (listener) {
    listeners[use.record].options.max_segment = value;
  }
  return 0;  // of a connection it bounds what the handshakes agree on, and that is over
}

void Control::Impl::push_mss(std::uint32_t id) {
  flow::Command command = make_command(flow::Command::Kind::kSetMss);
  command.flow = FlowId{id};
  command.mss = send_mss(id, flows[id].protocol.ts_on);
  commands.push(command);
  segments[conns[id].segment]
      ->line(conns[id].line)
      .mss.store(command.mss, std::memory_order_relaxed);
}

}  // namespace toe::control
