#include "datapath/stage_ctxq.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <memory>

namespace toe::datapath {
namespace {

constexpr std::size_t kMapBytes = std::size_t{kMaxSegments} * shm::kLines * sizeof(std::uint32_t);
constexpr std::uint32_t kUnbound =
    0;  ///< the map holds flow index + 1, so that zero pages say "none"

std::uint32_t* map_lines() {
  void* memory = mmap(nullptr, kMapBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TOE_CHECK(memory != MAP_FAILED);
  return static_cast<std::uint32_t*>(memory);
}

void read_options(const shm::Line& line, AppUpdate& update) {
  update.keep_idle_s = line.keep_idle_s.load(std::memory_order_relaxed);
  update.keep_interval_s = line.keep_interval_s.load(std::memory_order_relaxed);
  update.keep_count = line.keep_count.load(std::memory_order_relaxed);
  update.user_timeout_ms = line.user_timeout_ms.load(std::memory_order_relaxed);
}

}  // namespace

StageCtxq::StageCtxq(flow::EventRing& events, Counters& counters)
    : events_(events),
      counters_(counters),
      segments_(std::make_unique<SegmentState[]>(kMaxSegments)),
      contexts_(std::make_unique<ContextState[]>(std::size_t{kMaxSegments} * shm::kContexts)),
      flow_of_line_(map_lines()) {}

StageCtxq::~StageCtxq() { munmap(flow_of_line_, kMapBytes); }

void StageCtxq::add_segment(SegmentId id, std::uint8_t* base) {
  segments_[index_of(id)] = {shm::SegmentView(base), 0, 0, 0};
  active_[active_count_++] = id;
}

void StageCtxq::remove_segment(SegmentId id) {
  segments_[index_of(id)] = {};
  ring_sleepers();  // forgets the segment there
  for (std::uint32_t i = 0; i < active_count_; ++i) {
    if (active_[i] == id) active_[i--] = active_[--active_count_];
  }
  next_active_ = 0;
  flow::Event event{};
  event.kind = flow::Event::Kind::kSegmentRemoved;
  event.segment = id;
  events_.push(event);
}

void StageCtxq::open_context(const flow::Command& command) {
  SegmentState& segment = segments_[index_of(command.segment)];
  ContextState& state = context(command.segment, command.slot);
  shm::Context& shared = segment.view.context(command.slot);
  state.open = true;
  state.doorbell = command.doorbell;
  state.client = command.client;
  std::construct_at(&state.ringer);  // the previous owner's epochs mean nothing
  state.from_app = shm::HintReader(segment.view.engine_queue(command.slot), &shared.engine_tail,
                                   &shared.engine_head);
  state.to_app =
      shm::HintWriter(segment.view.app_queue(command.slot), &shared.app_tail, &shared.app_head);
  segment.open |= std::uint64_t{1} << command.slot;
  report_context(flow::Event::Kind::kContextOpened, command.segment, command.slot);
}

void StageCtxq::leave_context(SegmentId id, std::uint32_t slot) {
  context(id, slot).open = false;
  segments_[index_of(id)].open &= ~(std::uint64_t{1} << slot);
  segments_[index_of(id)].pending &= ~(std::uint64_t{1} << slot);
}

void StageCtxq::close_context(SegmentId id, std::uint32_t slot) {
  leave_context(id, slot);
  report_context(flow::Event::Kind::kContextClosed, id, slot);
}

void StageCtxq::report_context(flow::Event::Kind kind, SegmentId id, std::uint32_t slot) {
  flow::Event event{};
  event.kind = kind;
  event.segment = id;
  event.slot = slot;
  events_.push(event);
}

void StageCtxq::bind(SegmentId id, std::uint32_t line, FlowId flow) {
  flow_of(id, line) = index_of(flow) + 1;
  segments_[index_of(id)].view.line(line).state.store(
      static_cast<std::uint32_t>(shm::LineState::kEstablished), std::memory_order_release);
}

void StageCtxq::unbind(SegmentId id, std::uint32_t line) { flow_of(id, line) = kUnbound; }

void StageCtxq::announce(const flow::Command& install, std::uint32_t line) {
  const shm::SegmentView& view = segments_[index_of(install.segment)].view;
  auto* slots = reinterpret_cast<shm::AcceptEntry*>(view.ring(install.ring));
  const std::uint64_t entries = install.ring.bytes() / sizeof(shm::AcceptEntry);
  slots[install.accept_index & (entries - 1)].store(shm::make_claim(install.generation, line),
                                                    std::memory_order_relaxed);
  view.line(install.line).rx_tail.store(install.accept_index + 1, std::memory_order_release);
  touch({install.segment, install.line, true, false});
}

// A segment that is not drained in its turn waits until all others have had theirs.
std::size_t StageCtxq::collect(std::span<Posted> out) {
  std::size_t count = 0;
  budget_ = kMaxTaken;
  for (std::uint32_t i = 0; i < active_count_ && count < out.size() && budget_ > 0; ++i) {
    const SegmentId id = active_[next_active_];
    next_active_ = next_active_ + 1 >= active_count_ ? 0 : next_active_ + 1;
    SegmentState& segment = segments_[index_of(id)];
    std::atomic<std::uint64_t>& posted = segment.view.header().posted;
    if (posted.load(std::memory_order_relaxed) != 0) {
      segment.pending |= posted.exchange(0, std::memory_order_seq_cst);  // cleared before the look
    }
    segment.pending &= segment.open;
    if (segment.pending != 0) count += collect_from(id, out.subspan(count));
  }
  return count;
}

std::size_t StageCtxq::collect_from(SegmentId id, std::span<Posted> out) {
  SegmentState& segment = segments_[index_of(id)];
  std::size_t count = 0;
  for (std::uint64_t left = segment.pending; left != 0 && count < out.size() && budget_ > 0;) {
    const std::uint32_t slot = next_context(id, left);
    left &= ~(std::uint64_t{1} << slot);
    bool drained = false;
    while (count < out.size() && !drained && budget_ > 0) {
      --budget_;
      count += take(id, slot, out[count], drained) ? 1 : 0;
    }
    if (drained) {
      segment.pending &= ~(std::uint64_t{1} << slot);
    } else {
      first_slot_[index_of(id)] = static_cast<std::uint8_t>((slot + 1) % shm::kContexts);
    }
  }
  return count;
}

// The first of the contexts in `left` from where the last turn ended.
std::uint32_t StageCtxq::next_context(SegmentId id, std::uint64_t left) const {
  if (std::has_single_bit(left)) return static_cast<std::uint32_t>(std::countr_zero(left));
  const std::uint64_t ahead = left & (~std::uint64_t{0} << first_slot_[index_of(id)]);
  return static_cast<std::uint32_t>(std::countr_zero(ahead != 0 ? ahead : left));
}

bool StageCtxq::take(SegmentId id, std::uint32_t slot, Posted& out, bool& drained) {
  ContextState& state = context(id, slot);
  std::uint32_t entry = 0;
  switch (state.from_app.take(entry)) {
    case shm::Taken::kNone:
      drained = true;
      return false;
    case shm::Taken::kBroken:
      drained = true;
      leave_context(id, slot);
      misbehaved(state.client, "hint queue index out of range");
      return false;
    case shm::Taken::kEntry:
      break;
  }
  counters_.hints_in.add();
  const std::uint32_t line = shm::hint_line(entry);
  if (line == 0 || line >= shm::kLines || shm::hint_op(entry) > shm::HintOp::kAccept) {
    drained = true;
    leave_context(id, slot);
    misbehaved(state.client, "hint names no line or operation");
    return false;
  }
  return dispatch(id, slot, entry, out);
}

bool StageCtxq::dispatch(SegmentId id, std::uint32_t slot, std::uint32_t entry, Posted& out) {
  const ContextState& state = context(id, slot);
  const std::uint32_t line = shm::hint_line(entry);
  const shm::HintOp op = shm::hint_op(entry);
  if (op == shm::HintOp::kLook) {
    shm::clear_hinted(segments_[index_of(id)].view.line(line).hinted_engine, slot);
  } else {
    budget_ -= std::min(budget_, kEventCost - 1);
    flow::Event event{};
    event.kind =
        op == shm::HintOp::kAccept ? flow::Event::Kind::kHold : flow::Event::Kind::kRelease;
    event.reset = op == shm::HintOp::kCloseReset;
    event.segment = id;
    event.line = line;
    event.slot = slot;
    event.client = state.client;
    events_.push(event);
  }
  const std::uint32_t bound = flow_of(id, line);
  if (bound == kUnbound) {
    if (op == shm::HintOp::kLook) counters_.drops.stale_hint.add();
    return false;
  }
  out = {FlowId{bound - 1}, state.client};
  return true;
}

AppUpdate StageCtxq::read_line(const flow::PostSlice& post) const {
  const shm::Line& line = segments_[index_of(post.segment)].view.line(post.line);
  AppUpdate update;
  update.app_flags = line.app_flags.load(std::memory_order_acquire);  // before tx_tail: no byte
  update.tx_tail = line.tx_tail.load(std::memory_order_acquire);      // may follow kShutWrite
  update.rx_head = line.rx_head.load(std::memory_order_acquire);
  if (post.tx_next.valid() && line.tx_taken.load(std::memory_order_acquire) == post.tx_offers) {
    update.tx_switched = true;
    update.tx_switch = line.tx_switch.load(std::memory_order_relaxed);
    update.tx_ring_bytes = post.tx_next.bytes();
    update.tx_tail = line.tx_tail.load(std::memory_order_acquire);  // not older than the switch
  }
  if ((update.app_flags & shm::kUrgentSent) != 0) {  // behind tx_tail: it may not be older
    update.tx_urgent = line.tx_urgent.load(std::memory_order_relaxed);
  }
  update.options_epoch = line.options_epoch.load(std::memory_order_acquire);
  update.options_changed = update.options_epoch != post.options_epoch;
  if (update.options_changed) read_options(line, update);
  return update;
}

void StageCtxq::read_reader(const flow::PostSlice& post, RxSummary& rx) const {
  if (!segments_[index_of(post.segment)].view.valid()) return;
  const shm::Line& line = segments_[index_of(post.segment)].view.line(post.line);
  rx.app_head = line.rx_head.load(std::memory_order_acquire);
  rx.urgent_inline = (line.app_flags.load(std::memory_order_relaxed) & shm::kUrgentInline) != 0;
}

namespace {

/// Before rx_tail covers the byte: who sees it there sees kRxUrgent too.
void publish_urgent(const Outcome& out, shm::Line& line) {
  line.rx_skip_begin.store(out.rx_skip.begin, std::memory_order_relaxed);
  line.rx_skip_end.store(out.rx_skip.end, std::memory_order_release);  // behind its begin
  line.rx_urgent.store(out.rx_urgent, std::memory_order_release);
  if (out.urgent_here) line.rx_urgent_here.store(out.rx_urgent, std::memory_order_release);
  line.flags.fetch_or(shm::kRxUrgent, std::memory_order_release);
}

}  // namespace

void StageCtxq::publish(const Outcome& out, const flow::PostSlice& post) {
  if (!out.publish || !segments_[index_of(post.segment)].view.valid()) return;
  shm::Line& line = segments_[index_of(post.segment)].view.line(post.line);
  if (out.urgent_news) publish_urgent(out, line);
  line.rx_tail.store(out.rx_tail, std::memory_order_release);
  line.tx_una.store(out.tx_una, std::memory_order_release);
  if (out.error != 0) line.error.store(out.error, std::memory_order_release);
  if (out.line_flags != 0) line.flags.store(out.line_flags, std::memory_order_release);
  if (out.line_closed) {
    line.state.store(static_cast<std::uint32_t>(shm::LineState::kClosed),
                     std::memory_order_release);
  }
  if (out.hint_rx || out.hint_tx) {
    touch({post.segment, post.line, out.hint_rx, out.hint_tx, out.urgent_news});
  }
}

void StageCtxq::publish_rx_switch(const flow::PostSlice& post) {
  shm::Line& line = segments_[index_of(post.segment)].view.line(post.line);
  const std::uint32_t slot = post.rx_epoch & 1;
  line.rx_ring[slot].store(post.rx_ring[1].word, std::memory_order_relaxed);
  line.rx_switch[slot].store(post.rx_switch, std::memory_order_relaxed);
  line.rx_epoch.store(post.rx_epoch, std::memory_order_release);
}

void StageCtxq::publish_tx_offer(const flow::PostSlice& post) {
  shm::Line& line = segments_[index_of(post.segment)].view.line(post.line);
  line.tx_ring[post.tx_offers & 1].store(post.tx_next.word, std::memory_order_relaxed);
  line.tx_offered.store(post.tx_offers, std::memory_order_release);
  touch({post.segment, post.line, false, true});
}

bool StageCtxq::writes_nothing(const flow::PostSlice& post, std::uint64_t end) const {
  const shm::Line& line = segments_[index_of(post.segment)].view.line(post.line);
  shm::full_fence();  // pairs with the writer's, between tx_writing and its look at tx_offered
  return line.tx_writing.load(std::memory_order_acquire) == 0 &&
         line.tx_tail.load(std::memory_order_acquire) == end;
}

void StageCtxq::notify(SegmentId id, std::uint32_t line) {
  if (segments_[index_of(id)].view.valid()) touch({id, line, true, true});
}

void StageCtxq::touch(const Touched& touched) {
  if (touched_count_ == kMaxTouched) flush();
  touched_[touched_count_++] = touched;
}

void StageCtxq::flush() {
  if (touched_count_ == 0 && hinted_count_ == 0) return;
  shm::full_fence();  // everything published is visible before any interest is read
  for (std::uint32_t i = 0; i < touched_count_; ++i) hint(touched_[i]);
  touched_count_ = 0;
  ring_sleepers();
}

void StageCtxq::hint(const Touched& touched) {
  SegmentState& segment = segments_[index_of(touched.segment)];
  if (!segment.view.valid()) return;
  shm::Line& line = segment.view.line(touched.line);
  std::uint64_t whom = 0;
  if (touched.rx) whom |= line.rx_interest.load(std::memory_order_relaxed);
  if (touched.tx) whom |= line.tx_interest.load(std::memory_order_relaxed);
  if (touched.urgent) whom |= line.urgent_interest.load(std::memory_order_relaxed);
  for (whom &= segment.open; whom != 0; whom &= whom - 1) {
    const auto slot = static_cast<std::uint32_t>(std::countr_zero(whom));
    if (!shm::mark_hinted(line.hinted_app, slot)) continue;
    ContextState& state = context(touched.segment, slot);
    if (!state.to_app.append(shm::make_hint(shm::HintOp::kLook, touched.line))) {
      leave_context(touched.segment, slot);
      misbehaved(state.client, "hint queue overflowed");
      continue;
    }
    counters_.hints_out.add();
    if (segment.hinted == 0) hinted_[hinted_count_++] = touched.segment;
    segment.hinted |= std::uint64_t{1} << slot;
  }
}

/// What finds no room is rung after the caller has rung the others.
void StageCtxq::ring_sleepers() {
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < hinted_count_; ++i) {
    const SegmentId id = hinted_[i];
    SegmentState& segment = segments_[index_of(id)];
    segment.hinted &= segment.open;
    while (segment.hinted != 0 && doorbell_count_ < kMaxDoorbells) {
      const auto slot = static_cast<std::uint32_t>(std::countr_zero(segment.hinted));
      segment.hinted &= segment.hinted - 1;
      ContextState& state = context(id, slot);
      if (!state.ringer.must_ring(segment.view.context(slot).sleep_epoch)) continue;
      doorbells_[doorbell_count_++] = state.doorbell;
      counters_.doorbells.add();
    }
    if (segment.hinted != 0) hinted_[kept++] = id;
  }
  hinted_count_ = kept;
}

bool StageCtxq::posted() const {
  if (hinted_count_ != 0) return true;
  for (std::uint32_t i = 0; i < active_count_; ++i) {
    const SegmentState& segment = segments_[index_of(active_[i])];
    if (segment.pending != 0) return true;
    if (segment.view.header().posted.load(std::memory_order_acquire) != 0) return true;
  }
  return false;
}

void StageCtxq::misbehaved(ClientId client, const char* reason) {
  counters_.misbehaved.add();
  flow::Event event{};
  event.kind = flow::Event::Kind::kMisbehaved;
  event.client = client;
  event.reason = reason;
  events_.push(event);
}

}  // namespace toe::datapath
