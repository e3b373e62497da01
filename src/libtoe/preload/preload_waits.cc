// The names that wait for several descriptors.
#include <signal.h>

#include "libtoe/epoll.h"
#include "libtoe/open.h"
#include "libtoe/polling.h"
#include "libtoe/preload/preload.h"
#include "libtoe/user_memory.h"

using toe::libtoe::answer;
using toe::libtoe::Epoll;
using toe::libtoe::FdTable;
using toe::libtoe::File;
using toe::libtoe::libc;
using toe::libtoe::may_be_mapped;
using toe::libtoe::Role;
using toe::libtoe::SelectSets;

namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr int kMaxEpollEvents = 1 << 20;

std::int64_t from_timespec(const timespec* time) {
  return time == nullptr ? -1 : std::int64_t{time->tv_sec} * 1'000'000'000 + time->tv_nsec;
}

// 0, or what the kernel says of such a time-out.
int check(const timespec* time) {
  if (time == nullptr) return 0;
  if (!may_be_mapped(time)) return -EFAULT;
  return time->tv_sec < 0 || time->tv_nsec < 0 || time->tv_nsec >= 1'000'000'000 ? -EINVAL : 0;
}

// An array that the kernel shall refuse itself is not looked at.
bool any_of_ours(pollfd* fds, nfds_t count) {
  return may_be_mapped(fds, count * sizeof(*fds)) && toe::libtoe::any_offloaded({fds, count});
}

bool any_of_ours(int count, const SelectSets& sets) {
  for (const fd_set* set : {sets.read, sets.write, sets.except}) {
    if (set != nullptr && !may_be_mapped(set, 1)) return false;
  }
  return toe::libtoe::any_offloaded(count, sets);
}

Epoll* epoll_at(int fd) {
  File* file = FdTable::get(fd);
  return file != nullptr && file->role() == Role::kEpoll ? static_cast<Epoll*>(file) : nullptr;
}

int note_epoll(int fd) {
  if (fd >= 0 && toe::libtoe::Runtime::get().own_process()) {
    toe::libtoe::name_file(fd, *Epoll::make(fd));
  }
  return fd;
}

int wait_on(Epoll& epoll, epoll_event* events, int count, std::int64_t timeout_ns,
            const sigset_t* mask) {
  if (count <= 0 || count > kMaxEpollEvents) return answer(-EINVAL);
  const auto room = static_cast<std::size_t>(count);
  if (!may_be_mapped(events, room * sizeof(*events))) return answer(-EFAULT);
  return answer(epoll.wait({events, room}, timeout_ns, mask));
}

}  // namespace

TOE_EXPORT int epoll_create1(int flags) noexcept { return note_epoll(libc().epoll_create1(flags)); }

TOE_EXPORT int epoll_create(int size) noexcept {
  if (size <= 0) return answer(-EINVAL);
  return note_epoll(libc().epoll_create1(0));
}

TOE_EXPORT int epoll_ctl(int epfd, int op, int fd, epoll_event* event) noexcept {
  return answer(toe::libtoe::epoll_control(epfd, op, fd, event));
}

TOE_EXPORT int epoll_pwait(int epfd, epoll_event* events, int count, int timeout,
                           const sigset_t* mask) {
  Epoll* epoll = epoll_at(epfd);
  if (epoll == nullptr) return libc().epoll_pwait(epfd, events, count, timeout, mask);
  return wait_on(*epoll, events, count, timeout < 0 ? -1 : timeout * kMillisecond, mask);
}

TOE_EXPORT int epoll_wait(int epfd, epoll_event* events, int count, int timeout) {
  return epoll_pwait(epfd, events, count, timeout, nullptr);
}

TOE_EXPORT int epoll_pwait2(int epfd, epoll_event* events, int count, const timespec* timeout,
                            const sigset_t* mask) {
  Epoll* epoll = epoll_at(epfd);
  if (epoll == nullptr) return libc().epoll_pwait2(epfd, events, count, timeout, mask);
  if (const int error = check(timeout); error != 0) return answer(error);
  return wait_on(*epoll, events, count, from_timespec(timeout), mask);
}

TOE_EXPORT int poll(pollfd* fds, nfds_t count, int timeout) {
  if (!any_of_ours(fds, count)) return libc().poll(fds, count, timeout);
  return answer(
      toe::libtoe::mixed_poll({fds, count}, timeout < 0 ? -1 : timeout * kMillisecond, nullptr));
}

TOE_EXPORT int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (!any_of_ours(fds, count)) return libc().ppoll(fds, count, timeout, mask);
  if (const int error = check(timeout); error != 0) return answer(error);
  return answer(toe::libtoe::mixed_poll({fds, count}, from_timespec(timeout), mask));
}

extern "C" [[noreturn]] void __chk_fail();

TOE_EXPORT int __poll_chk(pollfd* fds, nfds_t count, int timeout, size_t room) {
  if (count > room / sizeof(pollfd)) __chk_fail();
  return poll(fds, count, timeout);
}

TOE_EXPORT int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
                           size_t room) {
  if (count > room / sizeof(pollfd)) __chk_fail();
  return ppoll(fds, count, timeout, mask);
}

TOE_EXPORT int select(int count, fd_set* read, fd_set* write, fd_set* except, timeval* timeout) {
  const SelectSets sets{read, write, except};
  if (!any_of_ours(count, sets)) {
    return libc().select(count, read, write, except, timeout);
  }
  if (timeout == nullptr) return answer(toe::libtoe::mixed_select(count, sets, -1, nullptr));
  if (!may_be_mapped(timeout)) return answer(-EFAULT);
  if (timeout->tv_sec < 0 || timeout->tv_usec < 0) return answer(-EINVAL);
  const std::int64_t limit =
      std::int64_t{timeout->tv_sec} * 1'000'000'000 + timeout->tv_usec * 1000;
  const std::int64_t start = toe::libtoe::now_ns();
  const int result = toe::libtoe::mixed_select(count, sets, limit, nullptr);
  // Linux shows what is left.
  const std::int64_t gone = toe::libtoe::now_ns() - start;
  const std::int64_t left = gone < limit ? limit - gone : 0;
  *timeout = {left / 1'000'000'000, left % 1'000'000'000 / 1000};
  return answer(result);
}

TOE_EXPORT int pselect(int count, fd_set* read, fd_set* write, fd_set* except,
                       const timespec* timeout, const sigset_t* mask) {
  const SelectSets sets{read, write, except};
  if (!any_of_ours(count, sets)) {
    return libc().pselect(count, read, write, except, timeout, mask);
  }
  if (const int error = check(timeout); error != 0) return answer(error);
  return answer(toe::libtoe::mixed_select(count, sets, from_timespec(timeout), mask));
}
