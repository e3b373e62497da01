// The three walks, stage by stage.
#include "datapath/pipeline.h"

#include <algorithm>
#include <cerrno>

#include "datapath/pipeline_impl.h"
#include "wire/segment.h"

namespace toe::datapath {
namespace {

/// Headers and the first payload bytes; hardware follows a longer frame by itself.
void prefetch_headers(const std::uint8_t* frame) {
  __builtin_prefetch(frame);
  __builtin_prefetch(frame + kCacheLine);
}

}  // namespace

// --- RX walk -------------------------------------------------------------------------------------

void Pipeline::Impl::rx(std::span<const Frame> burst, Time now) {
  TOE_DCHECK(burst.size() <= kBurst);
  counters.frames_in.add(burst.size());
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
    prefetch_headers(frames.bytes(burst[i]).data());
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
    if ((work[i].rx.flags & wire::kUrg) != 0) ctxq.read_reader(at(work[i].flow).post, work[i].rx);
    Step step{protocol_options, counters, pools, at(work[i].flow).protocol, now, work[i].out};
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
  for (std::uint32_t i = 0; i < kBurst; ++i) {  // the rest is due at the next call
    const FlowId flow = delayed.pop(now);
    if (flow == kNoFlow) break;
    Outcome outcome;
    Step step{protocol_options, counters, pools, at(flow).protocol, now, outcome};
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
  if (frames.free_count() < kMaxFrameChunks) {  // the segment may need so many
    counters.drops.no_frame.add();
    schedule(flow, now);
    return false;
  }
  item.frame = frames.acquire();
  item.walk = Walk::kTx;
  item.flow = flow;
  item.out = Outcome{};
  flow::ProtocolSlice& s = at(flow).protocol;
  Step step{protocol_options, counters, pools, s, now, item.out};
  if (scheduler.held(flow, now)) {
    next_bare_segment(step);
  } else {
    next_segment(step);
  }
  if (item.out.transmit && at(flow).post.header.mute) [[unlikely]] {
    item.out.transmit = false;  // as if it had been lost on the way
    counters.drops.mute.add();
  }
  if (item.out.transmit) {
    const std::uint32_t bytes = item.out.payload_length;
    if (bytes != 0) scheduler.pace(flow, bytes, s.cc.pacing_bytes_per_s, now);
    if (bytes > one_chunk) [[unlikely]] {
      add_chunks(item.frame, bytes);
    }
  } else {
    frames.release(item.frame);
    raise(flow, item.out, now);
  }
  if (item.out.schedule) schedule(flow, now);
  return true;
}

/// Gives a frame the chunks that `payload` bytes need; each has as much length as it takes of them.
/// REQUIRES: kMaxFrameChunks - 1 chunks are free.
void Pipeline::Impl::add_chunks(Frame& frame, std::uint32_t payload) {
  const std::uint32_t chunk = frames.chunk_bytes();
  TOE_CHECK(payload - one_chunk <= (kMaxFrameChunks - 1) * chunk);
  frame.length = static_cast<std::uint16_t>(one_chunk);
  for (std::uint32_t left = payload - one_chunk; left > 0;) {
    Frame part = frames.acquire();
    part.offset = 0;
    part.length = static_cast<std::uint16_t>(std::min(left, chunk));
    left -= part.length;
    frames.append(frame, part);
  }
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
  syn_credit = kSynShare;
  if (!room_for_events()) return true;
  const std::uint32_t executed = hc_commands(now);
  if (!room_for_events()) return true;
  hc_updates(now);
  ctxq.flush();
  const bool frames_wait = !syn_frames.empty() || !control_frames.empty();
  return executed == kCommandBudget || frames_wait || ctxq.posted();
}

std::uint32_t Pipeline::Impl::hc_commands(Time now) {
  std::uint32_t count = 0;
  flow::Command command;
  // A command may send a last frame (see send_last), so none is taken while there is no room.
  while (count < kCommandBudget && out_count < kBurst && room_for_events() &&
         commands.pop(command)) {
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
    Outcome outcome;
    Step step{protocol_options, counters, pools, at(flow).protocol, now, outcome};
    const bool truth = look(flow, step);
    if (!truth) ctxq.misbehaved(posted[i].client, "positions of a connection cannot be true");
    finish(flow, outcome, now);
    if (truth) free_old_rings(flow, 0, at(flow).protocol.rcv_head);
  }
}

/// Takes in what the program has written to the line. False: it cannot be true, and the
/// connection was ended.
bool Pipeline::Impl::look(FlowId id, Step& step) {
  flow::PostSlice& post = at(id).post;
  const AppUpdate update = ctxq.read_line(post);
  if (!on_app(step, update)) {
    on_abort(step, ECONNABORTED, true);
    return false;
  }
  if (update.options_changed) post.options_epoch = update.options_epoch;
  return true;
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
Held Pipeline::held() const {
  const Impl& p = *impl_;
  Held held;
  held.tickets = p.ingress.in_flight() + p.egress.in_flight();
  held.records = p.pools.boards.in_use() + p.pools.ranges.in_use();
  held.waiting = p.delayed.count() + p.scheduler.count();
  held.keys = p.table.size();
  held.for_control = static_cast<std::uint32_t>(p.control_frames.size() + p.syn_frames.size());
  held.frames = held.for_control + static_cast<std::uint32_t>(p.out_count);
  held.messages = static_cast<std::uint32_t>(p.commands.size() + p.events.size());
  return held;
}

}  // namespace toe::datapath
