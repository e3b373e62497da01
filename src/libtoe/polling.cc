#include "libtoe/polling.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "libtoe/epoll.h"
#include "libtoe/libc.h"
#include "libtoe/socket.h"

namespace toe::libtoe {
namespace {

constexpr int kMaxSelect = 1 << 20;  ///< fds of one select, beyond FD_SETSIZE for large bitmaps
constexpr std::int64_t kSliceNs = 10'000'000;  ///< between looks without a context of our own

bool ours(const pollfd& entry) {
  File* file = FdTable::get(entry.fd);
  if (file == nullptr) return false;
  if (file->role() == Role::kEpoll) return static_cast<Epoll*>(file)->waiter() != nullptr;
  return file->offloaded();
}

short poll_events(Events events, short wanted) {
  constexpr Events kShared =
      EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM | EPOLLRDHUP | EPOLLERR | EPOLLHUP;
  const auto all = static_cast<short>(events & kShared);  // the numbers are the same
  return static_cast<short>(all & (wanted | POLLERR | POLLHUP));
}

short look(const pollfd& entry) {
  File* file = FdTable::get(entry.fd);
  if (file == nullptr) return POLLNVAL;
  switch (file->role()) {
    case Role::kConnection:
      return poll_events(static_cast<Socket*>(file)->connection.readiness(), entry.events);
    case Role::kListener: {
      auto* socket = static_cast<Socket*>(file);
      const bool ready = socket->attachment.load() != nullptr && socket->listener.ready();
      return ready ? static_cast<short>(entry.events & (POLLIN | POLLRDNORM)) : short{0};
    }
    case Role::kEpoll:
      return static_cast<Epoll*>(file)->ready()
                 ? static_cast<short>(entry.events & (POLLIN | POLLRDNORM))
                 : short{0};
    case Role::kFresh:
      break;
  }
  return 0;
}

/// One call of mixed_poll: the program's set, and the kernel's part of it behind the waiter's own
/// entries.
class Mixed {
 public:
  explicit Mixed(std::span<pollfd> fds) : fds_(fds), kernel_(WaitContext::kOwnFds + fds.size()) {
    for (std::size_t i = 0; i < fds.size(); ++i) {
      pollfd& to = kernel_[WaitContext::kOwnFds + i];
      to = {fds[i].fd, fds[i].events, 0};
      const File* file = FdTable::get(fds[i].fd);
      if (file != nullptr && file->role() == Role::kConnection) to.fd = -1;
      needs_kernel_ = needs_kernel_ || to.fd >= 0;
    }
  }

  /// Asks each offloaded entry; merges what the kernel last said.
  int look_at_all() {
    int ready = 0;
    for (std::size_t i = 0; i < fds_.size(); ++i) {
      short found = kernel_[WaitContext::kOwnFds + i].revents;
      if (ours(fds_[i])) found = static_cast<short>(found | look(fds_[i]));
      fds_[i].revents = found;
      ready += found != 0 ? 1 : 0;
    }
    return ready;
  }

  int ask_kernel(std::int64_t timeout_ns, const sigset_t* mask) {
    const timespec timeout{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
    const int n = libc().ppoll(kernel_.data() + WaitContext::kOwnFds, fds_.size(), &timeout, mask);
    return n < 0 ? -errno : n;
  }

  void arm(WaitContext& waiter) {
    for (const pollfd& entry : fds_) {
      File* file = FdTable::get(entry.fd);
      if (file == nullptr || !file->offloaded()) continue;
      auto* socket = static_cast<Socket*>(file);
      if (socket->attachment.load() == nullptr) continue;
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
  bool nested_epoll() const {
    return std::any_of(fds_.begin(), fds_.end(), [](const pollfd& entry) {
      const File* file = FdTable::get(entry.fd);
      return file != nullptr && file->role() == Role::kEpoll;
    });
  }

 private:
  std::span<pollfd> fds_;
  std::vector<pollfd> kernel_;
  bool needs_kernel_ = false;
};

int sleep_round(Mixed& mixed, WaitContext& waiter, std::int64_t left, const sigset_t* mask) {
  waiter.fall_asleep();
  if (waiter.pending() || mixed.look_at_all() != 0) {
    waiter.wake_up();
    return 0;
  }
  // An epoll instance inside has its own contexts, which do not ring this waiter.
  if (mixed.nested_epoll() && (left < 0 || left > kSliceNs)) left = kSliceNs;
  const int n = waiter.sleep(mixed.kernel(), left, mask);
  waiter.wake_up();
  if (mixed.kernel()[WaitContext::kOwnFds - 1].revents != 0) Runtime::get().check_life();
  return n;
}

int wait_mixed(Mixed& mixed, WaitContext* waiter, std::int64_t timeout_ns, const sigset_t* mask) {
  const std::int64_t start = now_ns();
  for (;;) {
    if (waiter != nullptr) {
      waiter->discard();
      mixed.arm(*waiter);
    }
    if (const int ready = mixed.look_at_all(); ready != 0) return ready;
    const std::int64_t left = timeout_ns < 0 ? -1 : timeout_ns - (now_ns() - start);
    if (timeout_ns >= 0 && left <= 0) return 0;
    if (waiter == nullptr) {
      const std::int64_t slice = left < 0 ? kSliceNs : std::min(left, kSliceNs);
      if (const int n = mixed.ask_kernel(slice, mask); n < 0) return n;
      Runtime::get().check_life();
      continue;
    }
    if (waiter->spin([&mixed] { return mixed.look_at_all() != 0; })) continue;
    if (const int n = sleep_round(mixed, *waiter, left, mask); n < 0) return n;
  }
}

}  // namespace

bool any_offloaded(std::span<const pollfd> fds) {
  return std::any_of(fds.begin(), fds.end(), ours);
}

int mixed_poll(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask) {
  Mixed mixed(fds);
  if (mixed.needs_kernel()) {
    if (const int n = mixed.ask_kernel(0, nullptr); n < 0) return n;
  }
  if (const int ready = mixed.look_at_all(); ready != 0 || timeout_ns == 0) return ready;
  Attachment* attachment = Runtime::get().current();
  WaitContext* waiter = attachment != nullptr ? attachment->borrow() : nullptr;
  const std::int64_t start = now_ns();
  const int result = wait_mixed(mixed, waiter, timeout_ns, mask);
  if (waiter != nullptr) {
    const auto yield_ns = static_cast<std::int64_t>(attachment->client.profile().yield_ns);
    waiter->policy().on_wait_end(now_ns() - start, yield_ns,
                                 static_cast<std::uint32_t>(std::max(result, 0)));
    attachment->give_back(waiter);
  }
  return result;
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
