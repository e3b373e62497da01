// Commands of control: the part of the HC walk that begins with them.
#include <algorithm>
#include <utility>

#include "datapath/pipeline_impl.h"

namespace toe::datapath {

void Pipeline::Impl::execute(const flow::Command& command, Time now) {
  using Kind = flow::Command::Kind;
  switch (command.kind) {
    case Kind::kAddSegment:
      return ctxq.add_segment(command.segment, command.base);
    case Kind::kRemoveSegment:
      return ctxq.remove_segment(command.segment);
    case Kind::kOpenContext:
      return ctxq.open_context(command);
    case Kind::kCloseContext:
      return ctxq.close_context(command.segment, command.slot);
    case Kind::kNotify:
      return ctxq.notify(command.segment, command.line);
    case Kind::kInstall:
      return install(command, now);
    case Kind::kRemove:
      return remove(command.flow, now);
    case Kind::kOfferRxRing:
      return offer_rx_ring(command, now);
    case Kind::kOfferTxRing:
      return offer_tx_ring(command);
    case Kind::kRenewTxRing:
      return renew_tx_ring(command);
    case Kind::kWatch:
      at(command.flow).post.watched = true;
      return;
    default:
      return on_flow(command, now);
  }
}

/// Commands that are one call of the protocol stage or one assignment.
void Pipeline::Impl::on_flow(const flow::Command& command, Time now) {
  using Kind = flow::Command::Kind;
  flow::Flow& flow = at(command.flow);
  Outcome outcome;
  Step step{protocol_options, counters, pools, flow.protocol, now, outcome};
  if (command.kind == Kind::kTimer) {
    on_timer(step);
  } else if (command.kind == Kind::kOrphan) {
    // The last holder may have died between its last bytes and the hint: nothing follows any more.
    if (look(command.flow, step)) on_orphan(step, command.reset);
  } else if (command.kind == Kind::kAbort) {
    on_abort(step, command.error, command.reset);
  } else if (command.kind == Kind::kSetMss) {
    on_mss(step, command.mss);
  } else if (command.kind == Kind::kSoftError) {
    flow.protocol.soft_error = static_cast<std::uint16_t>(command.error);
  } else if (command.kind == Kind::kCongestion) {
    set_congestion(command.flow, command.cc);
  } else if (command.kind == Kind::kSetHeader) {
    flow.post.header = *command.header;
    flow::Event event{};
    event.kind = flow::Event::Kind::kHeaderTaken;
    event.flow = command.flow;
    event.header = command.header;
    events.push(event);
  }
  finish(command.flow, outcome, now);
}

void Pipeline::Impl::install(const flow::Command& command, Time now) {
  flow::Flow& flow = at(command.flow);
  const bool inserted = table.insert(flow.pre.key, command.flow);
  TOE_DCHECK(inserted);
  static_cast<void>(inserted);
  ctxq.bind(flow.post.segment, flow.post.line, command.flow);
  scheduler.reset(command.flow);
  Outcome outcome;
  Step step{protocol_options, counters, pools, flow.protocol, now, outcome};
  on_start(step);
  finish(command.flow, outcome, now);
  if (command.line != 0) ctxq.announce(command, flow.post.line);
}

/// A last RST or ACK must not be lost because the removal came first.
void Pipeline::Impl::send_last(FlowId id, Time now) {
  const flow::ProtocolSlice& s = at(id).protocol;
  if ((!s.rst_pending && !s.ack_now) || out_count == kBurst) return;
  if (!tx_one(id, work[0], now) || !work[0].out.transmit) return;
  work[0].ticket = egress.take();
  tx_post_dma(1);
  tx_leave(now);
}

void Pipeline::Impl::remove(FlowId id, Time now) {
  send_last(id, now);
  flow::Flow& flow = at(id);
  table.erase(flow.pre.key);
  ctxq.unbind(flow.post.segment, flow.post.line);
  flow.protocol.closed = true;
  give_back(pools, flow.protocol);
  flow.protocol.ack_now = flow.protocol.ack_delayed = flow.protocol.rst_pending = false;
  flow::Event event{};
  event.kind = flow::Event::Kind::kRemoved;
  event.flow = id;
  events.push(event);
}

void Pipeline::Impl::set_congestion(FlowId id, const flow::CongestionParams& params) {
  flow::ProtocolSlice& s = at(id).protocol;
  if (params.pacing_bytes_per_s == 0 && s.cc.pacing_bytes_per_s != 0) scheduler.reset(id);
  // A reduction found meanwhile counts, and one taken back meanwhile does not.
  const std::uint32_t ssthresh =
      params.as_of == s.reductions ? std::min(s.cc.ssthresh, params.ssthresh) : s.cc.ssthresh;
  s.cc = params;
  s.cc.ssthresh = ssthresh;
}

void Pipeline::Impl::offer_rx_ring(const flow::Command& command, Time now) {
  flow::Flow& flow = at(command.flow);
  if (flow.post.rx_ring[0].valid()) {
    return ring_event(flow::Event::Kind::kRxRingFree, command.flow, command.ring);
  }
  flow.post.rx_next = command.ring;
  Outcome outcome;
  Step step{protocol_options, counters, pools, flow.protocol, now, outcome};
  // How far the application has read decides whether the present ring is free at once.
  (void)look(command.flow, step);
  switch_rx_ring(step, command.ring.bytes());
  finish(command.flow, outcome, now);
  free_old_rings(command.flow, 0, flow.protocol.rcv_head);
}

void Pipeline::Impl::offer_tx_ring(const flow::Command& command) {
  flow::PostSlice& p = at(command.flow).post;
  if (p.tx_ring[0].valid() || p.tx_next.valid() || at(command.flow).protocol.closed) {
    return ring_event(flow::Event::Kind::kTxRingFree, command.flow, command.ring);
  }
  p.tx_next = command.ring;
  ++p.tx_offers;
  ctxq.publish_tx_offer(p);
}

/// The application takes the offered ring at its next write. So the present one is out of use
/// already if it does not write now, and if the peer has all it wrote.
void Pipeline::Impl::renew_tx_ring(const flow::Command& command) {
  offer_tx_ring(command);
  flow::PostSlice& p = at(command.flow).post;
  flow::ProtocolSlice& s = at(command.flow).protocol;
  if (p.tx_next != command.ring || s.snd_una < s.snd_end) return;
  if (!ctxq.writes_nothing(p, s.snd_end)) return;
  s.snd_ring_bytes = 0;  // whatever is written now is written behind a switch
  ring_event(flow::Event::Kind::kTxRingFree, command.flow, std::exchange(p.tx_ring[1], {}));
}

}  // namespace toe::datapath
