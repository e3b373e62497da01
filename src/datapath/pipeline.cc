#include "datapath/pipeline.h"

#include <array>

#include "base/limits.h"
#include "datapath/delayed_acks.h"
#include "datapath/order.h"
#include "datapath/protocol.h"
#include "datapath/scheduler.h"
#include "datapath/sequencer.h"
#include "datapath/stage_ctxq.h"
#include "datapath/stage_dma.h"
#include "datapath/stage_post.h"
#include "datapath/stage_pre.h"

namespace toe::datapath {
namespace {

/// Events that one walk may cause at most; a walk waits while the ring has less room.
constexpr std::size_t kEventReserve = 16 * kBurst;
/// SYNs handed to control per burst: a flood must not starve established flows.
constexpr std::uint32_t kSynShare = 16;
/// Commands carried out per HC walk.
constexpr std::uint32_t kCommandBudget = 4 * kBurst;

static_assert(kEventRing >= 4 * kEventReserve);

}  // namespace

struct Pipeline::Impl {
  Impl(const Options& options, const Links& links)
      : protocol_options{options.immediate_ack, options.delayed_ack},
        frames(links.frames),
        flows(links.flows),
        table(links.table),
        commands(links.commands),
        events(links.events),
        pre({options.rx_checksum}, links.frames, links.flows, links.table, counters),
        post(counters),
        ctxq(links.events, counters),
        scheduler(static_cast<std::uint32_t>(links.flows.size())),
        delayed(static_cast<std::uint32_t>(links.flows.size())),
        order(options.order_seed) {}

  // Walks, stage by stage.
  void rx(std::span<const Frame> burst, Time now);
  void rx_pre(std::span<const Frame> burst);
  std::size_t rx_protocol(Time now);
  void rx_post_dma(std::size_t count);
  void rx_leave(std::size_t count, Time now);
  bool tx(Time now);
  std::size_t tx_protocol(Time now);
  bool tx_one(FlowId flow, Work& work, Time now);
  void tx_post_dma(std::size_t count);
  void tx_leave(Time now);
  bool hc(Time now);
  std::uint32_t hc_commands(Time now);
  void hc_updates(Time now);

  // Commands of control.
  void execute(const flow::Command& command, Time now);
  void install(const flow::Command& command, Time now);
  void send_last(FlowId flow, Time now);
  void remove(FlowId flow, Time now);
  void set_congestion(flow::ProtocolSlice& s, const flow::CongestionParams& params);
  void offer_rx_ring(const flow::Command& command, Time now);
  void offer_tx_ring(const flow::Command& command);
  void on_flow(const flow::Command& command, Time now);

  // What every walk does at its end.
  void finish(FlowId flow, const Outcome& out, Time now);
  void raise(FlowId flow, const Outcome& out, Time now);
  void switch_rings(FlowId flow, const Outcome& out);
  void free_old_rings(FlowId flow, std::uint64_t tx_una, std::uint64_t rx_head);
  void ring_event(flow::Event::Kind kind, FlowId flow, shm::RingRef ring);
  void to_control(const Frame& frame, StagePre::Verdict verdict);
  bool room_for_events() const { return events.capacity() - events.size() >= kEventReserve; }

  flow::Flow& at(FlowId id) { return flows[index_of(id)]; }

