// One waiter: contexts in the mapped segments that share one doorbell, and the way to sleep.
//
// Belongs to an epoll instance, or is lent to a thread that blocks. One thread at a time waits;
// kick() and lane() may be called by any.
#ifndef TOE_LIBTOE_WAIT_CONTEXT_H_
#define TOE_LIBTOE_WAIT_CONTEXT_H_

#include <poll.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "libtoe/engine_client.h"
#include "libtoe/mutex.h"

namespace toe::libtoe {

/// Monotonic nanoseconds.
std::int64_t now_ns();

/// Decides from recent waits whether yielding the CPU before sleeping pays: it does when waits are
/// short and bring little; under load whole batches after a sleep are cheaper.
class YieldPolicy {
 public:
  bool should_yield() const { return score_.load(std::memory_order_relaxed) > 0; }
  void on_wait_end(std::int64_t waited_ns, std::int64_t yield_ns, std::uint32_t events);

 private:
  static constexpr int kMaxScore = 4;
  static constexpr std::uint32_t kBusyEvents = 4;  ///< a wait that brings as many is a batch
  std::atomic<int> score_{1};  // a guess: threads of one epoll instance share it
};

class WaitContext {
 public:
  explicit WaitContext(EngineClient& client) : client_(client) {}
  ~WaitContext();
  WaitContext(const WaitContext&) = delete;
  WaitContext& operator=(const WaitContext&) = delete;

  /// This waiter's context in `segment`, opened at first use; null when the engine has none left.
  Lane* lane(MappedSegment& segment);

  /// True when a hint waits in any context.
  bool pending() const;
  /// Takes every waiting hint (bounded by the queues): call(lane, line). Waiter only.
  template <typename Call>
  void drain(Call call) {
    for (std::uint32_t i = 0, n = open_count(); i < n; ++i) {
      Lane& lane = *open_[i];
      std::uint32_t line = 0;
      for (std::uint32_t k = 0; k < shm::kQueueEntries && lane.take(line); ++k) call(lane, line);
    }
  }
  /// For waiters that look at their lines themselves: takes all hints and withdraws the interest
  /// of each line named, so that a line nobody waits for costs one hint at most.
  std::uint32_t discard();

  /// Pauses, spins, and yields if that has paid lately, until a hint waits or `quit` is true.
  /// False: nothing came, sleep.
  template <typename Quit>
  bool spin(Quit quit);

  /// Brackets a sleep. After fall_asleep() look at every source again.
  void fall_asleep();
  void wake_up();
  /// Ends a sleep of the waiter from another thread.
  void kick();
  /// Sleeps until a hint, a kick, the engine's end, one of `fds`, a signal, or the timeout
  /// (negative: none). `fds` begins with kOwnFds entries for this call's use, the last of them for
  /// a descriptor with which the caller is woken itself. As ppoll(2), not counting the own entries.
  int sleep(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask);
  static constexpr std::size_t kLifeFd = 2;
  static constexpr std::size_t kCallersFd = 3;
  static constexpr std::size_t kOwnFds = 4;
  void close_fds();
  /// Reads doorbell and kick empty.
  void drain_fds();

  int doorbell_fd() const { return doorbell_fd_; }
  int kick_fd();
  EngineClient& client() { return client_; }
  YieldPolicy& policy() { return policy_; }

 private:
  std::uint32_t open_count() const { return count_.load(std::memory_order_acquire); }

  EngineClient& client_;
  Mutex open_mutex_;
  std::array<Lane, kMaxMapped> lanes_;
  std::array<Lane*, kMaxMapped> open_{};
  std::atomic<std::uint32_t> count_{0};
  std::uint32_t doorbell_ = 0;
  int doorbell_fd_ = -1;
  std::atomic<int> kick_fd_{-1};
  std::atomic<std::uint32_t> sleeping_{0};
  YieldPolicy policy_;
};

template <typename Quit>
bool WaitContext::spin(Quit quit) {
  constexpr int kPauses = 16;
  for (int i = 0; i < kPauses; ++i) {
    if (pending()) return true;
    __builtin_ia32_pause();
  }
  const WaitProfile& profile = client_.profile();
  const std::int64_t start = now_ns();
  const auto spin_ns = static_cast<std::int64_t>(profile.spin_ns);
  while (now_ns() - start < spin_ns) {
    if (pending()) return true;
    __builtin_ia32_pause();
  }
  if (!policy_.should_yield()) return false;
  const auto yield_ns = static_cast<std::int64_t>(profile.yield_ns);
  while (now_ns() - start < yield_ns) {
    ::sched_yield();
    if (pending() || quit()) return true;
  }
  return false;
}

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_WAIT_CONTEXT_H_
