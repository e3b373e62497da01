// Entry points: requests, events, timers.
#include "control/control.h"

#include <algorithm>

#include "control/impl.h"

namespace toe::control {

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
    case Request::Kind::kLinkMtu:
      options.link_mtu = r.mtu;
      return;
    case Request::Kind::kIcmp:
      return on_icmp(r);
    case Request::Kind::kHeldPort:
      return on_held_port(r);
    case Request::Kind::kPagesReturned:
      return on_pages_returned(r);
    case Request::Kind::kAddressGone:
      return on_address(r.local, true);
    case Request::Kind::kAddressBack:
      return on_address(r.local, false);
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

bool Control::Impl::crowded() const { return links.events.size() > links.events.capacity() / 2; }

bool Control::Impl::may_take_event() const {
  return commands.room() > (crowded() ? CommandQueue::kReserve : CommandQueue::kEventMargin);
}

bool Control::Impl::poll() {
  commands.flush();
  const std::uint32_t most = crowded() ? kEventsInHaste : kEventsPerPoll;
  std::uint32_t n = 0;
  flow::Event e;
  while (n < most && may_take_event() && links.events.pop(e)) {
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
  expire_path_mtus();
  const bool jobs_left = step_jobs();
  const bool dump_left = step_dump();
  return n == most || fired == kTimersPerPoll || jobs_left || dump_left || commands.waiting() ||
         time_wait.expired(now) != kNil;
}

Time Control::Impl::next_deadline() const {
  Time at = std::min(timers.next_deadline(), time_wait.next_deadline(now));
  return std::min(at, routes.next_expiry());
}

bool Control::Impl::quiet() const {
  return live_conns == 0 && free_attempts.size() == kMaxAttempts && time_wait.count() == 0 &&
         timers.count() == 0 && urgent_jobs.empty() && port_jobs.empty() && clearing_jobs.empty() &&
         !commands.waiting();
}

bool Control::Impl::empty() const {
  return quiet() && free_conns.size() == conns.size() && orphan_count == 0 && returning == 0 &&
         conn_by_cookie.empty() && claimed_cookies.empty() && more_holders.empty() &&
         index.empty() && clients.empty() &&
         std::all_of(pools.begin(), pools.end(), [](const auto& p) { return p.in_use() == 0; });
}

std::uint64_t Control::Impl::ring_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& segment : segments) {
    if (segment != nullptr) bytes += segment->arena().used_bytes();
  }
  return bytes;
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

std::uint64_t Counters::explained() const {
  return drops.unparsed + drops.own_source + frames_given_back + handshake_segments +
         time_wait_segments + syn_received + syn_no_listener + drops.syn_stopping + stray_segments;
}

std::uint32_t Control::flows_in_use() const {
  return impl_->options.max_flows - static_cast<std::uint32_t>(impl_->free_conns.size());
}

bool Control::quiet() const { return impl_->quiet(); }

bool Control::empty() const { return impl_->empty(); }

std::uint64_t Control::ring_bytes() const { return impl_->ring_bytes(); }

}  // namespace toe::control
