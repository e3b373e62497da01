#include "libtoe/cancel.h"

#include <pthread.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "libtoe/libc.h"

namespace toe::libtoe {
namespace {

thread_local OnCancel* t_innermost = nullptr;

/// The program's own state outside the outermost NoCancel.
thread_local int t_programs_state = PTHREAD_CANCEL_ENABLE;
thread_local int t_depth = 0;

void undo_all(void*) { OnCancel::run_all(); }

}  // namespace

OnCancel::OnCancel(void (*undo)(void*), void* object)
    : undo_(undo), object_(object), outer_(t_innermost) {
  t_innermost = this;
}

OnCancel::~OnCancel() { t_innermost = outer_; }

void OnCancel::run_all() {
  while (t_innermost != nullptr) {
    OnCancel* now = t_innermost;
    t_innermost = now->outer_;
    now->undo_(now->object_);
  }
}

NoCancel::NoCancel() : outer_state_(t_programs_state) {
  ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_);
  if (t_depth++ == 0) t_programs_state = state_;
}

NoCancel::~NoCancel() {
  --t_depth;
  t_programs_state = outer_state_;
  ::pthread_setcancelstate(state_, nullptr);
}

ssize_t plain_read(int fd, void* bytes, std::size_t length) {
  return libc().syscall(SYS_read, fd, bytes, length);
}

ssize_t plain_write(int fd, const void* bytes, std::size_t length) {
  return libc().syscall(SYS_write, fd, bytes, length);
}

int sleep_in_kernel(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask) {
  const std::int64_t limit = std::max<std::int64_t>(timeout_ns, 0);
  const timespec timeout{limit / 1'000'000'000, limit % 1'000'000'000};
  volatile int n = 0;  // lives over the setjmp inside
  pthread_cleanup_push(undo_all, nullptr);
  int inside = PTHREAD_CANCEL_ENABLE;
  if (t_depth != 0) ::pthread_setcancelstate(t_programs_state, &inside);
  n = libc().ppoll(fds.data(), fds.size(), timeout_ns < 0 ? nullptr : &timeout, mask);
  if (n < 0) n = -errno;
  if (t_depth != 0) ::pthread_setcancelstate(inside, nullptr);
  pthread_cleanup_pop(0);
  return n;
}

}  // namespace toe::libtoe
