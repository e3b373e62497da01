// How one side sleeps and the other wakes it, without a lost wake-up and without needless rings.
//
// Sleeper: fall_asleep(), look again at every source, sleep on the doorbell, wake_up().
// Producer: publish, Ringer::must_ring(), ring the doorbell if it says so.
// Why it is safe: both sides store, fence, load (Dekker). Either the producer sees the odd epoch
// and rings, or the sleeper's second look sees what was published. tests/model explores every
// interleaving under a store-buffer memory model.
#ifndef TOE_SHM_SLEEP_H_
#define TOE_SHM_SLEEP_H_

#include <atomic>
#include <cstdint>

#if defined(__SANITIZE_THREAD__)
#define TOE_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TOE_THREAD_SANITIZER 1
#endif
#endif

namespace toe::shm {

/// Thread sanitizer does not follow fences; a read-modify-write in their place it does.
inline void full_fence() {
#if defined(TOE_THREAD_SANITIZER)
  static std::atomic<std::uint32_t> stand_in{0};
  stand_in.fetch_add(0, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

/// Sleeper only: the epoch becomes odd. The caller then looks at every source again and sleeps
/// only if all are empty.
inline void fall_asleep(std::atomic<std::uint32_t>& epoch) {
  epoch.store(epoch.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  full_fence();
}

/// Sleeper only: the epoch becomes even; no producer rings from now on.
inline void wake_up(std::atomic<std::uint32_t>& epoch) {
  const std::uint32_t now = epoch.load(std::memory_order_relaxed);
  epoch.store(now + (now & 1), std::memory_order_release);
}

/// The producers' memory of the epoch they rang for last. One per sleeper and doorbell; shared by
/// the threads of a process.
class Ringer {
 public:
  /// True when the sleeper has to be rung for what the caller has just published: it sleeps and
  /// nobody has rung in this epoch. The caller then must ring.
  bool must_ring(const std::atomic<std::uint32_t>& epoch) {
    full_fence();  // what was published is visible before the epoch is read
    const std::uint32_t seen = epoch.load(std::memory_order_relaxed);
    if ((seen & 1) == 0) return false;
    return last_rung_.load(std::memory_order_relaxed) != seen &&
           last_rung_.exchange(seen, std::memory_order_relaxed) != seen;
  }

 private:
  std::atomic<std::uint32_t> last_rung_{0};  // even: no epoch that anybody sleeps in
};

}  // namespace toe::shm

#endif  // TOE_SHM_SLEEP_H_
