// Work over all records in bounded steps: death of a process, new routes, lost addresses, the end.
#include <algorithm>
#include <utility>

#include "control/impl.h"

namespace toe::control {
namespace {

constexpr std::uint32_t kForgottenAtOnce = 64;  ///< idle destinations, when there is no room

}  // namespace

// A job looks at the records of its sections in this order, some at a time.
struct Control::Impl::Look {
  enum class Step { kOver, kMore, kWait };  // kWait: an event of the data path goes on with it
  enum class Visit {
    kNothing,
    kActed,
    kLong,  // nothing more in this step
    kWait,
  };
  struct Sections {
    std::uint32_t begins = 0;  // members of the batch
    std::uint32_t lines = 0;
    std::uint32_t attempts = 0;  // before the connections that may come of them
    std::uint32_t conns = 0;
    std::uint32_t time_waits = 0;
    std::uint32_t ends = 0;  // members of the batch

    std::uint32_t count() const { return begins + lines + attempts + conns + time_waits + ends; }
  };

  Impl& control;
  Job& job;
  std::uint32_t spent = 0;  // in this step, in records

  void begin();
  Step advance();

  Batch* batch();
  Sections sections();
  Step step_records();
  Visit visit(const Sections& all);
  Visit visit_begin(std::uint32_t member);
  Visit visit_conn(std::uint32_t id);
  Visit visit_leave(std::uint32_t id);
  bool visit_listener(std::uint32_t id);
  Visit visit_route(std::uint32_t id);
  Visit visit_address(std::uint32_t id);
  bool visit_attempt(std::uint32_t id);
  bool visit_time_wait(std::uint32_t record);
  Visit visit_end(std::uint32_t member);
  bool leaves(ClientId client) const;
  bool closes(std::uint32_t listener) const;
};

// What connections wait for does not wait until all ports are searched or all that has ended is
// cleared up.
bool Control::Impl::step_jobs() {
  const bool urgent = !busy() && step_front(urgent_jobs);
  const bool ports = !busy() && step_front(port_jobs);
  if (ports) {  // in turn: a pool's may never end
    port_jobs.push_back(port_jobs.front());
    port_jobs.pop_front();
  }
  const bool clearing = !busy() && step_front(clearing_jobs);
  return urgent || ports || clearing;
}

// Advances the oldest job. True: more is to be done now.
bool Control::Impl::step_front(std::deque<Job>& queue) {
  if (queue.empty()) return false;
  Look look{*this, queue.front(), 0};
  look.begin();
  const Look::Step step = look.advance();
  if (step != Look::Step::kOver) return step == Look::Step::kMore;
  const Job done = queue.front();
  queue.pop_front();
  finish_job(done);
  return !queue.empty();
}

void Control::Impl::add_to_batch(Batch& batch, Job::Kind kind, std::uint32_t member) {
  if (batch.coming.empty()) {
    Job job;
    job.kind = kind;
    job.turn = batch.turn;
    (kind == Job::Kind::kRoute ? urgent_jobs : clearing_jobs).push_back(job);
  }
  batch.coming.push_back(member);
}

void Control::Impl::finish_job(const Job& job) {
  if (job.kind == Job::Kind::kResume) routes.release(job.route);
  if (job.kind != Job::Kind::kWipe) return;
  segments[job.segment]->close_contexts(job.mask);
  check_segment(job.segment);
}

Batch* Control::Impl::Look::batch() {
  switch (job.kind) {
    case Job::Kind::kLeave:
      return &control.leaving;
    case Job::Kind::kClose:
      return &control.closing;
    case Job::Kind::kRoute:
      return &control.renewing;
    default:
      return nullptr;
  }
}

void Control::Impl::Look::begin() {
  if (std::exchange(job.begun, true) || batch() == nullptr) return;
  batch()->served =
      std::exchange(batch()->coming, {});  // what comes from here on is the next one's
  ++batch()->turn;
}

Control::Impl::Look::Step Control::Impl::Look::advance() {
  if (job.kind == Job::Kind::kResume) {
    return control.resume_route(job.route) ? Step::kOver : Step::kMore;
  }
  if (job.kind == Job::Kind::kPort) {
    return control.resume_pool(control.pools[job.pool], job.dry) ? Step::kOver : Step::kMore;
  }
  return step_records();
}

Control::Impl::Look::Sections Control::Impl::Look::sections() {
  const auto members = batch() == nullptr ? 0 : static_cast<std::uint32_t>(batch()->served.size());
  Sections all;
  if (job.kind == Job::Kind::kWipe) {
    all.lines = control.segments[job.segment]->line_count();
    return all;
  }
  if (job.kind != Job::Kind::kAnswer) all.conns = static_cast<std::uint32_t>(control.conns.size());
  all.ends = members;
  switch (job.kind) {
    case Job::Kind::kLeave:
      all.begins = members;
      break;
    case Job::Kind::kStop:
      all.time_waits = control.time_wait.capacity();
      [[fallthrough]];
    case Job::Kind::kClose:
    case Job::Kind::kAnswer:
    case Job::Kind::kAddress:
      all.attempts = kMaxAttempts;
      break;
    default:
      break;
  }
  return all;
}

Control::Impl::Look::Step Control::Impl::Look::step_records() {
  const Sections all = sections();
  const std::uint32_t end = all.count();
  while (spent < kRecordsPerStep && job.cursor < end) {
    const Visit visited = visit(all);
    if (visited == Visit::kWait) return Step::kWait;
    ++job.cursor;
    if (visited == Visit::kLong) break;
    spent += visited == Visit::kNothing ? 1 : kActionCost;
  }
  return job.cursor >= end ? Step::kOver : Step::kMore;
}

Control::Impl::Look::Visit Control::Impl::Look::visit(const Sections& all) {
  const auto acted = [](bool it) { return it ? Visit::kActed : Visit::kNothing; };
  std::uint32_t at = job.cursor;
  if (at < all.begins) return visit_begin(batch()->served[at]);
  at -= all.begins;
  if (at < all.lines) return acted(control.segments[job.segment]->wipe_line(at, job.mask));
  at -= all.lines;
  if (at < all.attempts) return acted(visit_attempt(at));
  at -= all.attempts;
  if (at < all.conns) return visit_conn(at);
  at -= all.conns;
  if (at < all.time_waits) return acted(visit_time_wait(at));
  return visit_end(batch()->served[at - all.time_waits]);
}

Control::Impl::Look::Visit Control::Impl::Look::visit_begin(std::uint32_t member) {
  control.close_contexts_of(static_cast<ClientId>(member));
  return Visit::kLong;
}

Control::Impl::Look::Visit Control::Impl::Look::visit_end(std::uint32_t member) {
  switch (job.kind) {
    case Job::Kind::kLeave:
      return control.finish_leave(static_cast<ClientId>(member)) ? Visit::kLong : Visit::kWait;
    case Job::Kind::kClose:
      control.finish_listener(member);
      return Visit::kActed;
    default:
      control.routes.release(member);
      return Visit::kActed;
  }
}

Control::Impl::Look::Visit Control::Impl::Look::visit_conn(std::uint32_t id) {
  if (control.conns[id].state == Conn::State::kFree) return Visit::kNothing;
  switch (job.kind) {
    case Job::Kind::kLeave:
      return visit_leave(id);
    case Job::Kind::kClose:
      return visit_listener(id) ? Visit::kActed : Visit::kNothing;
    case Job::Kind::kRoute:
      return visit_route(id);
    case Job::Kind::kAddress:
      return visit_address(id);
    case Job::Kind::kStop:
      control.abort_conn(id, ECONNRESET, true);
      return Visit::kActed;
    default:
      return Visit::kNothing;
  }
}

bool Control::Impl::Look::leaves(ClientId client) const {
  const auto found = control.clients.find(index_of(client));
  return found != control.clients.end() && found->second.leaving && found->second.turn == job.turn;
}

// Holds end; so do connections that the process took from a listener without a word to us.
Control::Impl::Look::Visit Control::Impl::Look::visit_leave(std::uint32_t id) {
  Conn& c = control.conns[id];
  spent += c.holders / kHoldersPerRecord;
  const bool let_go =
      control.remove_holders(id, [this](ClientId holder) { return leaves(holder); }) != 0;
  if (let_go && c.holders == 0 && !c.queued) control.on_unheld(id, false);
  if (!c.queued) return let_go ? Visit::kActed : Visit::kNothing;
  const Segment& segment = *control.segments[c.segment];
  const std::uint64_t claim = segment.line(c.line).claim.load(std::memory_order_relaxed);
  const ClientId owner = segment.context_owner(shm::claim_owner(claim) - 1);
  // Behind a closed listener the claim alone keeps it, and the claim may be forged.
  const bool kept = c.listener != kNil || control.live_client(owner) != nullptr;
  if (!leaves(owner) && kept) return Visit::kNothing;
  control.dequeue(id);
  control.on_unheld(id, false);
  return Visit::kActed;
}

bool Control::Impl::Look::closes(std::uint32_t listener) const {
  if (listener == kNil) return false;
  const Listener& l = control.listeners[listener];
  return l.closing && l.turn == job.turn;
}

bool Control::Impl::Look::visit_listener(std::uint32_t id) {
  Conn& c = control.conns[id];
  if (!c.queued || !closes(c.listener)) return false;
  const Segment& segment = *control.segments[c.segment];
  const std::uint32_t generation = segment.line_use(c.line).generation;
  std::uint64_t claim = shm::make_claim(generation, shm::kUnclaimed);
  const bool unclaimed = segment.line(c.line).claim.compare_exchange_strong(
      claim, shm::make_claim(generation, shm::kEngineClaim), std::memory_order_acq_rel);
  const ClientId owner = segment.context_owner(shm::claim_owner(claim) - 1);
  if (unclaimed || control.live_client(owner) == nullptr) {
    control.dequeue(id);
    control.on_unheld(id, true);  // as Linux: the peer of an unaccepted connection gets an RST
    return true;
  }
  // Its kAccept is on the way (or its process will go and take it along).
  --control.listeners[c.listener].queued;
  c.listener = kNil;
  return true;
}

bool Control::Impl::Look::visit_attempt(std::uint32_t id) {
  Attempt& a = control.attempts[id];
  if (a.state == Attempt::State::kFree) return false;
  if (job.kind == Job::Kind::kAnswer) {
    const bool waits = a.listener == job.listener && a.state == Attempt::State::kWaitMark;
    if (waits) control.go_on_passive(id);
    return waits;
  }
  if (job.kind == Job::Kind::kAddress) {
    if (a.key.local != job.local) return false;
    a.away = job.away;  // what it repeats is not sent
    return true;
  }
  if (job.kind != Job::Kind::kStop && !closes(a.listener)) return false;
  if (a.active) {
    control.fail_connect(id, ECONNABORTED, shm::KernelReason::kInternal);
    return true;
  }
  if (a.state == Attempt::State::kSynReceived) control.send_attempt_reset(a);
  control.drop_attempt(id);
  return true;
}

bool Control::Impl::Look::visit_time_wait(std::uint32_t record) {
  if (!control.time_wait.in_use(record)) return false;
  control.release_time_wait(record);
  return true;
}

// The flow's frames carry other addresses from now on, have another size, or may not leave.
Control::Impl::Look::Visit Control::Impl::Look::visit_route(std::uint32_t id) {
  Conn& c = control.conns[id];
  if (c.state != Conn::State::kLive) return Visit::kNothing;
  const RouteEntry& e = control.routes.at(c.route);
  // One that changed again since is served as it is now; its next look may be long in coming.
  if (static_cast<std::int32_t>(e.turn - job.turn) < 0) return Visit::kNothing;
  if (!control.renew_header(id)) return Visit::kWait;
  if (e.route.kind == Route::Kind::kUnreachable) {
    // As Linux: what is found out now is what the program is told if it comes to a time-out.
    flow::Command command = make_command(flow::Command::Kind::kSoftError);
    command.flow = FlowId{id};
    command.error = static_cast<std::uint32_t>(e.route.error);
    control.commands.push(command);
  }
  if (c.port_mtu == e.mtu()) return Visit::kActed;
  c.port_mtu = e.mtu();
  control.push_mss(id);
  return Visit::kActed;
}

// As Linux: connections outlive their address. Without it nothing of theirs comes in or leaves;
// with it they go on.
Control::Impl::Look::Visit Control::Impl::Look::visit_address(std::uint32_t id) {
  Conn& c = control.conns[id];
  if (c.state != Conn::State::kLive) return Visit::kNothing;
  if (control.flows[id].pre.key.local != job.local || c.away == job.away) return Visit::kNothing;
  if (control.free_headers.empty()) return Visit::kWait;
  c.away = job.away;
  (void)control.renew_header(id);
  return Visit::kActed;
}

bool Control::Impl::renew_header(std::uint32_t id) {
  if (free_headers.empty()) return false;
  const std::uint32_t slot = free_headers.back();
  free_headers.pop_back();
  headers[slot] = make_header(id, flows[id].protocol.ts_on);
  flow::Command command = make_command(flow::Command::Kind::kSetHeader);
  command.flow = FlowId{id};
  command.header = &headers[slot];
  commands.push(command);
  return true;
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
  urgent_jobs.push_back(job);
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

// The flows of the route get what their frames need of it.
void Control::Impl::refresh_route(std::uint32_t id) {
  RouteEntry& e = routes.at(id);
  if (e.users == 0 || e.turn == renewing.turn) return;
  e.turn = renewing.turn;
  routes.share(id);  // until the job is done
  add_to_batch(renewing, Job::Kind::kRoute, id);
}

void Control::Impl::on_address(const IpAddr& local, bool away) {
  for (PortPool& pool : pools) {
    if (away && pool.local() == local) pool.shed();  // it may never come back
  }
  Job job;
  job.kind = Job::Kind::kAddress;
  job.local = local;
  job.away = away;
  urgent_jobs.push_back(job);
}

void Control::Impl::on_stop() {
  if (stopping) return;
  stopping = true;
  Job job;
  job.kind = Job::Kind::kStop;
  clearing_jobs.push_back(job);
}

}  // namespace toe::control
