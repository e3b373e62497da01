// Which signal handlers have run while a call waited: Linux restarts a call that only handlers with
// SA_RESTART interrupted, and ends it with EINTR after any other.
//
// The program's handlers are called by one of libtoe's, which notes the signal; flags and masks in
// the kernel are the program's own.
#ifndef TOE_LIBTOE_SIGNALS_H_
#define TOE_LIBTOE_SIGNALS_H_

#include <signal.h>

#include <cstdint>

namespace toe::libtoe {

/// sigaction(2) of the program.
int set_action(int signal, const struct sigaction* wanted, struct sigaction* before);
/// signal(3) and its kin: `install` is libc's function.
sighandler_t set_handler(int signal, sighandler_t handler,
                         sighandler_t (*install)(int, sighandler_t));

/// True for an action whose handler is noted.
bool is_watched(const struct sigaction& action);

/// While it lives, handlers run by this thread are noted, and each writes to `wake_fd`: a signal
/// that comes between the last look and the sleep ends the sleep too. Waits may nest (a handler
/// that waits itself).
class SignalWatch {
 public:
  explicit SignalWatch(int wake_fd);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  /// A handler has run.
  bool any() const;
  /// A handler without SA_RESTART has run. Forgets those with it.
  bool interrupts();

 private:
  std::uint64_t outer_ran_;
  int outer_fd_;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_SIGNALS_H_
