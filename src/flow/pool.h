// A fixed number of records that flows borrow while they need them: what only few of them need at a
// time does not lie in the record of each.
//
// Bound: `capacity`, given at start; take() says kNone when all are lent, and its caller must have
// an answer to that. Memory is reserved at start and touched by use only; the record given back
// last is lent next.
// Thread: one worker.
#ifndef TOE_FLOW_POOL_H_
#define TOE_FLOW_POOL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "base/check.h"

namespace toe::flow {

/// Names a record of a pool; the zero of a fresh slice means "none".
using PoolId = std::uint32_t;

template <typename T>
class Pool {
 public:
  static constexpr PoolId kNone = 0;
  static_assert(std::is_trivially_destructible_v<T>);

  explicit Pool(std::uint32_t capacity)
      : capacity_(capacity),
        slots_(std::make_unique_for_overwrite<Slot[]>(capacity)),
        free_(std::make_unique_for_overwrite<PoolId[]>(capacity)) {}

  /// A fresh record, or kNone.
  PoolId take() {
    if (free_count_ == 0 && touched_ == capacity_) return kNone;
    const PoolId id = free_count_ != 0 ? free_[--free_count_] : ++touched_;
    ::new (static_cast<void*>(slots_[id - 1].bytes)) T;
    return id;
  }

  /// REQUIRES: `id` is lent; nobody uses its record any more.
  void give(PoolId id) {
    TOE_DCHECK(id != kNone && id <= touched_ && free_count_ < touched_);
    free_[free_count_++] = id;
  }

  /// REQUIRES: `id` is lent.
  T& at(PoolId id) {
    TOE_DCHECK(id != kNone && id <= touched_);
    return *std::launder(reinterpret_cast<T*>(slots_[id - 1].bytes));
  }

  std::uint32_t capacity() const { return capacity_; }
  std::uint32_t in_use() const { return touched_ - free_count_; }

 private:
  struct Slot {
    alignas(T) std::byte bytes[sizeof(T)];
  };

  std::uint32_t capacity_;
  std::uint32_t touched_ = 0;  ///< records ever lent
  std::uint32_t free_count_ = 0;
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<PoolId[]> free_;
};

}  // namespace toe::flow

#endif  // TOE_FLOW_POOL_H_
