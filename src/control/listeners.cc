// Listeners: one per (local address, port), shared by the sockets of a SO_REUSEPORT group.
#include <algorithm>
#include <bit>
#include <utility>

#include "control/impl.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kAcceptEntryBytes = sizeof(shm::AcceptEntry);

}  // namespace

// The listener that a SYN to (local, port) belongs to: the exact address before a wildcard of the
// same family before a dual-stack "::".
std::uint32_t Control::Impl::find_listener(const IpAddr& local, std::uint16_t port) const {
  std::uint32_t best = kNil;
  int rank = 0;
  for (std::uint32_t i = listeners_on_port[port]; i != kNil; i = listeners[i].next_on_port) {
    const Listener& l = listeners[i];
    int fits = 0;
    if (l.local == local) {
      fits = 3;
    } else if (l.local.is_any() && l.local.is_v4() == local.is_v4()) {
      fits = 2;
    } else if (l.local.is_any() && !l.local.is_v4() && !l.v6only) {
      fits = 1;
    }
    if (fits <= rank) continue;
    best = i;
    rank = fits;
  }
  return best;
}

std::uint32_t Control::Impl::exact_listener(const Request& r) const {
  for (std::uint32_t i = listeners_on_port[r.local_port]; i != kNil;
       i = listeners[i].next_on_port) {
    const Listener& l = listeners[i];
    if (l.local == r.local && (!l.local.is_any() || l.v6only == r.v6only)) return i;
  }
  return kNil;
}

bool Control::Impl::holds_listener(const Listener& l, ClientId client) const {
  return std::any_of(l.members.begin(), l.members.end(), [&](const Member& m) {
    return std::find(m.holders.begin(), m.holders.end(), client) != m.holders.end();
  });
}

void Control::Impl::on_listen(const Request& r) {
  const Client* client = live_client(r.client);
  if (client == nullptr) return;
  const std::string_view name(r.options.congestion,
                              strnlen(r.options.congestion, sizeof r.options.congestion));
  if (!name.empty() && find_congestion(name) == nullptr) {
    return refuse(r.client, r.tag, shm::KernelReason::kCongestionControl, 0);
  }
  const auto known = listener_by_cookie.find(r.cookie);
  std::uint32_t id = known == listener_by_cookie.end() ? exact_listener(r) : known->second;
  if (id != kNil) {
    if (!join_listener(id, r)) return;
  } else {
    Segment* segment = stopping || busy() ? nullptr : segment_with_room(r.client);
    id = segment == nullptr ? kNil : new_listener(r, *segment);
    if (id == kNil) return refuse(r.client, r.tag, shm::KernelReason::kLimit, 0);
  }
  remember_listener(r.client, id);
  const Listener& l = listeners[id];
  const auto member = std::find_if(l.members.begin(), l.members.end(),
                                   [&](const Member& m) { return m.cookie == r.cookie; });
  if (member->marked) return answer_listen(r, {r.client, r.tag});
  listen_asks.emplace(r.cookie, ListenAsk{r.client, r.tag});
}

// So that its death need not look at all listeners.
void Control::Impl::remember_listener(ClientId client, std::uint32_t id) {
  std::vector<std::uint32_t>& held = clients.at(index_of(client)).listeners;
  if (std::find(held.begin(), held.end(), id) == held.end()) held.push_back(id);
}

// The program is told once its port is steered. It is told also when it has gone: whoever passes
// the answer on waits for it.
void Control::Impl::answer_listen(const Request& r, const ListenAsk& ask) {
  const auto known = listener_by_cookie.find(r.cookie);
  if (known == listener_by_cookie.end() || r.error != 0) {
    const bool gone = known == listener_by_cookie.end() && r.error == 0;
    return refuse(ask.client, ask.tag,
                  gone ? shm::KernelReason::kInternal : shm::KernelReason::kSteering, 0);
  }
  const Listener& l = listeners[known->second];
  shm::LineMessage m{};
  m.segment_id = l.segment;
  m.line = l.line;
  m.generation = segments[l.segment]->line_use(l.line).generation;
  reply(ask.client, ask.tag, shm::MessageType::kListening, m);
}

// The socket is known (listen again, or in another process), or a member of the same group.
// False: refused.
bool Control::Impl::join_listener(std::uint32_t id, const Request& r) {
  Listener& l = listeners[id];
  const auto no = [&](shm::KernelReason reason) {
    refuse(r.client, r.tag, reason, 0);
    return false;
  };
  if (l.uid != clients.at(index_of(r.client)).uid) return no(shm::KernelReason::kOtherUser);
  if (!show_segment(r.client, l.segment)) return no(shm::KernelReason::kLimit);
  auto member = std::find_if(l.members.begin(), l.members.end(),
                             [&](const Member& m) { return m.cookie == r.cookie; });
  if (member == l.members.end()) {
    if (!l.reuseport || !r.reuseport) return no(shm::KernelReason::kPortTaken);
    if (l.members.size() == kMaxMembers) return no(shm::KernelReason::kLimit);
    l.members.push_back({r.cookie, false, {}});
    member = l.members.end() - 1;
    listener_by_cookie.emplace(r.cookie, id);
    world.mark_listener(r.cookie);
  } else if (l.local != r.local || l.port != r.local_port) {
    return no(shm::KernelReason::kInternal);
  }
  if (std::find(member->holders.begin(), member->holders.end(), r.client) ==
      member->holders.end()) {
    if (member->holders.size() == kMaxHolders) return no(shm::KernelReason::kLimit);
    member->holders.push_back(r.client);
  }
  l.backlog = std::min(r.backlog, l.entries - 1);
  if (l.members.size() == 1) l.options = r.options;
  return true;
}

