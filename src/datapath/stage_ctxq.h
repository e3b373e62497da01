// Context-queue stage.
//
// Purpose: the data path's side of the segments: take in what applications posted, publish
//          positions, give hints, collect doorbells.
// In: hints of applications; Outcomes that left the egress order point.
// Out: AppUpdates for the HC walk; stores to lines; doorbell numbers.
// State: hint queues, contexts and the line-to-flow map of every segment.
// Thread: the worker of the group (one producer per application queue).
// Cost: constant per hint and per published line; two fences per burst.
// Drops: stale_hint; a context that lies is closed and reported (kMisbehaved).
//
// Everything read from a segment is hostile: read once, bounded, checked.
#ifndef TOE_DATAPATH_STAGE_CTXQ_H_
#define TOE_DATAPATH_STAGE_CTXQ_H_

#include <array>
#include <memory>
#include <span>

#include "datapath/counters.h"
#include "datapath/work.h"
#include "flow/messages.h"
#include "shm/hint_queue.h"
#include "shm/segment_view.h"
#include "shm/sleep.h"

namespace toe::datapath {

/// A hint that names a living flow.
struct Posted {
  FlowId flow = kNoFlow;
  ClientId client = kNoClient;
};

class StageCtxq {
 public:
  StageCtxq(flow::EventRing& events, Counters& counters);
  ~StageCtxq();
  StageCtxq(const StageCtxq&) = delete;
  StageCtxq& operator=(const StageCtxq&) = delete;

  // Commands of control.
  void add_segment(SegmentId id, std::uint8_t* base);
  void remove_segment(SegmentId id);
  void open_context(const flow::Command& command);
  void close_context(SegmentId id, std::uint32_t slot);
  /// The line's connection is established and served by `flow`.
  void bind(SegmentId id, std::uint32_t line, FlowId flow);
  void unbind(SegmentId id, std::uint32_t line);
  /// Writes a connection into entry `index` of a listener's accept ring and hints its waiters.
  void announce(const flow::Command& install, std::uint32_t line);

  /// Takes hints in; fills `out` and returns how many. Closes and accepts become events.
  std::size_t collect(std::span<Posted> out);
  /// Reads the words of a flow's line, once each.
  AppUpdate read_line(const flow::PostSlice& post) const;

  /// How far the application has read, for a segment with an urgent pointer.
  void read_reader(const flow::PostSlice& post, RxSummary& rx) const;

  /// Stores what the outcome publishes, and remembers whom to hint.
  void publish(const Outcome& out, const flow::PostSlice& post);
  /// Publishes ring switches and offers.
  void publish_rx_switch(const flow::PostSlice& post);
  void publish_tx_offer(const flow::PostSlice& post);
  /// True when the application is not writing and has written nothing beyond `end`: it will see
  /// what was offered before this call when it writes again.
  bool writes_nothing(const flow::PostSlice& post, std::uint64_t end) const;
  /// Hints whoever is interested in the line (control changed it).
  void notify(SegmentId id, std::uint32_t line);
  /// Gives the hints remembered since the last call; ENSURES: doorbells() is complete.
  void flush();

  bool posted() const;
  std::uint8_t* base(SegmentId id) const { return segments_[index_of(id)].view.base(); }
  std::span<const std::uint32_t> doorbells() const { return {doorbells_.data(), doorbell_count_}; }
  void clear_doorbells() { doorbell_count_ = 0; }
  /// A hint or word of this client cannot be true.
  void misbehaved(ClientId client, const char* reason);

 private:
  void leave_context(SegmentId id, std::uint32_t slot);  ///< it is neither read nor hinted any more
  void report_context(flow::Event::Kind kind, SegmentId id, std::uint32_t slot);

  struct ContextState {
    bool open = false;
    std::uint32_t doorbell = 0;
    ClientId client = kNoClient;
    shm::HintReader from_app;
    shm::HintWriter to_app;
    shm::Ringer ringer;
  };
  struct SegmentState {
    shm::SegmentView view;
    std::uint64_t open = 0;     ///< contexts
    std::uint64_t pending = 0;  ///< contexts whose queue is not drained yet
    std::uint64_t hinted = 0;   ///< contexts that got a hint and may have to be rung
  };
  /// A line that was published in this burst, for hints.
  struct Touched {
    SegmentId segment = kNoSegment;
    std::uint32_t line = 0;
    bool rx = false;
    bool tx = false;
    bool urgent = false;
  };
  /// Each burst of each walk publishes at most this many lines before flush().
  static constexpr std::uint32_t kMaxTouched = 4 * kBurst;
  static constexpr std::uint32_t kMaxDoorbells = 4 * kBurst;
  /// Hints taken per collect(), those without a flow included.
  static constexpr std::uint32_t kMaxTaken = 4 * kBurst;
  /// Of a hint that becomes an event, in hints: a program that posts such ones without end makes
  /// no more events than control takes at once.
  static constexpr std::uint32_t kEventCost = 2;

  ContextState& context(SegmentId id, std::uint32_t slot) {
    return contexts_[index_of(id) * shm::kContexts + slot];
  }
  std::uint32_t& flow_of(SegmentId id, std::uint32_t line) const {
    return flow_of_line_[std::size_t{index_of(id)} * shm::kLines + line];
  }
  void touch(const Touched& touched);
  void hint(const Touched& touched);
  void ring_sleepers();
  std::size_t collect_from(SegmentId id, std::span<Posted> out);
  std::uint32_t next_context(SegmentId id, std::uint64_t left) const;
  bool take(SegmentId id, std::uint32_t slot, Posted& out, bool& drained);
  bool dispatch(SegmentId id, std::uint32_t slot, std::uint32_t entry, Posted& out);

  flow::EventRing& events_;
  Counters& counters_;
  std::unique_ptr<SegmentState[]> segments_;
  std::unique_ptr<ContextState[]> contexts_;
  std::uint32_t* flow_of_line_;  ///< FlowId per line of every segment; mapped, sparse
  std::array<SegmentId, kMaxSegments> active_{};
  std::uint32_t active_count_ = 0;
  std::uint32_t next_active_ = 0;  ///< round robin over segments
  /// Per segment, the context whose turn is first: behind the last that was not drained.
  std::array<std::uint8_t, kMaxSegments> first_slot_{};
  std::array<Touched, kMaxTouched> touched_{};
  std::uint32_t touched_count_ = 0;
  std::array<SegmentId, kMaxSegments> hinted_{};  ///< segments with contexts to ring
  std::uint32_t hinted_count_ = 0;
  std::array<std::uint32_t, kMaxDoorbells> doorbells_{};
  std::uint32_t doorbell_count_ = 0;
  std::uint32_t budget_ = 0;
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_STAGE_CTXQ_H_
