// Work over all records in bounded steps: death of a process, new routes, lost addresses, the end.
#include <algorithm>
#include <utility>

#include "control/impl.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kForgottenAtOnce = 64;  ///< idle destinations, when there is no room

}  // namespace

std::uint32_t Control::Impl::job_length(const Job& job) const {
  const auto n = static_cast<std::uint32_t>(conns.size());
  switch (job.kind) {
    case Job::Kind::kWipe:
      return segments[job.segment]->line_count();
    case Job::Kind::kAnswer:
    case Job::Kind::kAddress:
    case Job::Kind::kClose:
      return n + kMaxAttempts;
    case Job::Kind::kStop:
      return n + kMaxAttempts + time_wait.capacity();
    case Job::Kind::kRoute:
      return n + static_cast<std::uint32_t>(renewed_routes.size());
    default:
      return n;
  }
}

// Advances the oldest job. True: more is to be done now.
bool Control::Impl::step_jobs() {
  if (jobs.empty()) return false;
  Job& job = jobs.front();
  if (job.kind == Job::Kind::kLeave && !job.begun) begin_leave(job.client);
  if (job.kind == Job::Kind::kRoute && !job.begun) {  // what changes from here on is the next one's
    renewed_routes = std::exchange(changed_routes, {});
    ++route_turn;
  }
  job.begun = true;
  bool over = false;
  if (job.kind == Job::Kind::kResume) {
    over = resume_route(job.route);
  } else if (job.kind == Job::Kind::kPort) {
    over = resume_pool(pools[job.pool], job.dry);
  } else {
    over = step_records(job);
  }
  if (!over) {
    const bool lends = job.kind == Job::Kind::kRoute || job.kind == Job::Kind::kAddress;
    return !lends || !free_headers.empty();
  }
  // Contexts may be used again only when the data path has closed them and said its last of them.
  if (job.kind == Job::Kind::kLeave && !settled()) return true;
  const Job done = job;
  jobs.pop_front();
  finish_job(done);
  return !jobs.empty();
}

bool Control::Impl::step_records(Job& job) {
  const std::uint32_t end = job_length(job);
  for (std::uint32_t spent = 0; spent < kRecordsPerStep && job.cursor < end;) {
    const Visit visited = visit(job, job.cursor);
    if (visited == Visit::kWait) return false;  // an event of the data path goes on with it
    ++job.cursor;
    spent += visited == Visit::kActed ? kActionCost : 1;
  }
  return job.cursor >= end;
}

Control::Impl::Visit Control::Impl::visit(Job& job, std::uint32_t id) {
  const auto n = static_cast<std::uint32_t>(conns.size());
  bool acted = false;
  if (job.kind == Job::Kind::kWipe) {
    acted = segments[job.segment]->wipe_line(id, job.mask);
  } else if (job.kind == Job::Kind::kRoute && id >= n) {
    routes.release(renewed_routes[id - n]);
    acted = true;
  } else if (id >= n + kMaxAttempts) {
    const std::uint32_t record = id - n - kMaxAttempts;
    acted = time_wait.in_use(record);
    if (acted) release_time_wait(record);
  } else if (id >= n) {
    acted = visit_attempt(job, id - n);
  } else if (conns[id].state != Conn::State::kFree) {
    return visit_conn(job, id);
  }
  return acted ? Visit::kActed : Visit::kNothing;
}

Control::Impl::Visit Control::Impl::visit_conn(Job& job, std::uint32_t id) {
  bool acted = false;
  switch (job.kind) {
    case Job::Kind::kLeave:
      acted = visit_leave(job, id);
      break;
    case Job::Kind::kClose:
      acted = visit_listener(job, id);
      break;
    case Job::Kind::kRoute:
      return visit_route(job, id);
    case Job::Kind::kAddress:
      return visit_address(job, id);
    case Job::Kind::kStop:
      acted = true;
      abort_conn(id, ECONNRESET, true);
      break;
    default:
      break;
  }
  return acted ? Visit::kActed : Visit::kNothing;
}

// Holds end; so do connections that the process took from a listener without a word to us.
bool Control::Impl::visit_leave(const Job& job, std::uint32_t id) {
  Conn& c = conns[id];
  if (remove_holder(id, job.client)) {
    if (c.holders == 0 && !c.queued) on_unheld(id, false);
    return true;
  }
  if (!c.queued) return false;
  const Segment& segment = *segments[c.segment];
  const std::uint64_t claim = segment.line(c.line).claim.load(std::memory_order_relaxed);
  const ClientId owner = segment.context_owner(shm::claim_owner(claim) - 1);
  // Behind a closed listener the claim alone keeps it, and the claim may be forged.
  const bool kept = c.listener != kNil || live_client(owner) != nullptr;
  if (owner != job.client && kept) return false;
  dequeue(id);
  on_unheld(id, false);
  return true;
}

bool Control::Impl::visit_listener(const Job& job, std::uint32_t id) {
  Conn& c = conns[id];
  if (!c.queued || c.listener != job.listener) return false;
  const Segment& segment = *segments[c.segment];
  const std::uint32_t generation = segment.line_use(c.line).generation;
  std::uint64_t claim = shm::make_claim(generation, shm::kUnclaimed);
  const bool unclaimed = segment.line(c.line).claim.compare_exchange_strong(
      claim, shm::make_claim(generation, shm::kEngineClaim), std::memory_order_acq_rel);
  if (unclaimed || live_client(segment.context_owner(shm::claim_owner(claim) - 1)) == nullptr) {
    dequeue(id);
    on_unheld(id, true);  // as Linux: the peer of an unaccepted connection gets an RST
    return true;
  }
  // Its kAccept is on the way (or its process will go and take it along).
  --listeners[job.listener].queued;
  c.listener = kNil;
  return true;
}