  Counters counters;
  ProtocolOptions protocol_options;
  FramePool& frames;
  std::span<flow::Flow> flows;
  flow::FlowTable& table;
  flow::CommandRing& commands;
  flow::EventRing& events;
  StagePre pre;
  StagePost post;
  StageCtxq ctxq;
  Scheduler scheduler;
  DelayedAcks delayed;
  Order order;
  Sequencer<std::uint16_t> ingress;  ///< before protocol
  Sequencer<std::uint16_t> egress;   ///< before the wire and before publication
  SpscRing<Frame> control_frames{kControlRing};
  SpscRing<Frame> syn_frames{kSynRing};
  std::uint32_t syn_credit = kSynShare;
  std::array<Work, kBurst> work;
  std::array<StagePre::Verdict, kBurst> verdict;
  std::array<std::uint16_t, kBurst> live;
  std::array<Copy, kBurst> copy;
  std::array<Frame, kBurst> out;
  std::size_t out_count = 0;
};

// --- RX walk -------------------------------------------------------------------------------------

void Pipeline::Impl::rx(std::span<const Frame> burst, Time now) {
  TOE_DCHECK(burst.size() <= kBurst);
  counters.frames_in.add(burst.size());
  syn_credit = kSynShare;
  if (!room_for_events()) {  // control is far behind; the peers will send again
    counters.drops.control_behind.add(burst.size());
    for (const Frame& frame : burst) frames.release(frame);
    return;
  }
  rx_pre(burst);
  const std::size_t count = rx_protocol(now);
  rx_post_dma(count);
  rx_leave(count, now);
  ctxq.flush();
}

void Pipeline::Impl::rx_pre(std::span<const Frame> burst) {
  for (std::size_t i = 0; i < burst.size(); ++i) {
    work[i].frame = burst[i];
    work[i].ticket = ingress.take();
    work[i].out = Outcome{};
  }
  for (const std::uint16_t i : order.of(burst.size())) {
    verdict[i] = pre.process(work[i]);
    ingress.put(work[i].ticket, i);
  }
}

/// ENSURES: live[0, n) are the items of flows, in order of arrival, each with an egress ticket.
std::size_t Pipeline::Impl::rx_protocol(Time now) {
  std::size_t count = 0;
  std::uint16_t i = 0;
  while (ingress.pop(i)) {
    if (verdict[i] != StagePre::Verdict::kFlow) {
      to_control(work[i].frame, verdict[i]);
      continue;
    }
    counters.segments_in.add();
    Step step{protocol_options, counters, at(work[i].flow).protocol, now, work[i].out};
    on_segment(step, work[i].rx);
    work[i].ticket = egress.take();
    live[count++] = i;
  }
  return count;
}

void Pipeline::Impl::rx_post_dma(std::size_t count) {
  for (const std::uint16_t n : order.of(count)) {
    Work& w = work[live[n]];
    post.receive(w, at(w.flow).post, copy[n]);
    receive_payload(w, copy[n], frames, ctxq.base(copy[n].segment));
    egress.put(w.ticket, live[n]);
  }
}

void Pipeline::Impl::rx_leave(std::size_t count, Time now) {
  std::uint16_t i = 0;
  while (egress.pop(i)) finish(work[i].flow, work[i].out, now);
  for (std::size_t n = 0; n < count; ++n) frames.release(work[live[n]].frame);
}

void Pipeline::Impl::to_control(const Frame& frame, StagePre::Verdict verdict_of_frame) {
  const bool syn = verdict_of_frame == StagePre::Verdict::kSyn;
  if (verdict_of_frame != StagePre::Verdict::kDrop) {
    if ((syn ? syn_frames : control_frames).push(frame)) {
      counters.to_control.add();
      return;
    }
    (syn ? counters.drops.syn_ring_full : counters.drops.control_full).add();
  }
  frames.release(frame);
}

// --- TX walk -------------------------------------------------------------------------------------

bool Pipeline::Impl::tx(Time now) {
  for (FlowId flow = delayed.pop(now); flow != kNoFlow; flow = delayed.pop(now)) {
    Outcome outcome;
    Step step{protocol_options, counters, at(flow).protocol, now, outcome};
    on_delayed_ack(step);
    finish(flow, outcome, now);
  }
  tx_post_dma(tx_protocol(now));
  tx_leave(now);
  ctxq.flush();
  return scheduler.ready();
}

/// ENSURES: live[0, n) are the items that transmit, each with an egress ticket.
std::size_t Pipeline::Impl::tx_protocol(Time now) {
  std::size_t count = 0;
  for (std::size_t tries = 0; tries < 2 * kBurst && out_count + count < kBurst; ++tries) {
    const FlowId flow = scheduler.pop(now);
    if (flow == kNoFlow) break;
    if (!tx_one(flow, work[count], now)) break;
    if (!work[count].out.transmit) continue;
    work[count].ticket = egress.take();
    live[count] = static_cast<std::uint16_t>(count);
    ++count;
  }
  return count;
}

/// False when no frame is left. Otherwise the flow was asked for its next segment.
bool Pipeline::Impl::tx_one(FlowId flow, Work& item, Time now) {
  item.frame = frames.acquire();
  if (!item.frame.valid()) {
    counters.drops.no_frame.add();
    scheduler.push(flow, now);
    return false;
  }
  item.walk = Walk::kTx;
  item.flow = flow;
  item.out = Outcome{};
  flow::ProtocolSlice& s = at(flow).protocol;
  Step step{protocol_options, counters, s, now, item.out};
  next_segment(step);
  if (item.out.transmit) {
    scheduler.pace(flow, item.out.payload_length, s.cc.pacing_bytes_per_s, now);
  } else {
    frames.release(item.frame);
    raise(flow, item.out, now);
  }
  if (item.out.schedule) scheduler.push(flow, now);
  return true;
}

void Pipeline::Impl::tx_post_dma(std::size_t count) {
  for (const std::uint16_t i : order.of(count)) {
    post.transmit(work[i], at(work[i].flow).post, copy[i]);
    transmit_payload(work[i], copy[i], frames, ctxq.base(copy[i].segment));
    egress.put(work[i].ticket, i);
  }
}

void Pipeline::Impl::tx_leave(Time now) {
  std::uint16_t i = 0;
  while (egress.pop(i)) {
    out[out_count++] = work[i].frame;
    raise(work[i].flow, work[i].out, now);
  }
}

// --- HC walk -------------------------------------------------------------------------------------

bool Pipeline::Impl::hc(Time now) {
  if (!room_for_events()) return true;
  const std::uint32_t executed = hc_commands(now);
  if (!room_for_events()) return true;
  hc_updates(now);
  ctxq.flush();
  return executed == kCommandBudget || ctxq.posted();
}

std::uint32_t Pipeline::Impl::hc_commands(Time now) {
  std::uint32_t count = 0;
  flow::Command command;
  while (count < kCommandBudget && room_for_events() && commands.pop(command)) {
    execute(command, now);
    ++count;
  }
  return count;
}

void Pipeline::Impl::hc_updates(Time now) {
  std::array<Posted, kBurst> posted;
  const std::size_t count = ctxq.collect(posted);
  for (std::size_t i = 0; i < count; ++i) {
    const FlowId flow = posted[i].flow;
    const AppUpdate update = ctxq.read_line(at(flow).post);
    Outcome outcome;
    Step step{protocol_options, counters, at(flow).protocol, now, outcome};
    if (!on_app(step, update)) {
      ctxq.misbehaved(posted[i].client, "positions of a connection cannot be true");
      on_abort(step, ECONNABORTED, true);
    }
    finish(flow, outcome, now);
    if (update.options_changed) at(flow).post.options_epoch = update.options_epoch;
    free_old_rings(flow, 0, update.rx_head);
  }
}

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
    default:
      return on_flow(command, now);
  }
}

