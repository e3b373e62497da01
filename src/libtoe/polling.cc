#include "libtoe/polling.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "libtoe/cancel.h"
#include "libtoe/epoll.h"
#include "libtoe/signals.h"
#include "libtoe/socket.h"

namespace toe::libtoe {
namespace {

constexpr int kMaxSelect = 1 << 20;  ///< fds of one select, beyond FD_SETSIZE for large bitmaps

/// Result of a wait that ended because an engine has gone, or to look for one.
constexpr int kLookForEngine = 1 << 30;
/// How often a wait on a listener without an engine looks for one.
constexpr std::int64_t kRetryNs = 1'000'000'000;

bool ours(const pollfd& entry) {
  File* file = FdTable::get(entry.fd);
  if (file == nullptr) return false;
  if (file->role() == Role::kEpoll) return static_cast<Epoll*>(file)->expose();
  if (file->offloaded()) return true;
  return waits_for_engine(*file) && Runtime::get().current() == nullptr;
}

short poll_events(Events events, short wanted) {
  constexpr Events kShared =
      EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM | EPOLLRDHUP | EPOLLERR | EPOLLHUP;
  const auto all = static_cast<short>(events & kShared);  // the numbers are the same
  return static_cast<short>(all & (wanted | POLLERR | POLLHUP));
}

// `kernel`: what the kernel last said of the entry.
short look(const pollfd& entry, short kernel) {
  File* file = FdTable::get(entry.fd);
  if (file == nullptr) return kernel;
  const auto in = static_cast<short>(entry.events & (POLLIN | POLLRDNORM));
  switch (file->role()) {
    case Role::kConnection:
      return poll_events(static_cast<Socket*>(file)->connection.readiness(), entry.events);
    case Role::kListener: {
      auto* socket = static_cast<Socket*>(file);
      const bool ready = socket->attachment.load() != nullptr && socket->listener.ready();
      return static_cast<short>(kernel | (ready ? in : 0));
    }
    case Role::kEpoll:
      return static_cast<Epoll*>(file)->readable(kernel != 0) ? in : short{0};
    case Role::kFresh:
      break;
  }
  return kernel;
}

/// One call of mixed_poll: the program's set, and the kernel's part of it behind the waiter's own
/// entries.
class Mixed {
 public:
  explicit Mixed(std::span<pollfd> fds) : fds_(fds), kernel_(WaitContext::kOwnFds + fds.size()) {
    kernel_[WaitContext::kCallersFd].fd = -1;
    for (std::size_t i = 0; i < fds.size(); ++i) {
      pollfd& to = kernel_[WaitContext::kOwnFds + i];
      to = {fds[i].fd, fds[i].events, 0};
      const File* file = FdTable::get(fds[i].fd);
      if (file != nullptr && file->role() == Role::kConnection) to.fd = -1;
      needs_kernel_ = needs_kernel_ || to.fd >= 0;
      waits_for_engine_ = waits_for_engine_ || (file != nullptr && libtoe::waits_for_engine(*file));
    }
  }

  /// Asks each offloaded entry; merges what the kernel last said.
  int look_at_all() {
    int ready = 0;
    for (std::size_t i = 0; i < fds_.size(); ++i) {
      const short found = look(fds_[i], kernel_[WaitContext::kOwnFds + i].revents);
      fds_[i].revents = found;
      ready += found != 0 ? 1 : 0;
    }
    return ready;
  }

  int ask_kernel(std::int64_t timeout_ns, const sigset_t* mask) {
    return sleep_in_kernel(kernel().subspan(WaitContext::kOwnFds), timeout_ns, mask);
  }

  void arm(WaitContext& waiter) {
    for (const pollfd& entry : fds_) {
      File* file = FdTable::get(entry.fd);
      if (file == nullptr || !file->offloaded()) continue;
      auto* socket = static_cast<Socket*>(file);
      const Attachment* attachment = socket->attachment.load();
      if (attachment == nullptr || &attachment->client != &waiter.client()) continue;
      const bool listener = socket->role() == Role::kListener;
      Lane& home = listener ? socket->listener.lane() : socket->connection.lane();
      Lane* lane = waiter.lane(home.segment());
      if (lane == nullptr) continue;
      shm::Line& line = listener ? socket->listener.line() : socket->connection.line();
      line.rx_interest.fetch_or(lane->bit());
      if ((entry.events & POLLOUT) != 0) line.tx_interest.fetch_or(lane->bit());
    }
    shm::full_fence();  // interest before the look
  }

  std::span<pollfd> kernel() { return kernel_; }
  bool needs_kernel() const { return needs_kernel_; }
  bool waits_for_engine() const { return waits_for_engine_; }

 private:
  std::span<pollfd> fds_;
  std::vector<pollfd> kernel_;
  bool needs_kernel_ = false;
  bool waits_for_engine_ = false;
};

int sleep_alone(Mixed& mixed, WaitContext& waiter, std::int64_t left, const sigset_t* mask) {
  int n = 0;
  waiter.fall_asleep();
  if (!waiter.pending() && mixed.look_at_all() == 0) n = waiter.sleep(mixed.kernel(), left, mask);
  waiter.wake_up();
  if (mixed.kernel()[WaitContext::kLifeFd].revents != 0) Runtime::get().check_life();
  return n;
}

/// How long a call may take, counted from its start.
struct Limit {
  std::int64_t timeout_ns;
  std::int64_t start = now_ns();

