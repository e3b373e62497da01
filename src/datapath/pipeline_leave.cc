// The end of every walk: behind the egress order point an outcome reaches application, control and
// scheduler.
#include <algorithm>

#include "datapath/pipeline_impl.h"

namespace toe::datapath {

void Pipeline::Impl::finish(FlowId flow, const Outcome& outcome, Time now) {
  if ((outcome.events & (Outcome::kRxSwitch | Outcome::kRxSwitchRefused | Outcome::kTxSwitch)) !=
      0) {
    switch_rings(flow, outcome);
  }
  ctxq.publish(outcome, at(flow).post);
  if (outcome.publish) {
    free_old_rings(flow, outcome.tx_una, 0);
    if (at(flow).post.watched) report_active(flow);
  }
  if (outcome.schedule) schedule(flow, now);
  if (outcome.delay_ack) delayed.push(flow, at(flow).protocol.ack_at);
  raise(flow, outcome, now);
}

/// A pace is for data: acknowledgements, probes and resets do not wait for it.
void Pipeline::Impl::schedule(FlowId flow, Time now) {
  scheduler.push(flow, now, bare_segment_due(at(flow).protocol));
}

void Pipeline::Impl::switch_rings(FlowId flow, const Outcome& outcome) {
  flow::PostSlice& p = at(flow).post;
  if ((outcome.events & Outcome::kRxSwitchRefused) != 0) {
    ring_event(flow::Event::Kind::kRxRingFree, flow, p.rx_next);
    p.rx_next = {};
  }
  if ((outcome.events & Outcome::kRxSwitch) != 0) {
    p.rx_ring[0] = p.rx_ring[1];
    p.rx_ring[1] = p.rx_next;
    p.rx_next = {};
    p.rx_switch = outcome.rx_switch;
    ++p.rx_epoch;
    ctxq.publish_rx_switch(p);
  }
  if ((outcome.events & Outcome::kTxSwitch) != 0) {
    p.tx_ring[0] = p.tx_ring[1];
    p.tx_ring[1] = p.tx_next;
    p.tx_next = {};
    p.tx_switch = outcome.tx_switch;
    free_old_rings(flow, std::min(at(flow).protocol.snd_una, at(flow).protocol.snd_end), 0);
  }
}

/// Rings before a switch are free once nobody needs a position before it.
void Pipeline::Impl::free_old_rings(FlowId flow, std::uint64_t tx_una, std::uint64_t rx_head) {
  flow::PostSlice& p = at(flow).post;
  if (p.tx_ring[0].valid() && tx_una >= p.tx_switch) {
    ring_event(flow::Event::Kind::kTxRingFree, flow, p.tx_ring[0]);
    p.tx_ring[0] = {};
  }
  if (p.rx_ring[0].valid() && rx_head >= p.rx_switch) {
    ring_event(flow::Event::Kind::kRxRingFree, flow, p.rx_ring[0]);
    p.rx_ring[0] = {};
  }
}

void Pipeline::Impl::ring_event(flow::Event::Kind kind, FlowId flow, shm::RingRef ring) {
  flow::Event event{};
  event.kind = kind;
  event.flow = flow;
  event.ring = ring;
  events.push(event);
}

void Pipeline::Impl::report_active(FlowId id) {
  at(id).post.watched = false;
  flow::Event event{};
  event.kind = flow::Event::Kind::kActive;
  event.flow = id;
  events.push(event);
}

void Pipeline::Impl::raise(FlowId id, const Outcome& outcome, Time now) {
  using Kind = flow::Event::Kind;
  static constexpr struct {
    std::uint16_t bit;
    Kind kind;
  } kMap[] = {{Outcome::kArm, Kind::kArm},
              {Outcome::kRound, Kind::kRound},
              {Outcome::kRtt, Kind::kRtt},
              {Outcome::kLoss, Kind::kLoss},
              {Outcome::kMarks, Kind::kMarks},
              {Outcome::kTimeout, Kind::kTimeout},
              {Outcome::kUndo, Kind::kUndo},
              {Outcome::kProgress, Kind::kProgress},
              {Outcome::kWantRxRing, Kind::kWantRxRing},
              {Outcome::kWantTxRing, Kind::kWantTxRing},
              {Outcome::kHalfClosed, Kind::kHalfClosed},
              {Outcome::kClosed, Kind::kClosed}};
  if (outcome.events == 0) return;
  const flow::ProtocolSlice& s = at(id).protocol;
  for (const auto& entry : kMap) {
    if ((outcome.events & entry.bit) == 0) continue;
    flow::Event event{};
    event.kind = entry.kind;
    event.flow = id;
    event.close = outcome.close;
    event.error = outcome.error;
    event.at = outcome.arm_at;
    event.sample = flow::sample_of(s, now, entry.kind == Kind::kRound);
    events.push(event);
  }
}

}  // namespace toe::datapath
