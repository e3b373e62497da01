// Blocking of one thread on one socket, with the rules of Linux for timeouts and signals.
#ifndef TOE_LIBTOE_BLOCKING_H_
#define TOE_LIBTOE_BLOCKING_H_

#include <cstdint>

#include "libtoe/signals.h"
#include "libtoe/socket.h"

namespace toe::libtoe {

enum class Want : std::uint8_t { kReadable, kWritable, kConnected, kAcceptable, kDrained };

/// When a blocking call gives up. Made at its start; reads the clock only once it has to wait.
class Deadline {
 public:
  /// `timeout_ns` negative: never.
  explicit Deadline(std::int64_t timeout_ns) : timeout_ns_(timeout_ns) {}
  bool limited() const { return timeout_ns_ >= 0; }
  /// Nanoseconds left, counted from the first call; -1 without a limit.
  std::int64_t left();

 private:
  std::int64_t timeout_ns_;
  std::int64_t end_ns_ = -1;
};

/// Waits until the socket is what is wanted. 0; -EAGAIN after the deadline; -EINTR after a handler
/// without SA_RESTART (after every handler, when the deadline is limited). For
/// kAcceptable `kernel_fd` is the listener's kernel side, looked at as well.
int wait_for(Socket& socket, Want want, Deadline& deadline, int kernel_fd = -1);

/// A listener without an engine: waits until the kernel side may have something, or it is time to
/// look for an engine. 0 to look again, or as wait_for.
int wait_for_kernel(int fd, Deadline& deadline);

/// After a signal during a wait: true when Linux would restart the call.
bool restarts_after_signal(SignalWatch& signals);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_BLOCKING_H_
