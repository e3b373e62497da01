// pthread_cancel of a thread that sleeps in libtoe: what the wait has lent or claimed is given back
// before the thread ends. The frames of libtoe are not unwound (it is built without exceptions), so
// this is a list of its own.
#ifndef TOE_LIBTOE_CANCEL_H_
#define TOE_LIBTOE_CANCEL_H_

#include <poll.h>
#include <signal.h>

#include <cstdint>
#include <span>

namespace toe::libtoe {

/// As long as it lives, `undo(object)` runs when the thread is cancelled in a sleep_in_kernel().
/// Ends in the order opposite to its beginning, on the stack.
class OnCancel {
 public:
  OnCancel(void (*undo)(void*), void* object);
  ~OnCancel();
  OnCancel(const OnCancel&) = delete;
  OnCancel& operator=(const OnCancel&) = delete;

  /// Runs all of this thread, the latest first.
  static void run_all();

 private:
  void (*undo_)(void*);
  void* object_;
  OnCancel* outer_;
};

/// ppoll(2) with a limit in nanoseconds (negative: none), a cancellation point. A count or a
/// negative errno.
int sleep_in_kernel(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_CANCEL_H_
