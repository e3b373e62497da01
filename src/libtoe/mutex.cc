#include "libtoe/mutex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include <cerrno>

#include "libtoe/libc.h"

namespace toe::libtoe {
namespace {

constexpr int kSpins = 64;   ///< before the first system call
constexpr int kYields = 64;  ///< before sleeping between tries of a LineLock
constexpr long kLineSleepNs = 50'000;

void pause() { __builtin_ia32_pause(); }

}  // namespace

int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, std::int64_t timeout_ns) {
  timespec timeout{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  const long rc = libc().syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value,
                                 timeout_ns < 0 ? nullptr : &timeout, nullptr, 0);
  return rc == 0 ? 0 : -errno;
}

void futex_wake(std::atomic<std::uint32_t>& word, int waiters) {
  libc().syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, waiters, nullptr, nullptr, 0);
}

void Mutex::lock_slow() {
  for (int i = 0; i < kSpins; ++i) {
    if (try_lock()) return;
    pause();
  }
  const int saved = errno;
  while (word_.exchange(2, std::memory_order_acquire) != 0) futex_wait(word_, 2, -1);
  errno = saved;
}

bool LineLock::lock_slow(std::uint32_t owner, std::int64_t ms) {
  const std::int64_t most = ms < 0 ? INT64_MAX : kSpins + kYields + ms * 1'000'000 / kLineSleepNs;
  for (std::int64_t tries = 0; tries < most; ++tries) {
    std::uint32_t free = 0;
    if (word_.compare_exchange_weak(free, owner, std::memory_order_acquire)) return true;
    if (tries < kSpins) {
      pause();
    } else if (tries < kSpins + kYields) {
      ::sched_yield();
    } else {
      const timespec nap{0, kLineSleepNs};
      ::nanosleep(&nap, nullptr);
    }
  }
  return false;
}

}  // namespace toe::libtoe
