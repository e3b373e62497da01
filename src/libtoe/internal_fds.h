// libtoe's own descriptors among the program's: out of its way, and out of its reach.
//
// They stand at the top of the descriptor range, so that programs that expect small numbers, or
// close all they know, do not meet them. The kernel gives the lowest free number first: until it
// has been moved, a descriptor can be hit by a thread that closes a number twice. FdBirth and
// FdChange exclude each other for that moment.
//
// Thread: any.
#ifndef TOE_LIBTOE_INTERNAL_FDS_H_
#define TOE_LIBTOE_INTERNAL_FDS_H_

#include <signal.h>

#include "libtoe/cancel.h"

namespace toe::libtoe {

/// Moves `fd`, which may be negative, to the top of the range, close-on-exec. Returns the new
/// number. REQUIRES: an FdBirth that began before the descriptor was made.
int move_to_top(int fd);
/// True for descriptors that libtoe owns; the program may neither close nor replace them.
bool is_internal_fd(int fd);
void close_internal(int fd);
/// close_range(2) that leaves our own descriptors open. 0 or a negative errno.
int close_around_internal(unsigned first, unsigned last, int flags);
/// Fork child: closes all of them; they are the parent's.
void forget_internal_fds();
/// Fork child: the threads that were in an FdBirth or FdChange do not exist here.
void reset_fd_births();

/// While it lives no FdChange of another thread begins, and those that had begun are over (or have
/// taken longer than 100 ms: close(2) may wait for a peer). No signal handler runs.
class FdBirth {
 public:
  FdBirth();
  ~FdBirth();
  FdBirth(const FdBirth&) = delete;
  FdBirth& operator=(const FdBirth&) = delete;

 private:
  NoCancel whole_;
  sigset_t before_;
};

/// Around a system call that closes or replaces a descriptor of the program.
class FdChange {
 public:
  FdChange();
  ~FdChange();
  FdChange(const FdChange&) = delete;
  FdChange& operator=(const FdChange&) = delete;

 private:
  NoCancel whole_;
};

/// A descriptor of our own, made by `make()`: its number, or negative.
template <typename Make>
int make_internal(Make make) {
  const FdBirth birth;
  return move_to_top(make());
}

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_INTERNAL_FDS_H_
