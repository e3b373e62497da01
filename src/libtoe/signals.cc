#include "libtoe/signals.h"

#include <array>
#include <atomic>
#include <cerrno>

#include "libtoe/cancel.h"
#include "libtoe/libc.h"
#include "libtoe/runtime.h"
#include "libtoe/urgent_signal.h"

namespace toe::libtoe {
namespace {

constexpr int kSignals = 64;

/// The program's handler of each signal whose handler in the kernel is on_signal().
std::array<std::atomic<void*>, kSignals + 1> g_handlers{};

// Read and written by handlers: must be there without an allocation.
[[gnu::tls_model("initial-exec")]] thread_local std::atomic<std::uint64_t> t_ran{0};
[[gnu::tls_model("initial-exec")]] thread_local std::atomic<int> t_wake_fd{-1};

std::uint64_t bit_of(int signal) { return std::uint64_t{1} << (signal - 1); }

bool ours_to_watch(int signal) {
  return signal >= 1 && signal <= kSignals && Runtime::get().own_process();
}

// A handler of one argument ignores the other two, as it does when the kernel calls it.
void on_signal(int signal, siginfo_t* info, void* context) {
  if (signal == SIGURG) arm_urgent_bells();
  t_ran.fetch_or(bit_of(signal), std::memory_order_relaxed);
  if (const int fd = t_wake_fd.load(std::memory_order_relaxed); fd >= 0) {
    const int saved = errno;
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = plain_write(fd, &one, sizeof(one));
    errno = saved;
  }
  void* handler = g_handlers[static_cast<std::size_t>(signal)].load(std::memory_order_acquire);
  reinterpret_cast<void (*)(int, siginfo_t*, void*)>(handler)(signal, info, context);
}

sighandler_t watcher() {
  return reinterpret_cast<sighandler_t>(reinterpret_cast<void*>(&on_signal));
}

bool is_function(sighandler_t handler) {
  return handler != SIG_DFL && handler != SIG_IGN && handler != SIG_ERR && handler != SIG_HOLD;
}

bool handler_restarts(int signal) {
  struct sigaction action {};
  return libc().sigaction(signal, nullptr, &action) != 0 || (action.sa_flags & SA_RESTART) != 0;
}

}  // namespace

int set_action(int signal, const struct sigaction* wanted, struct sigaction* before) {
  if (!ours_to_watch(signal)) return libc().sigaction(signal, wanted, before);
  auto& kept = g_handlers[static_cast<std::size_t>(signal)];
  void* handler = kept.load(std::memory_order_acquire);
  struct sigaction changed {};
  if (wanted != nullptr) {
    changed = *wanted;
    if (is_function(wanted->sa_handler)) {
      changed.sa_handler = watcher();
      handler = kept.exchange(reinterpret_cast<void*>(wanted->sa_handler));
    }
  }
  const int result = libc().sigaction(signal, wanted != nullptr ? &changed : nullptr, before);
  if (result == 0 && before != nullptr && before->sa_handler == watcher()) {
    before->sa_handler = reinterpret_cast<sighandler_t>(handler);
  }
  return result;
}

sighandler_t set_handler(int signal, sighandler_t handler,
                         sighandler_t (*install)(int, sighandler_t)) {
  if (!ours_to_watch(signal)) return install(signal, handler);
  auto& kept = g_handlers[static_cast<std::size_t>(signal)];
  void* former = kept.load(std::memory_order_acquire);
  if (is_function(handler)) former = kept.exchange(reinterpret_cast<void*>(handler));
  const sighandler_t before = install(signal, is_function(handler) ? watcher() : handler);
  return before == watcher() ? reinterpret_cast<sighandler_t>(former) : before;
}

bool is_watched(const struct sigaction& action) { return action.sa_handler == watcher(); }

// A handler between these loads and stores ran before the wait.
SignalWatch::SignalWatch(int wake_fd)
    : outer_ran_(t_ran.load(std::memory_order_relaxed)),
      outer_fd_(t_wake_fd.load(std::memory_order_relaxed)) {
  t_ran.store(0, std::memory_order_relaxed);
  t_wake_fd.store(wake_fd, std::memory_order_relaxed);
}

SignalWatch::~SignalWatch() {
  t_wake_fd.store(outer_fd_, std::memory_order_relaxed);
  t_ran.store(outer_ran_, std::memory_order_relaxed);
}

bool SignalWatch::any() const { return t_ran.load(std::memory_order_relaxed) != 0; }

bool SignalWatch::interrupts() {
  const std::uint64_t ran = t_ran.exchange(0, std::memory_order_relaxed);
  for (int signal = 1; signal <= kSignals; ++signal) {
    if ((ran & bit_of(signal)) != 0 && !handler_restarts(signal)) return true;
  }
  return false;
}

}  // namespace toe::libtoe
