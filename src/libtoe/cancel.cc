#include "libtoe/cancel.h"

#include <pthread.h>

#include <algorithm>
#include <cerrno>

#include "libtoe/libc.h"

namespace toe::libtoe {
namespace {

thread_local OnCancel* t_innermost = nullptr;

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

int sleep_in_kernel(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask) {
  const std::int64_t limit = std::max<std::int64_t>(timeout_ns, 0);
  const timespec timeout{limit / 1'000'000'000, limit % 1'000'000'000};
  volatile int n = 0;  // lives over the setjmp inside
  pthread_cleanup_push(undo_all, nullptr);
  n = libc().ppoll(fds.data(), fds.size(), timeout_ns < 0 ? nullptr : &timeout, mask);
  if (n < 0) n = -errno;
  pthread_cleanup_pop(0);
  return n;
}

}  // namespace toe::libtoe
