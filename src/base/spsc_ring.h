// Bounded ring between two threads of one process (one producer, one consumer).
//
// INVARIANT: head_ <= tail_ <= head_ + capacity. The producer alone writes tail_, the consumer
// alone writes head_; each keeps a private copy of the other's index and reloads it only when
// the copy says full (or empty), so that a busy ring does not bounce cache lines.
// Full: push() returns false and changes nothing; the caller decides (count, retry, drop).
#ifndef TOE_BASE_SPSC_RING_H_
#define TOE_BASE_SPSC_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "base/check.h"
#include "base/types.h"

namespace toe {

template <typename T>
class SpscRing {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// REQUIRES: capacity is a power of two.
  explicit SpscRing(std::size_t capacity)
      : mask_(capacity - 1), slots_(std::make_unique<T[]>(capacity)) {
    TOE_CHECK(capacity != 0 && (capacity & mask_) == 0);
  }

  /// Producer only.
  bool push(const T& value) {
    const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_copy_ > mask_) {
      head_copy_ = head_.load(std::memory_order_acquire);  // pairs with pop()'s release
      if (tail - head_copy_ > mask_) return false;
    }
    slots_[tail & mask_] = value;
    tail_.store(tail + 1, std::memory_order_release);  // publishes the slot
    return true;
  }

  /// Consumer only.
  bool pop(T& value) {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_copy_) {
      tail_copy_ = tail_.load(std::memory_order_acquire);  // pairs with push()'s release
      if (head == tail_copy_) return false;
    }
    value = slots_[head & mask_];
    head_.store(head + 1, std::memory_order_release);  // hands the slot back
    return true;
  }

  /// Any thread; a moment's truth only.
  std::size_t size() const {
    return tail_.load(std::memory_order_acquire) - head_.load(std::memory_order_acquire);
  }
  bool empty() const { return size() == 0; }
  std::size_t capacity() const { return mask_ + 1; }

 private:
  const std::uint64_t mask_;
  std::unique_ptr<T[]> slots_;
  alignas(kCacheLine) std::atomic<std::uint64_t> tail_{0};
  std::uint64_t head_copy_ = 0;
  alignas(kCacheLine) std::atomic<std::uint64_t> head_{0};
  std::uint64_t tail_copy_ = 0;
};

}  // namespace toe

#endif  // TOE_BASE_SPSC_RING_H_