// kNil when a limit is reached.
std::uint32_t Control::Impl::new_listener(const Request& r, Segment& segment) {
  if (free_listeners.empty()) return kNil;
  const std::uint32_t uid = segment.uid();
  if (users[uid].listeners >= options.max_listeners_per_user) {
    counters.user_limits.fetch_add(1, std::memory_order_relaxed);
    return kNil;
  }
  const std::uint32_t id = free_listeners.back();
  const std::uint32_t backlog = std::min(r.backlog, kMaxBacklog);
  // Linux lets backlog + 1 connections in; the ring must have an entry for each.
  const std::uint32_t bytes =
      std::max(shm::kMinRingBytes, std::bit_ceil((backlog + 1) * kAcceptEntryBytes));
  shm::RingRef ring = take_ring(segment, uid, bytes);
  const std::uint32_t line = ring.valid() ? segment.take_line(LineUse::Kind::kListener, id) : 0;
  if (line == 0) {
    free_ring(segment, uid, ring);
    return kNil;
  }
  free_listeners.pop_back();
  ++users[uid].listeners;
  Listener& l = listeners[id];
  l = {};
  l.used = true;
  l.v6only = r.v6only;
  l.v4_only = r.v4_socket;
  l.reuseport = r.reuseport;
  l.port = r.local_port;
  l.local = r.local;
  l.uid = uid;
  l.segment = index_of(segment.id());
  l.line = line;
  l.backlog = backlog;
  l.entries = bytes / kAcceptEntryBytes;
  l.ring = ring;
  l.options = r.options;
  l.members.push_back({r.cookie, false, {r.client}});
  l.next_on_port = listeners_on_port[l.port];
  listeners_on_port[l.port] = id;
  listener_by_cookie.emplace(r.cookie, id);
  port_uses.open_listener(l.local, l.port, l.v6only);
  shm::Line& words = segment.line(line);
  words.rx_ring[0].store(ring.word, std::memory_order_relaxed);
  words.local_port.store(l.port, std::memory_order_relaxed);
  for (std::size_t i = 0; i < 16; ++i) {
    words.local_addr[i].store(l.local.bytes[i], std::memory_order_relaxed);
  }
  words.state.store(static_cast<std::uint32_t>(shm::LineState::kListening),
                    std::memory_order_release);
  world.mark_listener(r.cookie);
  return id;
}

// Steering is complete or has failed: the programs that asked for it learn which.
void Control::Impl::on_marked(const Request& r) {
  const auto [first, last] = listen_asks.equal_range(r.cookie);
  for (auto ask = first; ask != last; ++ask) answer_listen(r, ask->second);
  listen_asks.erase(first, last);
  const auto known = listener_by_cookie.find(r.cookie);
  if (known == listener_by_cookie.end()) return;
  if (r.error != 0) return on_mark_failed(r);
  Listener& l = listeners[known->second];
  for (Member& m : l.members) m.marked |= m.cookie == r.cookie;
  if (std::exchange(l.marked, true) || l.embryos.empty()) return;
  Job job;
  job.kind = Job::Kind::kAnswer;
  job.listener = known->second;
  urgent_jobs.push_back(job);
}

// The socket stays with the kernel; without other sockets of its group the listener goes.
void Control::Impl::on_mark_failed(const Request& r) {
  counters.listen_not_steered.fetch_add(1, std::memory_order_relaxed);
  const std::uint32_t id = listener_by_cookie.at(r.cookie);
  Listener& l = listeners[id];
  listener_by_cookie.erase(r.cookie);
  std::erase_if(l.members, [&](const Member& m) { return m.cookie == r.cookie; });
  if (l.members.empty()) close_listener(id);
}

// The client gives the listener up. With several sockets on it, one kClose per socket comes;
// which socket is meant cannot be seen, so they end together with the last of them.
void Control::Impl::release_listener(std::uint32_t id, ClientId client, bool all) {
  Listener& l = listeners[id];
  const auto held = std::count_if(l.members.begin(), l.members.end(), [&](const Member& m) {
    return std::find(m.holders.begin(), m.holders.end(), client) != m.holders.end();
  });
  if (held == 0) return;
  l.closes.push_back(client);
  if (!all && std::count(l.closes.begin(), l.closes.end(), client) < held) return;
  std::erase(l.closes, client);
  for (Member& m : l.members) std::erase(m.holders, client);
  for (const Member& m : l.members) {
    if (!m.holders.empty()) continue;
    listener_by_cookie.erase(m.cookie);
    world.close_listener(m.cookie);
  }
  std::erase_if(l.members, [](const Member& m) { return m.holders.empty(); });
  if (l.members.empty()) close_listener(id);
}

// From here on SYNs find nothing; what is half-open or unaccepted is ended by a job.
void Control::Impl::close_listener(std::uint32_t id) {
  Listener& l = listeners[id];
  l.closing = true;
  std::uint32_t* at = &listeners_on_port[l.port];
  while (*at != id) at = &listeners[*at].next_on_port;
  *at = l.next_on_port;
  port_uses.close_listener(l.local, l.port, l.v6only);
  l.turn = closing.turn;
  add_to_batch(closing, Job::Kind::kClose, id);
}

void Control::Impl::finish_listener(std::uint32_t id) {
  Listener& l = listeners[id];
  TOE_CHECK(l.closing && l.embryos.empty() && l.queued == 0);
  Segment& segment = *segments[l.segment];
  free_ring(segment, l.uid, l.ring);
  segment.free_line(l.line);
  --users[l.uid].listeners;
  settle_user(l.uid);
  l.used = false;
  l.closing = false;
  free_listeners.push_back(id);
  check_segment(l.segment);
}

}  // namespace toe::control
