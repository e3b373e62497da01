// The two ends of a hint queue, and the mask that keeps it from overflowing.
//
// A queue has one writer and one reader. Both keep their own index; the shared copy is for the
// other side only, so that a peer that scribbles over it can confuse nobody but itself.
#ifndef TOE_SHM_HINT_QUEUE_H_
#define TOE_SHM_HINT_QUEUE_H_

#include <atomic>
#include <cstdint>

#include "shm/segment_format.h"

namespace toe::shm {

/// Announces a hint for the line that owns `mask`. True: the caller must append it now. False: one
/// is under way, and its reader will look after this call. Full barrier either way.
inline bool mark_hinted(std::atomic<std::uint64_t>& mask, std::uint32_t slot) {
  const std::uint64_t bit = std::uint64_t{1} << slot;
  return (mask.fetch_or(bit, std::memory_order_seq_cst) & bit) == 0;
}

/// The reader's half: to be called after a hint was taken and BEFORE the line is looked at.
inline void clear_hinted(std::atomic<std::uint64_t>& mask, std::uint32_t slot) {
  mask.fetch_and(~(std::uint64_t{1} << slot), std::memory_order_seq_cst);
}

/// Writing end. Thread: one at a time.
class HintWriter {
 public:
  HintWriter() = default;
  /// Starts where the reader stands, so that the queue is empty.
  HintWriter(std::atomic<std::uint32_t>* slots, std::atomic<std::uint32_t>* tail,
             const std::atomic<std::uint32_t>* head)
      : slots_(slots), tail_(tail), head_(head), next_(head->load(std::memory_order_acquire)) {
    tail_->store(next_, std::memory_order_release);
  }

  /// False when the queue is full: its reader has broken the rule of one hint per line, or lies.
  bool append(std::uint32_t entry) {
    if (next_ - head_->load(std::memory_order_acquire) >= kQueueEntries) return false;
    slots_[next_ % kQueueEntries].store(entry, std::memory_order_relaxed);
    tail_->store(++next_, std::memory_order_release);  // publishes the entry
    return true;
  }

 private:
  std::atomic<std::uint32_t>* slots_ = nullptr;
  std::atomic<std::uint32_t>* tail_ = nullptr;
  const std::atomic<std::uint32_t>* head_ = nullptr;
  std::uint32_t next_ = 0;
};

enum class Taken : std::uint8_t {
  kNone,    ///< nothing waits
  kEntry,   ///< an entry was taken; its contents are the writer's word and unchecked
  kBroken,  ///< the writer's index cannot be true
};

/// Reading end. Thread: one at a time.
class HintReader {
 public:
  HintReader() = default;
  /// Starts where the writer stands, so that the queue is empty.
  HintReader(const std::atomic<std::uint32_t>* slots, const std::atomic<std::uint32_t>* tail,
             std::atomic<std::uint32_t>* head)
      : slots_(slots), tail_(tail), head_(head), next_(tail->load(std::memory_order_acquire)) {
    head_->store(next_, std::memory_order_release);
  }

  /// Any thread; a moment's truth. True when take() would find something.
  bool pending() const {
    return slots_ != nullptr &&
           tail_->load(std::memory_order_acquire) != head_->load(std::memory_order_relaxed);
  }

  Taken take(std::uint32_t& entry) {
    const std::uint32_t waiting = tail_->load(std::memory_order_acquire) - next_;
    if (waiting == 0) return Taken::kNone;
    if (waiting > kQueueEntries) return Taken::kBroken;
    entry = slots_[next_ % kQueueEntries].load(std::memory_order_relaxed);
    head_->store(++next_, std::memory_order_release);  // hands the slot back
    return Taken::kEntry;
  }

 private:
  const std::atomic<std::uint32_t>* slots_ = nullptr;
  const std::atomic<std::uint32_t>* tail_ = nullptr;
  std::atomic<std::uint32_t>* head_ = nullptr;
  std::uint32_t next_ = 0;
};

}  // namespace toe::shm

#endif  // TOE_SHM_HINT_QUEUE_H_
