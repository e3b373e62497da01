// Entry points: requests, events, timers.
#include "control/control.h"

#include <algorithm>

#include "control/impl.h"

namespace toe::control {
namespace {

flow::HashKey derive(const Secrets& s, std::uint64_t tweak) {
  return {s.isn.k0 ^ (s.random + tweak), s.isn.k1 + tweak * 0x9e3779b97f4a7c15ull};
}

// Record numbers with the lowest on top.
std::vector<std::uint32_t> all_free(std::uint32_t n) {
  std::vector<std::uint32_t> v(n);
  for (std::uint32_t i = 0; i < n; ++i) v[i] = n - 1 - i;
  return v;
}

const Congestion* default_algorithm(const Options& o) {
  const Congestion* c = find_congestion({o.congestion, strnlen(o.congestion, sizeof o.congestion)});
  return c != nullptr ? c : &cubic();
}

}  // namespace

State::State(const Options& o, const Secrets& s, const Links& l)
    : options(o),
      secrets(s),
      links(l),
      world(l.world),
      flows(l.flows),
      commands(l.commands),
      default_congestion(default_algorithm(o)),
      conns(o.max_flows),
      free_conns(all_free(o.max_flows)),
      attempts(kMaxAttempts),
      free_attempts(all_free(kMaxAttempts)),
      index(o.max_flows + kMaxAttempts, derive(s, 1)),
      timers(o.max_flows + kMaxAttempts),
      time_wait(o.max_time_wait, o.time_wait, derive(s, 2)),
      routes(l.world, derive(s, 3)),
      port_uses(l.world),
      listeners(kMaxListeners),
      free_listeners(all_free(kMaxListeners)),
      listeners_on_port(65536, kNil),
      segments(kMaxSegments),
      headers(kHeaderTemplates),
      free_headers(all_free(kHeaderTemplates)) {
  TOE_CHECK(l.flows.size() >= o.max_flows);
  pools.reserve(kMaxPools);
}

void Control::Impl::on_request(const Request& r) {
  switch (r.kind) {
    case Request::Kind::kJoin:
      return on_join(r);
    case Request::Kind::kSegment:
      return on_new_segment(r);
    case Request::Kind::kLeave:
      return on_leave(r.client);
    case Request::Kind::kContext:
      return on_context(r);
    case Request::Kind::kListen:
      return on_listen(r);
    case Request::Kind::kMarked:
      return on_marked(r);
    case Request::Kind::kConnect:
      return on_connect(r);
    case Request::Kind::kShow:
      return on_show(r);
    case Request::Kind::kInfo:
      return on_info(r);
    case Request::Kind::kOption:
      return on_option(r);
    case Request::Kind::kRoute:
      return on_route(r);
    case Request::Kind::kHeldPort:
      return on_held_port(r);
    case Request::Kind::kPagesReturned:
      return on_pages_returned(r);
    case Request::Kind::kAddressGone:
      return on_address_gone(r.local);
    case Request::Kind::kDump:
      return on_dump(r.dump);
    case Request::Kind::kStop:
      return on_stop();
  }
}

void Control::Impl::on_timer(std::uint32_t id) {
  const auto n = static_cast<std::uint32_t>(conns.size());
  if (id < n) {
    on_conn_timer(id);
  } else {
    on_attempt_timer(id - n);
  }
}

void Control::Impl::expire_time_wait() {
  for (std::uint32_t left = kTimersPerPoll; left > 0; --left) {
    const std::uint32_t record = time_wait.expired(now);
    if (record == kNil) return;
    release_time_wait(record);
  }
}

bool Control::Impl::may_take_event() const {
  const bool crowded = links.events.size() > links.events.capacity() / 2;
  return commands.room() > (crowded ? CommandQueue::kReserve : CommandQueue::kEventMargin);
}

// Both sides have read all that the other has said.
bool Control::Impl::settled() const {
  return !commands.waiting() && links.commands.empty() && links.events.empty();
}

bool Control::Impl::poll() {
  commands.flush();
  std::uint32_t n = 0;
  flow::Event e;
  while (n < kEventsPerPoll && may_take_event() && links.events.pop(e)) {
    on_event(e);
    ++n;
  }
  std::uint32_t id = 0;
  std::uint32_t fired = 0;
  while (fired < kTimersPerPoll && commands.room() > CommandQueue::kEventMargin &&
         timers.fire(now, id)) {
    on_timer(id);
    ++fired;
  }
  expire_time_wait();
  const bool jobs_left = !busy() && step_jobs();
  const bool dump_left = step_dump();
  return n == kEventsPerPoll || fired == kTimersPerPoll || jobs_left || dump_left ||
         commands.waiting() || time_wait.expired(now) != kNil;
}

Time Control::Impl::next_deadline() const {
  return std::min(timers.next_deadline(), time_wait.next_deadline(now));
}

bool Control::Impl::quiet() const {
  return live_conns == 0 && free_attempts.size() == kMaxAttempts && time_wait.count() == 0 &&
         timers.count() == 0 && jobs.empty() && !commands.waiting();
}

Control::Control(const Options& options, const Secrets& secrets, const Links& links)
    : impl_(std::make_unique<Impl>(options, secrets, links)) {}

Control::~Control() = default;

void Control::on_frame(Frame frame, Time now) {
  impl_->now = now;
  impl_->on_frame(frame);
}

void Control::on_request(const Request& request, Time now) {
  impl_->now = now;
  impl_->on_request(request);
}

bool Control::poll(Time now) {
  impl_->now = now;
  return impl_->poll();
}

Time Control::next_deadline() const { return impl_->next_deadline(); }

const Counters& Control::counters() const { return impl_->counters; }

std::uint32_t Control::flows_in_use() const {
  return impl_->options.max_flows - static_cast<std::uint32_t>(impl_->free_conns.size());
}

bool Control::quiet() const { return impl_->quiet(); }

}  // namespace toe::control
