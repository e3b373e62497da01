// A fixed number of records that flows borrow and may lose again: when all are lent, the next
// borrower gets one that was not used lately. So a peer that leaves gaps on many connections
// cannot keep others from having theirs.
//
// A borrower asks holds() before each use. It is known by its address, so one that has lost its
// record finds out, whoever has it now.
//
// Bound: `capacity` (at least 1), given at start; take() costs kLooks looks at most. Memory is
// reserved at start and touched by use only.
// Thread: one worker.
#ifndef TOE_FLOW_LOANS_H_
#define TOE_FLOW_LOANS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "base/check.h"
#include "flow/pool.h"

namespace toe::flow {

template <typename T>
class Loans {
 public:
  /// Records looked at for one that was not used since the last look at it.
  static constexpr std::uint32_t kLooks = 8;
  static_assert(std::is_trivially_destructible_v<T>);

  explicit Loans(std::uint32_t capacity)
      : capacity_(capacity),
        slots_(std::make_unique_for_overwrite<Slot[]>(capacity)),
        free_(std::make_unique_for_overwrite<PoolId[]>(capacity)) {}

  /// A fresh record; if none is free, another borrower loses its own.
  PoolId take(const void* holder) {
    PoolId id = 0;
    if (free_count_ != 0) {
      id = free_[--free_count_];
    } else if (touched_ != capacity_) {
      id = ++touched_;
    } else {
      id = least_used();
    }
    Slot& slot = slots_[id - 1];
    slot.holder = holder;
    slot.used = true;
    ::new (static_cast<void*>(slot.bytes)) T;
    return id;
  }

  /// Whether the record is (still) lent to this borrower.
  bool holds(PoolId id, const void* holder) const {
    return id != 0 && slots_[id - 1].holder == holder;
  }

  /// REQUIRES: the borrower holds it.
  void give(PoolId id) {
    TOE_DCHECK(id != 0 && id <= touched_ && free_count_ < touched_);
    slots_[id - 1].holder = nullptr;
    free_[free_count_++] = id;
  }

  /// REQUIRES: the borrower holds it. Counts as use.
  T& at(PoolId id) {
    TOE_DCHECK(id != 0 && id <= touched_);
    slots_[id - 1].used = true;
    return *std::launder(reinterpret_cast<T*>(slots_[id - 1].bytes));
  }

  std::uint32_t capacity() const { return capacity_; }
  std::uint32_t in_use() const { return touched_ - free_count_; }
  /// The next take() takes a record back.
  bool full() const { return in_use() == capacity_; }

 private:
  struct Slot {
    const void* holder;
    bool used;  ///< since it was last looked at
    alignas(T) std::byte bytes[sizeof(T)];
  };

  /// The next one not used since the last round; after kLooks the one reached.
  PoolId least_used() {
    for (std::uint32_t look = 1;; ++look) {
      hand_ = hand_ == capacity_ ? 1 : hand_ + 1;
      Slot& slot = slots_[hand_ - 1];
      if (!slot.used || look == kLooks) return hand_;
      slot.used = false;
    }
  }

  std::uint32_t capacity_;
  std::uint32_t touched_ = 0;  ///< records ever lent
  std::uint32_t free_count_ = 0;
  std::uint32_t hand_ = 0;
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<PoolId[]> free_;
};

}  // namespace toe::flow

#endif  // TOE_FLOW_LOANS_H_
