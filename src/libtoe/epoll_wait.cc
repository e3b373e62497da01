// Waiting on an epoll instance: both sides merged, one leader asleep at a time.
#include <algorithm>
#include <cerrno>

#include "libtoe/cancel.h"
#include "libtoe/epoll.h"
#include "libtoe/libc.h"
#include "libtoe/limbo.h"

namespace toe::libtoe {
namespace {

constexpr std::uint32_t kKernelEvery = 8;    ///< waits in a row without a look at the kernel side
constexpr std::uint32_t kYieldsPerLook = 8;  ///< looks at the kernel side while yielding
/// Result of idle(): the kernel side has something, or nobody knows.
constexpr int kLookAtKernel = 1;
/// Without an engine a wait is cut into slices, each of which looks for one.
constexpr std::int64_t kRetryNs = 1'000'000'000;

timespec to_timespec(std::int64_t ns) { return {ns / 1'000'000'000, ns % 1'000'000'000}; }

}  // namespace

void Epoll::wake_leader() {
  WaitContext* waiter = waiter_.load(std::memory_order_relaxed);
  if (waiter == nullptr) return;
  if (exposed_.load(std::memory_order_relaxed) && leader_.load() == 0) {
    settle();
  } else {
    waiter->kick();
  }
}

int Epoll::kernel_wait(std::span<epoll_event> out, std::int64_t timeout_ns, const sigset_t* mask) {
  const timespec timeout = to_timespec(std::max<std::int64_t>(timeout_ns, 0));
  const int n = libc().epoll_pwait2(fd_, out.data(), static_cast<int>(out.size()),
                                    timeout_ns < 0 ? nullptr : &timeout, mask);
  if (n < 0) return -errno;
  return without_own(out.first(static_cast<std::size_t>(n)));
}

// Events that are there now. The kernel side is asked in turn, and with `ask_kernel` when ours has
// nothing; otherwise the sleep that follows looks at it anyway.
int Epoll::collect(std::span<epoll_event> out, bool ask_kernel) {
  bool kernel_first = false;
  int n = 0;
  {
    MutexLock lock(mutex_);
    take_hints();
    kernel_first = ++since_kernel_ >= kKernelEvery;
    if (!kernel_first) n = take_ready(out);
    if (kernel_first) since_kernel_ = 0;
  }
  if (n > 0 || (!ask_kernel && !kernel_first)) return n;
  const int kernel = kernel_wait(out, 0, nullptr);
  if (kernel < 0 || !kernel_first) return kernel;
  MutexLock lock(mutex_);
  return kernel + take_ready(out.subspan(static_cast<std::size_t>(kernel)));
}

WaitContext* Epoll::living_waiter() {
  WaitContext* waiter = waiter_.load(std::memory_order_acquire);
  if (waiter != nullptr && waiter->client().alive()) return waiter;
  Attachment* attachment = Runtime::get().attachment();
  if (attachment == nullptr) return nullptr;
  MutexLock lock(mutex_);
  return ensure_waiter(*attachment) ? waiter_.load(std::memory_order_relaxed) : nullptr;
}

// The kernel side, and what an engine that is gone has left. Ends early to look for an engine.
int Epoll::wait_without_engine(std::span<epoll_event> out, std::int64_t deadline_ns,
                               const sigset_t* mask) {
  int n = collect(out, true);
  if (n != 0) return n;
  std::int64_t left = deadline_ns < 0 ? -1 : std::max<std::int64_t>(0, deadline_ns - now_ns());
  if (all_ != nullptr && (left < 0 || left > kRetryNs)) left = kRetryNs;
  std::array<pollfd, 1> kernel{{{fd_, POLLIN, 0}}};
  const int ready = sleep_in_kernel(kernel, left, mask);
  return ready > 0 ? kernel_wait(out, 0, nullptr) : ready;
}

int Epoll::wait(std::span<epoll_event> out, std::int64_t timeout_ns, const sigset_t* mask) {
  const NoCancel between_sleeps;
  const int result = wait_for_events(out, timeout_ns, mask);
  if (exposed_.load(std::memory_order_relaxed)) settle();
  return result;
}

int Epoll::wait_for_events(std::span<epoll_event> out, std::int64_t timeout_ns,
                           const sigset_t* mask) {
  const std::int64_t deadline = timeout_ns < 0 ? -1 : now_ns() + timeout_ns;
  release_due();
  const auto over = [&] { return timeout_ns == 0 || (deadline >= 0 && now_ns() >= deadline); };
  bool ask_kernel = timeout_ns == 0;
  WaitContext* first = waiter_.load(std::memory_order_acquire);
  const SignalWatch signals(first != nullptr && timeout_ns != 0 ? first->kick_fd() : -1);
  for (;;) {
    settle_nested();
    WaitContext* waiter = living_waiter();
    if (waiter == nullptr) {
      const int n = wait_without_engine(out, deadline, mask);
      if (n != 0 || over()) return n;
      continue;
    }
    const int n = collect(out, ask_kernel);
    const std::int64_t since = idle_since_ns_.exchange(-1, std::memory_order_relaxed);
    if (since >= 0) {
      const auto yield_ns = static_cast<std::int64_t>(waiter->client().profile().yield_ns);
      waiter->policy().on_wait_end(now_ns() - since, yield_ns,
                                   static_cast<std::uint32_t>(std::max(n, 0)));
    }
    if (n != 0 || over()) return n;
    const int woken = idle(deadline, mask, signals);
    if (woken < 0) {  // what has come together with a signal counts first
      const int last = collect(out, true);
      return last > 0 ? last : woken;
    }
    ask_kernel = woken == kLookAtKernel;
    release_due();
  }
}

bool Epoll::try_lead() {
  std::uint32_t nobody = 0;
  return leader_.compare_exchange_strong(nobody, 1, std::memory_order_acq_rel);
}

void Epoll::stop_leading() {
  leader_.store(0);
  handover_.fetch_add(1);
  if (followers_.load() != 0) futex_wake(handover_, 1);
}

int Epoll::follow(std::uint32_t seen, std::int64_t deadline_ns) {
  followers_.fetch_add(1);
  const std::int64_t left =
      deadline_ns < 0 ? -1 : std::max<std::int64_t>(0, deadline_ns - now_ns());
  const int error = leader_.load() != 0 ? futex_wait(handover_, seen, left) : 0;
  followers_.fetch_sub(1);
  return error == -EINTR ? error : kLookAtKernel;
}

// Until something may have come. One thread leads: it sleeps on the doorbell; the others wait for
// it to leave, and one of them takes over. 0, kLookAtKernel, or a negative errno.
int Epoll::idle(std::int64_t deadline_ns, const sigset_t* mask, const SignalWatch& signals) {
  const std::uint32_t seen = handover_.load(std::memory_order_acquire);
  if (signals.any()) return -EINTR;
  if (!try_lead()) return follow(seen, deadline_ns);
  WaitContext* waiter = waiter_.load(std::memory_order_acquire);
  const int result = waiter != nullptr ? lead(*waiter, deadline_ns, mask, signals) : 0;
  stop_leading();
  return result;
}

int Epoll::lead(WaitContext& waiter, std::int64_t deadline_ns, const sigset_t* mask,
                const SignalWatch& signals) {
  const OnCancel undo(
      [](void* self) {
        auto& epoll = *static_cast<Epoll*>(self);
        if (WaitContext* slept = epoll.waiter_.load()) slept->wake_up();
        epoll.stop_leading();
      },
      this);
  idle_since_ns_.store(now_ns(), std::memory_order_relaxed);
  std::uint32_t yields = 0;
  pollfd kernel{fd_, POLLIN, 0};
  const auto kernel_ready = [&] {
    return yields++ % kYieldsPerLook == 0 && libc().poll(&kernel, 1, 0) > 0;
  };
  if (waiter.spin(kernel_ready)) return kernel.revents != 0 ? kLookAtKernel : 0;
  std::int64_t left = -1;
  if (deadline_ns >= 0) {
    left = deadline_ns - now_ns();
    if (left <= 0) return 0;
  }
  std::array<pollfd, WaitContext::kOwnFds + 1> fds{};
  fds[WaitContext::kCallersFd].fd = -1;
  fds.back() = kernel;
  left = until_release(left);
  waiter.fall_asleep();
  int n = 0;
  if (!waiter.pending() && ready_count_.load(std::memory_order_relaxed) == 0 && !signals.any()) {
    n = waiter.sleep(fds, left, mask);
  }
  waiter.wake_up();
  if (fds[WaitContext::kLifeFd].revents != 0) Runtime::get().check_life();
  if (signals.any()) return -EINTR;
  if (n < 0) return n;
  return fds.back().revents != 0 ? kLookAtKernel : 0;
}

}  // namespace toe::libtoe
