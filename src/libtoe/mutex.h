// A lock of one word that never allocates, never throws, and can be made new in a fork child.
#ifndef TOE_LIBTOE_MUTEX_H_
#define TOE_LIBTOE_MUTEX_H_

#include <atomic>
#include <cstdint>

namespace toe::libtoe {

/// Sleeps while `word` holds `value`; returns on a wake, a signal or after `timeout_ns`
/// (negative: none). Result: 0 or a negative errno.
int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, std::int64_t timeout_ns);
void futex_wake(std::atomic<std::uint32_t>& word, int waiters);

/// Between the threads of one process. 0 free, 1 held, 2 held with sleepers.
class Mutex {
 public:
  void lock() {
    std::uint32_t free = 0;
    if (!word_.compare_exchange_strong(free, 1, std::memory_order_acquire)) lock_slow();
  }
  bool try_lock() {
    std::uint32_t free = 0;
    return word_.compare_exchange_strong(free, 1, std::memory_order_acquire);
  }
  void unlock() {
    if (word_.exchange(0, std::memory_order_release) == 2) futex_wake(word_, 1);
  }
  /// Fork child only: whoever held it does not exist here.
  void reset() { word_.store(0, std::memory_order_relaxed); }

 private:
  void lock_slow();

  std::atomic<std::uint32_t> word_{0};
};

class MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

/// A lock word in a line, shared between processes: 0 or the owner's number. Held only while
/// bytes are copied, never while waiting. The engine frees it when the owner dies.
class LineLock {
 public:
  LineLock(std::atomic<std::uint32_t>& word, std::uint32_t owner) : word_(word) {
    std::uint32_t free = 0;
    if (!word_.compare_exchange_strong(free, owner, std::memory_order_acquire)) lock_slow(owner);
  }
  /// Waits at most about `ms` milliseconds, then goes on without the lock.
  LineLock(std::atomic<std::uint32_t>& word, std::uint32_t owner, std::int64_t ms) : word_(word) {
    std::uint32_t free = 0;
    if (!word_.compare_exchange_strong(free, owner, std::memory_order_acquire)) {
      held_ = lock_slow(owner, ms);
    }
  }
  ~LineLock() {
    if (held_) word_.store(0, std::memory_order_release);
  }
  LineLock(const LineLock&) = delete;
  LineLock& operator=(const LineLock&) = delete;

 private:
  bool lock_slow(std::uint32_t owner, std::int64_t ms = -1);

  std::atomic<std::uint32_t>& word_;
  bool held_ = true;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_MUTEX_H_