bool Control::Impl::visit_attempt(const Job& job, std::uint32_t id) {
  const Attempt& a = attempts[id];
  if (a.state == Attempt::State::kFree) return false;
  if (job.kind == Job::Kind::kAnswer) {
    const bool waits = a.listener == job.listener && a.state == Attempt::State::kWaitMark;
    if (waits) go_on_passive(id);
    return waits;
  }
  if (job.kind == Job::Kind::kAddress) {
    if (a.key.local != job.local) return false;
    attempts[id].away = job.away;  // what it repeats is not sent
    return true;
  }
  const bool ends =
      job.kind == Job::Kind::kStop || (job.kind == Job::Kind::kClose && a.listener == job.listener);
  if (!ends) return false;
  if (a.active) {
    fail_connect(id, ECONNABORTED, shm::KernelReason::kInternal);
    return true;
  }
  if (a.state == Attempt::State::kSynReceived) send_attempt_reset(a);
  drop_attempt(id);
  return true;
}

// The flow's frames carry other addresses from now on, have another size, or may not leave.
Control::Impl::Visit Control::Impl::visit_route(const Job& job, std::uint32_t id) {
  Conn& c = conns[id];
  if (c.state != Conn::State::kLive) return Visit::kNothing;
  const RouteEntry& e = routes.at(c.route);
  if (e.turn != job.turn) return Visit::kNothing;
  const Visit renewed = renew_header(id);
  if (renewed != Visit::kActed) return renewed;
  if (e.route.kind == Route::Kind::kUnreachable) {
    // As Linux: what is found out now is what the program is told if it comes to a time-out.
    flow::Command command = make_command(flow::Command::Kind::kSoftError);
    command.flow = FlowId{id};
    command.error = static_cast<std::uint32_t>(e.route.error);
    commands.push(command);
  }
  if (c.port_mtu == e.mtu()) return Visit::kActed;
  c.port_mtu = e.mtu();
  push_mss(id);
  return Visit::kActed;
}

// As Linux: connections outlive their address. Without it nothing of theirs comes in or leaves;
// with it they go on.
Control::Impl::Visit Control::Impl::visit_address(const Job& job, std::uint32_t id) {
  Conn& c = conns[id];
  if (c.state != Conn::State::kLive || flows[id].pre.key.local != job.local) return Visit::kNothing;
  if (c.away == job.away) return Visit::kNothing;
  if (free_headers.empty()) return Visit::kWait;
  c.away = job.away;
  return renew_header(id);
}

Control::Impl::Visit Control::Impl::renew_header(std::uint32_t id) {
  if (free_headers.empty()) return Visit::kWait;
  const std::uint32_t slot = free_headers.back();
  free_headers.pop_back();
  headers[slot] = make_header(id, flows[id].protocol.ts_on);
  flow::Command command = make_command(flow::Command::Kind::kSetHeader);
  command.flow = FlowId{id};
  command.header = &headers[slot];
  commands.push(command);
  return Visit::kActed;
}

void Control::Impl::finish_job(const Job& job) {
  switch (job.kind) {
    case Job::Kind::kLeave:
      return finish_leave(job.client);
    case Job::Kind::kWipe:
      segments[job.segment]->close_contexts(job.mask);
      return check_segment(job.segment);
    case Job::Kind::kClose:
      return finish_listener(job.listener);
    case Job::Kind::kResume:
      return routes.release(job.route);
    default:
      return;
  }
}

// `r.route` may come unasked, when the kernel's answer has changed.
void Control::Impl::on_route(const Request& r) {
  bool changed = false;
  const std::uint32_t id = routes.update(route_key(r), r.route, changed);
  if (id == kNil) return;
  if (changed) refresh_route(id);
  if (r.route.full()) {
    count(counters.destinations_refused);
    routes.forget_idle(kForgottenAtOnce);  // what nobody uses must not stand in the way
  }
  if (resume_route(id)) return;
  routes.share(id);
  Job job;
  job.kind = Job::Kind::kResume;
  job.route = id;
  jobs.push_back(job);
}

// The last of those who waited may give the entry back, so it is looked up anew.
bool Control::Impl::resume_route(std::uint32_t route) {
  for (std::uint32_t left = kWaitersPerStep; left > 0 && !routes.at(route).waiters.empty();
       --left) {
    const std::uint32_t attempt = routes.at(route).waiters.head;
    if (attempts[attempt].active) {
      go_on_active(attempt);
    } else {
      go_on_passive(attempt);
    }
  }
  return routes.at(route).waiters.empty();
}

// The flows of the route get what their frames need of it. One job tells those of all routes that
// change before it begins: thousands change at once when a next hop does, and each job looks at
// every connection.
void Control::Impl::refresh_route(std::uint32_t id) {
  RouteEntry& e = routes.at(id);
  if (e.users == 0 || e.turn == route_turn) return;
  e.turn = route_turn;
  routes.share(id);  // until the job is done
  if (changed_routes.empty()) {
    Job job;
    job.kind = Job::Kind::kRoute;
    job.turn = route_turn;
    jobs.push_back(job);
  }
  changed_routes.push_back(id);
}

void Control::Impl::on_address(const IpAddr& local, bool away) {
  Job job;
  job.kind = Job::Kind::kAddress;
  job.local = local;
  job.away = away;
  jobs.push_back(job);
}

void Control::Impl::on_stop() {
  if (stopping) return;
  stopping = true;
  Job job;
  job.kind = Job::Kind::kStop;
  jobs.push_back(job);
}

}  // namespace toe::control
