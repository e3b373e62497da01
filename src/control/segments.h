// Segments as control sees them: who owns them, which lines and rings are taken, whose contexts
// are open. All of it in the engine's own memory; shared memory is only written.
#ifndef TOE_CONTROL_SEGMENTS_H_
#define TOE_CONTROL_SEGMENTS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/limits.h"
#include "base/types.h"
#include "control/arena.h"
#include "control/index_list.h"
#include "shm/segment_view.h"

namespace toe::control {

/// What a line is used for: a record number of connections or listeners.
struct LineUse {
  enum class Kind : std::uint8_t { kFree, kConnection, kListener };
  Kind kind = Kind::kFree;
  std::uint32_t record = kNil;
  std::uint32_t generation = 0;  ///< as in the line; odd while in use
};

/// Whose a context is, and what its opener is told once it is open.
struct ContextUse {
  ClientId client = kNoClient;
  std::uint32_t doorbell = 0;
  std::uint64_t tag = 0;
};

class Segment {
 public:
  Segment(SegmentId id, ClientId owner, std::uint32_t uid, std::uint8_t* base);

  /// Takes the lowest free line and resets it: generation odd, all other words 0. 0 = none left.
  std::uint32_t take_line(LineUse::Kind kind, std::uint32_t record);
  /// Makes the line free: state kFree, generation even.
  void free_line(std::uint32_t line);
  /// kFree for line numbers that are out of range or not in use.
  LineUse line_use(std::uint32_t line) const;
  shm::Line& line(std::uint32_t line) const { return view_.line(line); }

  /// Takes a context slot from 1 up and resets its words. 0 = none left.
  std::uint32_t open_context(const ContextUse& use);
  const ContextUse& context_use(std::uint32_t slot) const { return contexts_[slot]; }
  /// Contexts of a client, as a mask.
  std::uint64_t contexts_of(ClientId client) const;
  /// Wipes what the contexts in `mask` left in a line: a hint bit left set would keep the next user
  /// of the slot from ever being hinted. True: there was something. REQUIRES: line < line_count().
  bool wipe_line(std::uint32_t line, std::uint64_t mask);
  /// Lines from this one on were never used.
  std::uint32_t line_count() const { return static_cast<std::uint32_t>(lines_.size()); }
  /// The slots may be used again. REQUIRES: every line was wiped of them.
  void close_contexts(std::uint64_t mask);
  ClientId context_owner(std::uint32_t slot) const {
    return slot < shm::kContexts ? contexts_[slot].client : kNoClient;
  }

  SegmentId id() const { return id_; }
  ClientId owner() const { return owner_; }
  std::uint32_t uid() const { return uid_; }
  const shm::SegmentView& view() const { return view_; }
  RingArena& arena() { return arena_; }
  std::uint32_t lines_used() const { return lines_used_; }
  /// Nothing in it is used, neither line nor ring nor context, and nobody but its owner has it.
  bool empty() const {
    return lines_used_ == 0 && contexts_used_ == 0 && arena_.used_bytes() == 0 && shown == 0;
  }

  bool removing = false;    ///< kRemoveSegment is under way
  std::uint32_t shown = 0;  ///< programs that have it besides its owner: its number stays taken

 private:
  SegmentId id_;
  ClientId owner_;
  std::uint32_t uid_;
  shm::SegmentView view_;
  RingArena arena_;
  std::vector<LineUse> lines_;  ///< as long as the highest line ever used
  std::array<std::uint64_t, shm::kLines / 64> line_free_;
  std::uint32_t first_word_ = 0;  ///< words before have no free line
  std::uint32_t lines_used_ = 0;
  std::array<ContextUse, shm::kContexts> contexts_{};
  std::uint32_t contexts_used_ = 0;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_SEGMENTS_H_