  std::int64_t left() const {
    return timeout_ns < 0 ? -1 : std::max<std::int64_t>(0, timeout_ns - (now_ns() - start));
  }
};

int wait_alone(Mixed& mixed, WaitContext& waiter, const Limit& limit, const sigset_t* mask) {
  const SignalWatch signals(waiter.kick_fd());
  for (;;) {
    waiter.discard();
    mixed.arm(waiter);
    if (const int ready = mixed.look_at_all(); ready != 0) return ready;
    const std::int64_t left = limit.left();
    if (left == 0) return 0;
    if (signals.any()) return -EINTR;
    if (waiter.spin([&mixed] { return mixed.look_at_all() != 0; })) continue;
    if (const int n = sleep_alone(mixed, waiter, left, mask); n < 0) return n;
    if (!waiter.client().alive()) return kLookForEngine;
  }
}

int wait_in_crowd(Mixed& mixed, Attachment& attachment, const Limit& limit, const sigset_t* mask) {
  Crowd::Member member(attachment.crowd, nullptr, 0);
  const SignalWatch signals(member.wake_fd());
  for (;;) {
    mixed.arm(attachment.home);
    if (const int ready = mixed.look_at_all(); ready != 0) return ready;
    const std::int64_t left = limit.left();
    if (left == 0) return 0;
    if (signals.any()) return -EINTR;
    const int n =
        member.sleep(mixed.kernel(), left, mask, [&mixed] { return mixed.look_at_all() != 0; });
    if (n < 0) return n;
    if (!attachment.client.alive()) return kLookForEngine;
  }
}

// Every socket here is of an engine that is gone, or of a listener without one.
int wait_for_kernel_alone(Mixed& mixed, const Limit& limit, const sigset_t* mask) {
  const SignalWatch signals(-1);
  for (;;) {
    if (const int ready = mixed.look_at_all(); ready != 0) return ready;
    std::int64_t left = limit.left();
    if (left == 0) return 0;
    if (signals.any()) return -EINTR;
    const bool slice = mixed.waits_for_engine() && (left < 0 || left > kRetryNs);
    if (slice) left = kRetryNs;
    if (const int n = mixed.ask_kernel(left, mask); n != 0) return n < 0 ? n : mixed.look_at_all();
    if (slice) return kLookForEngine;
  }
}

int wait_with(Attachment& attachment, Mixed& mixed, const Limit& limit, const sigset_t* mask) {
  const NoCancel between_sleeps;
  const CallWaiter waiter(attachment);
  if (waiter.get() == nullptr) return wait_in_crowd(mixed, attachment, limit, mask);
  const int result = wait_alone(mixed, *waiter.get(), limit, mask);
  const auto yield_ns = static_cast<std::int64_t>(attachment.client.profile().yield_ns);
  const bool over = result != kLookForEngine;
  waiter.get()->policy().on_wait_end(now_ns() - limit.start, yield_ns,
                                     static_cast<std::uint32_t>(over ? std::max(result, 0) : 0));
  return result;
}

}  // namespace

bool any_offloaded(std::span<const pollfd> fds) {
  return std::any_of(fds.begin(), fds.end(), ours);
}

int mixed_poll(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask) {
  const Limit limit{timeout_ns};
  for (bool first = true;; first = false) {
    Mixed mixed(fds);
    if (mixed.needs_kernel()) {
      if (const int n = mixed.ask_kernel(0, nullptr); n < 0) return n;
    }
    const int ready = mixed.look_at_all();
    if (ready != 0 || timeout_ns == 0 || (!first && limit.left() == 0)) return ready;
    // Looking for an engine also registers the listeners with it.
    Attachment* attachment =
        mixed.waits_for_engine() ? Runtime::get().attachment() : Runtime::get().current();
    const int result = attachment == nullptr ? wait_for_kernel_alone(mixed, limit, mask)
                                             : wait_with(*attachment, mixed, limit, mask);
    if (result != kLookForEngine) return result;
  }
}

bool any_offloaded(int count, const SelectSets& sets) {
  for (int fd = 0; fd < std::min(count, FdTable::end()); ++fd) {
    const bool named = (sets.read != nullptr && FD_ISSET(fd, sets.read)) ||
                       (sets.write != nullptr && FD_ISSET(fd, sets.write)) ||
                       (sets.except != nullptr && FD_ISSET(fd, sets.except));
    if (named && ours({fd, 0, 0})) return true;
  }
  return false;
}

int mixed_select(int count, const SelectSets& sets, std::int64_t timeout_ns, const sigset_t* mask) {
  if (count < 0 || count > kMaxSelect) return -EINVAL;
  std::vector<pollfd> fds;
  for (int fd = 0; fd < count; ++fd) {
    short events = 0;
    if (sets.read != nullptr && FD_ISSET(fd, sets.read)) events |= POLLIN;
    if (sets.write != nullptr && FD_ISSET(fd, sets.write)) events |= POLLOUT;
    if (sets.except != nullptr && FD_ISSET(fd, sets.except)) events |= POLLPRI;
    if (events != 0) fds.push_back({fd, events, 0});
  }
  const int n = mixed_poll(fds, timeout_ns, mask);
  if (n < 0) return n;
  int bits = 0;
  for (const pollfd& entry : fds) {
    if ((entry.revents & POLLNVAL) != 0) return -EBADF;
    const auto answer = [&](fd_set* set, short asked, short means) {
      if ((entry.events & asked) == 0) return;
      if ((entry.revents & means) != 0) {
        ++bits;
      } else {
        FD_CLR(entry.fd, set);
      }
    };
    answer(sets.read, POLLIN, POLLIN | POLLHUP | POLLERR);
    answer(sets.write, POLLOUT, POLLOUT | POLLERR);
    answer(sets.except, POLLPRI, POLLPRI);
  }
  return bits;
}

}  // namespace toe::libtoe
