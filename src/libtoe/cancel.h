// pthread_cancel of a thread that sleeps in libtoe: what the wait has lent or claimed is given back
// before the thread ends. The frames of libtoe are not unwound (it is built without exceptions), so
// this is a list of its own.
#ifndef TOE_LIBTOE_CANCEL_H_
#define TOE_LIBTOE_CANCEL_H_

#include <poll.h>
#include <signal.h>
#include <sys/types.h>

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

/// While it lives, system calls inside libtoe are no cancellation points: locks are held around
/// them. A sleep_in_kernel() inside is one nevertheless, if the program has cancellation enabled.
class NoCancel {
 public:
  NoCancel();
  ~NoCancel();
  NoCancel(const NoCancel&) = delete;
  NoCancel& operator=(const NoCancel&) = delete;

 private:
  int state_;
  int outer_state_;
};

/// read(2) and write(2) of a few bytes that are no cancellation points, also in signal handlers.
ssize_t plain_read(int fd, void* bytes, std::size_t length);
ssize_t plain_write(int fd, const void* bytes, std::size_t length);

/// ppoll(2) with a limit in nanoseconds (negative: none), a cancellation point. A count or a
/// negative errno.
int sleep_in_kernel(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_CANCEL_H_
