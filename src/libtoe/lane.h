// One context of one segment, from the application's side: hints out, hints in.
//
// Thread: post() any; take() and the sleep words one thread at a time (the waiter).
#ifndef TOE_LIBTOE_LANE_H_
#define TOE_LIBTOE_LANE_H_

#include "libtoe/engine_link.h"
#include "libtoe/mutex.h"
#include "libtoe/segment_map.h"
#include "shm/hint_queue.h"
#include "shm/sleep.h"

namespace toe::libtoe {

/// What wakes the engine: its page and the doorbell, one per attachment.
struct EngineBell {
  const shm::EnginePage* page = nullptr;
  EngineLink* link = nullptr;
  shm::Ringer ringer;
  std::atomic<bool> muted{false};  ///< the engine is gone, or the lanes are a forked parent's
};

class Lane {
 public:
  /// REQUIRES: `slot` is this process's context in `segment`; no hint was posted in it yet.
  void open(MappedSegment* segment, std::uint32_t slot, EngineBell* bell);
  bool is_open() const { return segment_ != nullptr; }

  /// Tells the engine of `line`; what it shall see has been stored. No system call unless the
  /// engine sleeps. Nothing happens once the bell is muted.
  void post(std::uint32_t line, shm::HintOp op = shm::HintOp::kLook);

  /// True when take() would find a hint.
  bool pending() const { return reader_.pending(); }
  /// Takes one hint and clears its mark; the caller looks at the line afterwards.
  bool take(std::uint32_t& line);

  shm::Context& context() const { return segment_->view.context(slot_); }
  MappedSegment& segment() const { return *segment_; }
  std::uint32_t slot() const { return slot_; }
  std::uint64_t bit() const { return std::uint64_t{1} << slot_; }
  /// What claims and lock words of lines hold when this lane's process owns them.
  std::uint32_t owner() const { return slot_ + 1; }

 private:
  MappedSegment* segment_ = nullptr;
  std::uint32_t slot_ = 0;
  EngineBell* bell_ = nullptr;
  shm::HintReader reader_;
  Mutex write_mutex_;
  shm::HintWriter writer_;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_LANE_H_