/// Commands that are one call of the protocol stage or one assignment.
void Pipeline::Impl::on_flow(const flow::Command& command, Time now) {
  using Kind = flow::Command::Kind;
  flow::Flow& flow = at(command.flow);
  Outcome outcome;
  Step step{protocol_options, counters, flow.protocol, now, outcome};
  if (command.kind == Kind::kTimer) {
    on_timer(step);
  } else if (command.kind == Kind::kOrphan) {
    on_orphan(step, command.reset);
  } else if (command.kind == Kind::kAbort) {
    on_abort(step, command.error, command.reset);
  } else if (command.kind == Kind::kSetMss) {
    flow.protocol.mss = command.mss;
  } else if (command.kind == Kind::kCongestion) {
    set_congestion(flow.protocol, command.cc);
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
  Step step{protocol_options, counters, flow.protocol, now, outcome};
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
  flow.protocol.ack_now = flow.protocol.ack_delayed = flow.protocol.rst_pending = false;
  flow::Event event{};
  event.kind = flow::Event::Kind::kRemoved;
  event.flow = id;
  events.push(event);
}

void Pipeline::Impl::set_congestion(flow::ProtocolSlice& s, const flow::CongestionParams& params) {
  const std::uint32_t ssthresh = std::min(s.cc.ssthresh, params.ssthresh);
  s.cc = params;
  s.cc.ssthresh = ssthresh;  // a loss found meanwhile counts
}

void Pipeline::Impl::offer_rx_ring(const flow::Command& command, Time now) {
  flow::Flow& flow = at(command.flow);
  if (flow.post.rx_ring[0].valid()) {
    return ring_event(flow::Event::Kind::kRxRingFree, command.flow, command.ring);
  }
  flow.post.rx_next = command.ring;
  Outcome outcome;
  Step step{protocol_options, counters, flow.protocol, now, outcome};
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

// --- The end of every walk -----------------------------------------------------------------------

void Pipeline::Impl::finish(FlowId flow, const Outcome& outcome, Time now) {
  if ((outcome.events & (Outcome::kRxSwitch | Outcome::kRxSwitchRefused | Outcome::kTxSwitch)) !=
      0) {
    switch_rings(flow, outcome);
  }
  ctxq.publish(outcome, at(flow).post);
  if (outcome.publish) free_old_rings(flow, outcome.tx_una, 0);
  if (outcome.schedule) scheduler.push(flow, now);
  if (outcome.delay_ack) delayed.push(flow, at(flow).protocol.ack_at);
  raise(flow, outcome, now);
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
  if (p.rx_ring[0].valid() && rx_head >= p.rx_switch && rx_head != 0) {
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

void Pipeline::Impl::raise(FlowId id, const Outcome& outcome, Time now) {
  using Kind = flow::Event::Kind;
  static constexpr struct {
    std::uint16_t bit;
    Kind kind;
  } kMap[] = {{Outcome::kArm, Kind::kArm},
              {Outcome::kRound, Kind::kRound},
              {Outcome::kLoss, Kind::kLoss},
              {Outcome::kTimeout, Kind::kTimeout},
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
    event.sample = {
        now,    s.cwnd,    s.cc.ssthresh, s.mss, static_cast<std::uint32_t>(s.snd_max - s.snd_una),
        s.srtt, s.min_rtt, s.snd_una};
    events.push(event);
  }
}

// --- Interface -----------------------------------------------------------------------------------

Pipeline::Pipeline(const Options& options, const Links& links)
    : impl_(std::make_unique<Impl>(options, links)) {}
Pipeline::~Pipeline() = default;

void Pipeline::rx(std::span<const Frame> frames, Time now) { impl_->rx(frames, now); }
bool Pipeline::hc(Time now) { return impl_->hc(now); }
bool Pipeline::tx(Time now) { return impl_->tx(now); }

std::span<const Frame> Pipeline::out() const { return {impl_->out.data(), impl_->out_count}; }
void Pipeline::sent() { impl_->out_count = 0; }

bool Pipeline::to_control(Frame& frame) {
  if (impl_->control_frames.pop(frame)) return true;
  if (impl_->syn_credit == 0 || !impl_->syn_frames.pop(frame)) return false;
  --impl_->syn_credit;
  return true;
}

std::span<const std::uint32_t> Pipeline::doorbells() const { return impl_->ctxq.doorbells(); }
void Pipeline::clear_doorbells() { impl_->ctxq.clear_doorbells(); }

Time Pipeline::next_deadline() const {
  return std::min(impl_->delayed.next_deadline(), impl_->scheduler.next_deadline());
}
bool Pipeline::posted() const { return impl_->ctxq.posted(); }
const Counters& Pipeline::counters() const { return impl_->counters; }

}  // namespace toe::datapath
