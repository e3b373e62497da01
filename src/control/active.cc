// Connections from here: route, local port, line, SYN, and what may come back.
#include "control/impl.h"

namespace toe::control {
namespace {

constexpr Nanos kPatience = seconds(10);  ///< for route and port; the kernel gives up ARP after 3 s

shm::KernelReason reason_of(Route::Kind kind) {
  switch (kind) {
    case Route::Kind::kOtherDevice:
      return shm::KernelReason::kOtherDevice;
    case Route::Kind::kOwnAddress:
      return shm::KernelReason::kOwnAddress;
    default:
      return shm::KernelReason::kUnreachable;
  }
}

}  // namespace

void Control::Impl::on_connect(const Request& r) {
  const Client* client = live_client(r.client);
  if (client == nullptr) return;
  const std::string_view name(r.options.congestion,
                              strnlen(r.options.congestion, sizeof r.options.congestion));
  if (!name.empty() && find_congestion(name) == nullptr) {
    return refuse(r.client, r.tag, shm::KernelReason::kCongestionControl, 0);
  }
  const auto known = conn_by_cookie.find(r.cookie);
  const bool twice =
      known != conn_by_cookie.end() && conns[known->second].state != Conn::State::kEnded;
  if (twice) return refuse(r.client, r.tag, shm::KernelReason::kInternal, EALREADY);
  const bool full = stopping || busy() || !may_connect(client->uid);
  const std::uint32_t id = full ? kNil : new_attempt();
  if (id == kNil) return refuse(r.client, r.tag, shm::KernelReason::kLimit, 0);
  Attempt& a = attempts[id];
  a.state = Attempt::State::kWaitMark;
  a.active = true;
  a.client = r.client;
  a.uid = client->uid;
  ++users[a.uid].connecting;
  a.tag = r.tag;
  a.cookie = r.cookie;
  a.options = r.options;
  a.key = {r.local, r.remote, 0, r.remote_port};
  a.route = routes.acquire({a.key, client->uid});
  if (a.route == kNil) return fail_connect(id, 0, shm::KernelReason::kLimit);
  timers.arm(static_cast<std::uint32_t>(conns.size()) + id, now + kPatience);
  go_on_active(id);
}

bool Control::Impl::may_connect(std::uint32_t uid) {
  const auto found = users.find(uid);
  if (found == users.end()) return true;
  const User& user = found->second;
  if (user.flows < options.max_flows_per_user &&
      user.connecting < options.max_connecting_per_user) {
    return true;
  }
  counters.user_limits.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void Control::Impl::go_on_active(std::uint32_t id) {
  Attempt& a = attempts[id];
  stop_waiting(id);
  a.state = Attempt::State::kWaitMark;
  RouteEntry& e = routes.at(a.route);
  if (!e.known) {
    a.state = Attempt::State::kWaitRoute;
    push_back(e.waiters, id, [this](std::uint32_t i) -> Link& { return attempts[i].waiting; });
    return;
  }
  if (e.route.kind != Route::Kind::kDirect) {
    if (e.route.full()) return fail_connect(id, 0, shm::KernelReason::kLimit);
    return fail_connect(id, e.route.error, reason_of(e.route.kind));
  }
  if (a.key.local.is_any()) a.key.local = e.route.source;
  if (a.pool == kNil) a.pool = pool_of(a.key.local);
  if (a.pool == kNil) return fail_connect(id, 0, shm::KernelReason::kLimit);
  a.port_at = static_cast<std::uint32_t>(flow::hash_of(a.key, secrets.isn) >> 32) +
              static_cast<std::uint32_t>(counters.active_opens.load());
  pick_port(id);
}

std::uint32_t Control::Impl::pool_of(const IpAddr& local) {
  for (std::uint32_t i = 0; i < pools.size(); ++i) {
    if (pools[i].local() == local) return i;
  }
  if (pools.size() == kMaxPools) return replace_pool(local);
  pools.emplace_back(world, local);
  return static_cast<std::uint32_t>(pools.size()) - 1;
}

// Addresses come and go: of those that nothing uses, the pool with the fewest ports makes room.
std::uint32_t Control::Impl::replace_pool(const IpAddr& local) {
  std::uint32_t found = kNil;
  for (std::uint32_t i = 0; i < pools.size(); ++i) {
    const bool resumed = std::any_of(port_jobs.begin(), port_jobs.end(),
                                     [i](const Job& job) { return job.pool == i; });
    if (!pools[i].idle() || resumed) continue;
    if (found == kNil || pools[i].size() < pools[found].size()) found = i;
  }
  if (found == kNil) return kNil;
  pools[found].shed();
  pools[found] = PortPool(world, local);
  return found;
}

// RFC 6056: ports are tried from a point that depends on the remote end. `ask`: of the kernel, when
// few are left; else what the pool has is looked through to its end, in steps.
void Control::Impl::pick_port(std::uint32_t id, bool ask) {
  Attempt& a = attempts[id];
  PortPool& pool = pools[a.pool];
  flow::FlowKey key = a.key;
  const std::uint16_t port = pool.take(a.port_at, [&](std::uint16_t p) {
    key.local_port = p;
    return find_live(key) == kNil && time_wait.find(key) == kNil;
  });
  a.port_at += PortPool::kTries;
  a.ports_seen = ask ? 0 : a.ports_seen + PortPool::kTries;
  if (ask) pool.refill();
  if (port != 0) {
    a.key.local_port = port;
    a.has_port = true;
    return begin_connect(id);
  }
  if (pool.asked() == 0 && a.ports_seen >= pool.size()) {
    return fail_connect(id, EADDRNOTAVAIL, shm::KernelReason::kLimit);
  }
  a.state = Attempt::State::kWaitPort;
  push_back(pool.waiters, id, [this](std::uint32_t i) -> Link& { return attempts[i].waiting; });
  if (ask && pool.asked() == 0) resume_later(pool, true);
}

// Everything is there: the application gets its line, the peer its SYN.
void Control::Impl::begin_connect(std::uint32_t id) {
  Attempt& a = attempts[id];
  const Client* client = live_client(a.client);
  Segment* segment = client == nullptr ? nullptr : segment_with_room(a.client);
  const std::uint32_t conn = segment == nullptr ? kNil : new_conn(*segment, client->uid);
  if (conn == kNil) return fail_connect(id, 0, shm::KernelReason::kLimit);
  Conn& c = conns[conn];
  c.attempt = id;
  c.cookie = a.cookie;
  c.verified = true;
  c.pool = a.pool;
  conn_by_cookie[a.cookie] = conn;
  add_holder(conn, a.client);
  a.conn = conn;
  a.iss = initial_sequence(a.key);
  a.ts_offset = timestamp_offset(a.key);
  a.own_wscale = window_scale(a.options);
  const Congestion& algorithm = congestion_of(a.options, a.route);
  a.ect = algorithm.needs_ecn;
  a.ecn_asked = a.ect || options.ecn == Ecn::kRequest;
  fill_line(conn, a.key, a.options);
  shm::LineMessage m{};
  m.segment_id = c.segment;
  m.line = c.line;
  m.generation = segment->line_use(c.line).generation;
  reply(a.client, a.tag, shm::MessageType::kConnecting, m);
  a.state = Attempt::State::kSynSent;
  a.started = now;
  index_attempt(id);
  send_syn(a);
  timers.arm(static_cast<std::uint32_t>(conns.size()) + id, now + options.initial_rto);
  counters.active_opens.fetch_add(1, std::memory_order_relaxed);
}

// RFC 9293 section 3.10.7.3.
void Control::Impl::on_syn_sent(std::uint32_t id, const wire::TcpSegment& s) {
  Attempt& a = attempts[id];
  const bool ack = (s.flags & wire::kAck) != 0;
  if (ack && s.ack != a.iss + 1) {
    count(counters.drops.handshake_bad_ack);
    return send_reset(s);
  }
  if ((s.flags & wire::kRst) != 0) {
    if (ack) return fail_connect(id, ECONNREFUSED, shm::KernelReason::kNone);
    return count(counters.drops.handshake_bad_rst);
  }
  if ((s.flags & wire::kSyn) == 0) return count(counters.drops.handshake_no_flag);
  if (busy()) return count(counters.drops.handshake_busy);
  const SynFacts syn = facts_of(s);
  take_syn(a, syn, s);
  a.ecn_on = a.ecn_asked && (ack ? grants_ecn(s) : syn.ecn);
  if (ack) return install_active(id, s);
  a.state = Attempt::State::kSynReceived;  // simultaneous open
  a.retries = 0;
  send_syn(a);
  timers.arm(static_cast<std::uint32_t>(conns.size()) + id, now + options.initial_rto);
}

void Control::Impl::install_active(std::uint32_t id, const wire::TcpSegment& s) {
  const Attempt a = attempts[id];
  fill_flow(a.conn, a, a.options);
  flow::ProtocolSlice& p = flows[a.conn].protocol;
  const bool syn = (s.flags & wire::kSyn) != 0;  // windows of SYNs are not scaled
  p.snd_wnd = syn ? s.window : std::uint32_t{s.window} << p.snd_wscale;
  if (syn) send_attempt_ack(a, a.iss + 1, a.irs + 1);
  conns[a.conn].attempt = kNil;
  attempts[id].has_port = false;  // the connection's from here on
  drop_attempt(id);
  install(a.conn, a);
}

// Nothing came back in time; what did not come decides the errno, as in Linux.
void Control::Impl::time_out_connect(std::uint32_t id) {
  const Attempt& a = attempts[id];
  if (a.state == Attempt::State::kWaitRoute) {
    return fail_connect(id, EHOSTUNREACH, shm::KernelReason::kUnreachable);
  }
  if (a.state == Attempt::State::kWaitPort) {
    return fail_connect(id, EADDRNOTAVAIL, shm::KernelReason::kLimit);
  }
  world.confirm_neighbor(routes.at(a.route).key);
  fail_connect(id, ETIMEDOUT, shm::KernelReason::kNone);
}

// The attempt ends: by an answer if the application waits for one, else by its line.
void Control::Impl::fail_connect(std::uint32_t id, int error, shm::KernelReason reason) {
  const Attempt a = attempts[id];
  if (a.conn == kNil) {
    drop_attempt(id);
    if (live_client(a.client) != nullptr) refuse(a.client, a.tag, reason, error);
    return;
  }
  counters.attempt_fails.fetch_add(1, std::memory_order_relaxed);
  Conn& c = conns[a.conn];
  c.attempt = kNil;
  c.pool = kNil;  // the port goes back with the attempt
  drop_attempt(id);
  shm::Line& line = segments[c.segment]->line(c.line);
  line.error.store(static_cast<std::uint32_t>(error), std::memory_order_release);
  line.flags.fetch_or(shm::kReset, std::memory_order_release);
  line.state.store(static_cast<std::uint32_t>(shm::LineState::kClosed), std::memory_order_release);
  flow::Command notify = make_command(flow::Command::Kind::kNotify);
  notify.segment = SegmentId{c.segment};
  notify.line = c.line;
  commands.push(notify);
  on_conn_over(a.conn);
}

// The first in line take what there is; one that finds nothing waits again, at the end, for the
// next answer. `dry`: the kernel has no more, and each looks at all ports of the pool before it
// gives up. True: nothing can be done now.
bool Control::Impl::resume_pool(PortPool& pool, bool dry) {
  const std::uint32_t most = dry ? kSearchesPerStep : kWaitersPerStep;
  for (std::uint32_t left = most; left > 0 && !pool.waiters.empty(); --left) {
    const std::uint32_t id = pool.waiters.head;
    stop_waiting(id);
    attempts[id].state = Attempt::State::kWaitMark;
    pick_port(id, !dry);
    const bool waits = attempts[id].state == Attempt::State::kWaitPort;
    if (waits && (!dry || pool.asked() != 0)) return true;
  }
  return pool.waiters.empty();
}

// Whoever waits when it is asked for is served by a job that is there already.
void Control::Impl::resume_later(const PortPool& pool, bool dry) {
  Job job;
  job.kind = Job::Kind::kPort;
  job.pool = static_cast<std::uint32_t>(&pool - pools.data());
  job.dry = dry;
  const bool there = std::any_of(port_jobs.begin(), port_jobs.end(), [&job](const Job& other) {
    return other.pool == job.pool && other.dry == job.dry;
  });
  if (there) return;
  port_jobs.push_back(job);
}

void Control::Impl::on_held_port(const Request& r) {
  for (PortPool& pool : pools) {
    if (pool.local() != r.local) continue;
    const bool dry = r.error != 0;
    pool.on_answer(dry ? std::uint16_t{0} : r.local_port);
    if (dry && pool.asked() != 0) return;
    if (!resume_pool(pool, dry)) resume_later(pool, dry);
    return;
  }
}

}  // namespace toe::control
