// What the data path reports of its flows, up to their end.
#include "control/impl.h"

namespace toe::control {

using flow::Command;
using flow::Event;

void Control::Impl::on_event(const Event& e) {
  const bool has_flow = index_of(e.flow) < conns.size();
  switch (e.kind) {
    case Event::Kind::kHold:
      return on_hold(e);
    case Event::Kind::kRelease:
      return on_release(e);
    case Event::Kind::kMisbehaved:
      return drop_client(e.client, e.reason);
    case Event::Kind::kContextOpened:
      return on_context_opened(e);
    case Event::Kind::kContextClosed:
      return on_context_closed(e);
    case Event::Kind::kSegmentRemoved:
      return on_segment_removed(index_of(e.segment));
    case Event::Kind::kHeaderTaken:
      free_headers.push_back(static_cast<std::uint32_t>(e.header - headers.data()));
      return;
    default:
      TOE_CHECK(has_flow);
      return on_flow_event(e);
  }
}

void Control::Impl::on_flow_event(const Event& e) {
  const std::uint32_t id = index_of(e.flow);
  Conn& c = conns[id];
  if (e.kind == Event::Kind::kRemoved) {
    TOE_CHECK(c.state == Conn::State::kRemoving);
    return on_conn_over(id);
  }
  if (c.state != Conn::State::kLive) return;  // said before the data path read kRemove
  switch (e.kind) {
    case Event::Kind::kClosed:
      return on_closed(e);
    case Event::Kind::kArm:
      c.arm_at = e.at;
      return arm_conn(id);
    case Event::Kind::kRound:
    case Event::Kind::kRtt:
    case Event::Kind::kLoss:
    case Event::Kind::kMarks:
    case Event::Kind::kTimeout:
    case Event::Kind::kUndo:
      return on_congestion(e);
    case Event::Kind::kWantRxRing:
      return grow(id, true);
    case Event::Kind::kWantTxRing:
      return grow(id, false);
    case Event::Kind::kRxRingFree:
      return on_ring_free(e, true);
    case Event::Kind::kTxRingFree:
      return on_ring_free(e, false);
    case Event::Kind::kActive:
      return on_active(id);
    case Event::Kind::kHalfClosed:
      return on_half_closed(id);
    default:
      return;
  }
}

void Control::Impl::on_closed(const Event& e) {
  const std::uint32_t id = index_of(e.flow);
  if (e.close == Event::Close::kReset) {
    counters.estab_resets.fetch_add(1, std::memory_order_relaxed);
  } else if (e.close == Event::Close::kAborted) {
    counters.out_resets.fetch_add(1, std::memory_order_relaxed);
  } else if (e.close == Event::Close::kTimeWait && !stopping) {
    enter_time_wait(id);
  }
  remove_conn(id);
}

// A full table costs the protection of TIME-WAIT, never the new connections.
void Control::Impl::enter_time_wait(std::uint32_t id) {
  const flow::Flow& f = flows[id];
  TimeWaitRecord r;
  r.key = f.pre.key;
  r.snd_nxt = f.pre.iss + 1 + static_cast<std::uint32_t>(f.protocol.snd_max);
  r.rcv_nxt = f.pre.irs + 1 + static_cast<std::uint32_t>(f.protocol.rcv_nxt);
  r.ts_recent = f.protocol.ts_recent;
  r.ts_on = f.protocol.ts_on ? 1 : 0;
  if (time_wait.find(r.key) != kNil || time_wait.add(r, now) == kNil) return;
  counters.time_wait_created.fetch_add(1, std::memory_order_relaxed);
  if (conns[id].pool != kNil) {
    pools[conns[id].pool].add_use(r.key.local_port);
  } else {
    port_uses.add(r.key.local, r.key.local_port);
  }
}

// The flow leaves the data path; from here on its 4-tuple belongs to TIME-WAIT or to nobody.
void Control::Impl::remove_conn(std::uint32_t id) {
  Conn& c = conns[id];
  TOE_CHECK(c.state == Conn::State::kLive);
  c.state = Conn::State::kRemoving;
  timers.cancel(id);
  index.erase(flows[id].pre.key, id);
  c.indexed = false;
  flow::Command command = make_command(flow::Command::Kind::kRemove);
  command.flow = FlowId{id};
  commands.push(command);
}

// Nothing but the line is left: kept while somebody holds it or may still accept it.
void Control::Impl::on_conn_over(std::uint32_t id) {
  Conn& c = conns[id];
  const flow::FlowKey& key = flows[id].pre.key;
  if (c.state == Conn::State::kRemoving) {
    if (c.pool != kNil) {
      pools[c.pool].give_back(key.local_port);
    } else {
      port_uses.remove(key.local, key.local_port);
    }
  }
  if (c.route != kNil) routes.release(c.route);
  if (c.orphan) {
    --orphan_count;
    --users[c.uid].orphans;
  }
  timers.cancel(id);
  --live_conns;
  c.route = kNil;
  c.pool = kNil;
  c.orphan = false;
  c.state = Conn::State::kEnded;
  if (c.holders == 0 && !c.queued) free_conn_line(id);
}

void Control::Impl::free_conn_line(std::uint32_t id) {
  Conn& c = conns[id];
  TOE_CHECK(c.state == Conn::State::kEnded && c.holders == 0 && !c.queued);
  Segment& segment = *segments[c.segment];
  for (shm::RingRef* ring : {&c.rx_ring, &c.rx_old, &c.tx_ring, &c.tx_old}) {
    free_ring(segment, c.uid, *ring);
  }
  segment.free_line(c.line);
  forget_cookie(id);
  --users[c.uid].flows;
  settle_user(c.uid);
  c.state = Conn::State::kFree;
  free_conns.push_back(id);
  check_segment(c.segment);
}

// A user without anything is forgotten.
void Control::Impl::settle_user(std::uint32_t uid) {
  const auto user = users.find(uid);
  if (user != users.end() && user->second.has_nothing()) users.erase(user);
}

// Once per round trip at most, and on the rare events: the algorithm gives new parameters.
void Control::Impl::on_congestion(const Event& e) {
  const std::uint32_t id = index_of(e.flow);
  Conn& c = conns[id];
  const flow::CongestionParams before = c.cc;
  Congestion::Step step = c.algorithm->on_round;
  if (e.kind == Event::Kind::kRtt) {
    step = c.algorithm->on_rtt;
  } else if (e.kind == Event::Kind::kLoss) {
    step = c.algorithm->on_loss;
  } else if (e.kind == Event::Kind::kMarks) {
    step = c.algorithm->on_marks;
  } else if (e.kind == Event::Kind::kUndo) {
    step = c.algorithm->on_undo;
  } else if (e.kind == Event::Kind::kTimeout) {
    counters.timeouts.fetch_add(1, std::memory_order_relaxed);
    world.confirm_neighbor(routes.at(c.route).key);
    step = c.algorithm->on_timeout;
  }
  step(c.cc_state, e.sample, c.cc);
  c.cc.as_of = e.sample.reductions;
  if (!c.algorithm->has_rate) set_pace(options.cc, e.sample, c.cc);
  if (!(c.cc == before)) push_congestion(id);
}

void Control::Impl::push_congestion(std::uint32_t id) {
  flow::Command command = make_command(flow::Command::Kind::kCongestion);
  command.flow = FlowId{id};
  command.cc = conns[id].cc;
  commands.push(command);
}

// Only orphans wait for the peer's FIN for a limited time (Linux: tcp_fin_timeout).
void Control::Impl::on_half_closed(std::uint32_t id) {
  Conn& c = conns[id];
  c.half_closed = true;
  if (!c.orphan) return;
  c.fin_wait2_at = now + options.fin_wait2;
  arm_conn(id);
}

void Control::Impl::arm_conn(std::uint32_t id) {
  const Conn& c = conns[id];
  timers.arm(id, std::min({c.arm_at, c.fin_wait2_at, c.idle_at}));
}

void Control::Impl::on_conn_timer(std::uint32_t id) {
  Conn& c = conns[id];
  if (c.state != Conn::State::kLive) return;
  if (c.fin_wait2_at <= now) {
    c.fin_wait2_at = Time::never();
    return abort_conn(id, ETIMEDOUT, false);
  }
  if (c.arm_at <= now) {
    c.arm_at = Time::never();
    flow::Command command = make_command(flow::Command::Kind::kTimer);
    command.flow = FlowId{id};
    commands.push(command);
  }
  if (c.idle_at <= now) on_idle_timer(id);
  arm_conn(id);
}

void Control::Impl::abort_conn(std::uint32_t id, int error, bool reset) {
  Conn& c = conns[id];
  if (c.state != Conn::State::kLive || c.aborting) return;
  c.aborting = true;
  flow::Command command = make_command(flow::Command::Kind::kAbort);
  command.flow = FlowId{id};
  command.error = static_cast<std::uint32_t>(error);
  command.reset = reset;
  commands.push(command);
}

}  // namespace toe::control
