#include "libtoe/internal_fds.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>

#include "libtoe/libc.h"
#include "libtoe/mutex.h"

namespace toe::libtoe {
namespace {

/// Own descriptors begin this far below the limit, and never above kHighestStart (the kernel's
/// table grows with the highest number).
constexpr int kTopRoom = 192;
constexpr int kHighestStart = 16'384;
constexpr int kInternalBits = 65'536;

std::array<std::atomic<std::uint64_t>, kInternalBits / 64> g_internal;

void mark_internal(int fd, bool on) {
  if (fd < 0 || fd >= kInternalBits) return;
  const std::uint64_t bit = std::uint64_t{1} << (fd % 64);
  auto& word = g_internal[static_cast<std::size_t>(fd) / 64];
  if (on) {
    word.fetch_or(bit, std::memory_order_relaxed);
  } else {
    word.fetch_and(~bit, std::memory_order_relaxed);
  }
}

constexpr int kYields = 64;  ///< before the first nap
constexpr int kNaps = 2000;  ///< then what is waited for is given up: 100 ms
constexpr long kNapNs = 50'000;
constexpr int kMostBirths = 100;  ///< in a row, that one change waits for

Mutex g_birth_mutex;
std::atomic<int> g_births{0};  ///< 1 while a descriptor of ours has a number of the program's range
std::atomic<int> g_changes{0};  ///< threads in an FdChange
/// A signal handler may close what its thread was about to close.
[[gnu::tls_model("initial-exec")]] thread_local int t_changes = 0;

template <typename Over>
void wait_until(Over over) {
  for (int i = 0; i < kYields + kNaps && !over(); ++i) {
    if (i < kYields) {
      ::sched_yield();
    } else {
      const timespec nap{0, kNapNs};
      ::nanosleep(&nap, nullptr);
    }
  }
}

/// Whoever comes second sees the other: a birth that finds this change counted waits for it.
void wait_for_births() {
  const int saved = errno;
  for (int i = 0; i < kMostBirths && g_births.load() != 0; ++i) {
    g_changes.fetch_sub(1);
    wait_until([] { return g_births.load() == 0; });
    g_changes.fetch_add(1);
  }
  errno = saved;
}

}  // namespace

FdBirth::FdBirth() {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  g_birth_mutex.lock();
  g_births.store(1);
  const int own = t_changes > 0 ? 1 : 0;
  wait_until([own] { return g_changes.load() <= own; });
}

FdBirth::~FdBirth() {
  g_births.store(0);
  g_birth_mutex.unlock();
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

FdChange::FdChange() {
  if (t_changes++ > 0) return;
  g_changes.fetch_add(1);
  if (g_births.load() != 0) wait_for_births();
}

FdChange::~FdChange() {
  if (--t_changes == 0) g_changes.fetch_sub(1);
}

void reset_fd_births() {
  g_birth_mutex.reset();
  g_births.store(0);
  g_changes.store(0);
  t_changes = 0;
}

int move_to_top(int fd) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const int soft =
      limit.rlim_cur > kHighestStart ? kHighestStart : static_cast<int>(limit.rlim_cur);
  const int start = soft > 2 * kTopRoom ? soft - kTopRoom : soft / 2;
  const int moved = libc().fcntl(fd, F_DUPFD_CLOEXEC, start);
  if (moved < 0) {
    mark_internal(fd, true);
    return fd;
  }
  libc().close(fd);
  mark_internal(moved, true);
  return moved;
}

bool is_internal_fd(int fd) {
  if (fd < 0 || fd >= kInternalBits) return false;
  const std::uint64_t word =
      g_internal[static_cast<std::size_t>(fd) / 64].load(std::memory_order_relaxed);
  return ((word >> (fd % 64)) & 1) != 0;
}

void close_internal(int fd) {
  if (fd < 0) return;
  mark_internal(fd, false);
  libc().close(fd);
}

int close_around_internal(unsigned first, unsigned last, int flags) {
  unsigned from = first;
  while (from <= last) {
    unsigned to = from;  // the next of ours, or the end
    while (to <= last && to < kInternalBits && !is_internal_fd(static_cast<int>(to))) ++to;
    const bool found = to <= last && to < kInternalBits;
    const unsigned end = found ? to : last;
    if (!found || to > from) {
      if (libc().close_range(from, found ? to - 1 : last, flags) != 0) return -errno;
    }
    if (end == ~0u || !found) break;
    from = to + 1;
  }
  return 0;
}

void forget_internal_fds() {
  for (std::size_t word = 0; word < g_internal.size(); ++word) {
    std::uint64_t bits = g_internal[word].exchange(0, std::memory_order_relaxed);
    for (; bits != 0; bits &= bits - 1) {
      libc().close(static_cast<int>(word * 64) + std::countr_zero(bits));
    }
  }
}

}  // namespace toe::libtoe
