// Work over all records in bounded steps: death of a process, new routes, lost addresses, the end.
#include <algorithm>

#include "control/impl.h"

namespace toe::control {

std::uint32_t Control::Impl::job_length(const Job& job) const {
  const auto n = static_cast<std::uint32_t>(conns.size());
  switch (job.kind) {
    case Job::Kind::kAddress:
    case Job::Kind::kClose:
      return n + kMaxAttempts;
    case Job::Kind::kStop:
      return n + kMaxAttempts + time_wait.capacity();
    default:
      return n;
  }
}

// Advances the oldest job. True: more is to be done now.
bool Control::Impl::step_jobs() {
  if (jobs.empty()) return false;
  const auto at = jobs.begin();
  if (at->kind == Job::Kind::kLeave && !at->begun) begin_leave(at->client);
  at->begun = true;
  const std::uint32_t end = job_length(*at);
  for (std::uint32_t left = kRecordsPerStep; left > 0 && at->cursor < end; --left) {
    if (!visit(*at, at->cursor)) return false;  // an event of the data path goes on with it
    ++at->cursor;
  }
  if (at->cursor < end) return true;
  // Its contexts may be used again only when the data path has closed them and said its last of
  // them.
  if (at->kind == Job::Kind::kLeave && !settled()) return true;
  const Job done = *at;
  jobs.erase(at);
  finish_job(done);
  return !jobs.empty();
}

// False: cannot go on now.
bool Control::Impl::visit(Job& job, std::uint32_t id) {
  const auto n = static_cast<std::uint32_t>(conns.size());
  if (id >= n + kMaxAttempts) {
    const std::uint32_t record = id - n - kMaxAttempts;
    if (time_wait.in_use(record)) release_time_wait(record);
    return true;
  }
  if (id >= n) {
    visit_attempt(job, id - n);
    return true;
  }
  const Conn& c = conns[id];
  if (c.state == Conn::State::kFree) return true;
  switch (job.kind) {
    case Job::Kind::kLeave:
      visit_leave(job, id);
      return true;
    case Job::Kind::kClose:
      visit_listener(job, id);
      return true;
    case Job::Kind::kRoute:
      return visit_route(job, id);
    case Job::Kind::kAddress:
      if (c.state == Conn::State::kLive && flows[id].pre.key.local == job.local) {
        abort_conn(id, ECONNRESET, true);
      }
      return true;
    case Job::Kind::kStop:
      abort_conn(id, ECONNRESET, true);
      return true;
  }
  return true;
}

// Holds end; so do connections that the process took from a listener without a word to us.
void Control::Impl::visit_leave(const Job& job, std::uint32_t id) {
  Conn& c = conns[id];
  if (remove_holder(id, job.client)) {
    if (c.holders == 0 && !c.queued) on_unheld(id, false);
    return;
  }
  if (!c.queued) return;
  const Segment& segment = *segments[c.segment];
  const std::uint64_t claim = segment.line(c.line).claim.load(std::memory_order_relaxed);
  const ClientId owner = segment.context_owner(shm::claim_owner(claim) - 1);
  // Behind a closed listener the claim alone keeps it, and the claim may be forged.
  const bool kept = c.listener != kNil || live_client(owner) != nullptr;
  if (owner != job.client && kept) return;
  dequeue(id);
  on_unheld(id, false);
}

void Control::Impl::visit_listener(const Job& job, std::uint32_t id) {
  Conn& c = conns[id];
  if (!c.queued || c.listener != job.listener) return;
  const Segment& segment = *segments[c.segment];
  const std::uint32_t generation = segment.line_use(c.line).generation;
  std::uint64_t claim = shm::make_claim(generation, shm::kUnclaimed);
  const bool unclaimed = segment.line(c.line).claim.compare_exchange_strong(
      claim, shm::make_claim(generation, shm::kEngineClaim), std::memory_order_acq_rel);
  if (unclaimed || live_client(segment.context_owner(shm::claim_owner(claim) - 1)) == nullptr) {
    dequeue(id);
    return on_unheld(id, true);  // as Linux: the peer of an unaccepted connection gets an RST
  }
  // Its kAccept is on the way (or its process will go and take it along).
  --listeners[job.listener].queued;
  c.listener = kNil;
}

void Control::Impl::visit_attempt(const Job& job, std::uint32_t id) {
  const Attempt& a = attempts[id];
  if (a.state == Attempt::State::kFree) return;
  const bool ends = job.kind == Job::Kind::kStop ||
                    (job.kind == Job::Kind::kAddress && a.key.local == job.local) ||
                    (job.kind == Job::Kind::kClose && a.listener == job.listener);
  if (!ends) return;
  if (a.active) return fail_connect(id, ECONNABORTED, shm::KernelReason::kInternal);
  if (a.state == Attempt::State::kSynReceived) send_attempt_reset(a);
  drop_attempt(id);
}

// The flow's frames carry other addresses from now on, or have another size.
bool Control::Impl::visit_route(const Job& job, std::uint32_t id) {
  Conn& c = conns[id];
  if (c.state != Conn::State::kLive || c.route != job.route) return true;
  const Route& route = routes.at(job.route).route;
  if (route.kind != Route::Kind::kDirect) return true;
  if (free_headers.empty()) return false;
  const std::uint32_t slot = free_headers.back();
  free_headers.pop_back();
  headers[slot] = make_header(id, flows[id].protocol.ts_on);
  flow::Command command = make_command(flow::Command::Kind::kSetHeader);
  command.flow = FlowId{id};
  command.header = &headers[slot];
  commands.push(command);
  const std::uint16_t mtu = routes.at(job.route).mtu();
  if (c.port_mtu == mtu) return true;
  c.port_mtu = mtu;
  push_mss(id);
  return true;
}

void Control::Impl::finish_job(const Job& job) {
  if (job.kind == Job::Kind::kLeave) finish_leave(job.client);
  if (job.kind == Job::Kind::kClose) finish_listener(job.listener);
  if (job.kind == Job::Kind::kRoute) routes.release(job.route);
}

void Control::Impl::on_route(const Request& r) {
  bool changed = false;
  const std::uint32_t id = routes.update(r.remote, r.route, changed);
  if (id == kNil) return;
  if (changed) refresh_route(id);
  // Whoever waited goes on; the last of them may give the entry back, so it is looked up anew.
  for (std::uint32_t left = routes.at(id).waiters.count; left > 0; --left) {
    const std::uint32_t attempt = routes.at(id).waiters.head;
    if (attempts[attempt].active) {
      go_on_active(attempt);
    } else {
      go_on_passive(attempt);
    }
  }
}

// The flows of the route get what their frames need of it, unless that is planned already.
void Control::Impl::refresh_route(std::uint32_t id) {
  const bool planned = std::any_of(jobs.begin(), jobs.end(), [&](const Job& j) {
    return j.kind == Job::Kind::kRoute && j.route == id && !j.begun;
  });
  if (planned) return;
  routes.acquire(routes.at(id).remote);  // until the job is done
  Job job;
  job.kind = Job::Kind::kRoute;
  job.route = id;
  jobs.push_back(job);
}

void Control::Impl::on_address_gone(const IpAddr& local) {
  Job job;
  job.kind = Job::Kind::kAddress;
  job.local = local;
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
