#include "libtoe/io.h"

#include <limits.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "libtoe/blocking.h"
#include "libtoe/epoll.h"
#include "libtoe/libc.h"
#include "libtoe/urgent_signal.h"
#include "libtoe/user_memory.h"

namespace toe::libtoe {
namespace {

/// Time between looks whether the engine still lives, for programs that never wait.
constexpr std::int64_t kLifeEveryNs = 50'000'000;
/// Empty reads between looks at the clock: event loops read once in vain for each request.
constexpr std::uint32_t kEmptyReads = 16;

bool must_not_block(const Socket& socket, int flags) {
  return (flags & MSG_DONTWAIT) != 0 || socket.settings.nonblocking.load(std::memory_order_relaxed);
}

/// Bytes for which a call that may block waits.
std::size_t wanted(const Socket& socket, std::size_t room, int flags) {
  if ((flags & MSG_WAITALL) != 0) return room;
  return std::min<std::size_t>(room, socket.connection.low_water());
}

void look_for_life() {
  static std::atomic<std::int64_t> next{0};
  const std::int64_t now = now_ns();
  if (now < next.load(std::memory_order_relaxed)) return;
  next.store(now + kLifeEveryNs, std::memory_order_relaxed);
  Runtime::get().check_life();
}

void count_empty_read() {
  static std::atomic<std::uint32_t> calls{0};
  if (calls.fetch_add(1, std::memory_order_relaxed) % kEmptyReads == kEmptyReads - 1) {
    look_for_life();
  }
}

// An error met after bytes were moved is for the next call.
ssize_t after_some(Socket& socket, ssize_t done, ssize_t error) {
  if (done == 0) return error;
  if (error != -EPIPE && error != -EFAULT) socket.connection.put_error_back();
  return done;
}

ssize_t send_failed(Socket& socket, ssize_t done, ssize_t error, int flags) {
  if (done > 0) return after_some(socket, done, error);
  if (error == -EPIPE && (flags & MSG_NOSIGNAL) == 0) ::raise(SIGPIPE);
  return error;
}

int check_message(const msghdr* message) {
  if (!may_be_mapped(message)) return -EFAULT;
  if (message->msg_iovlen > IOV_MAX) return -EMSGSIZE;
  return check_vector(message->msg_iov, message->msg_iovlen);
}

}  // namespace

int check_vector(const iovec* parts, std::size_t count) {
  if (count > IOV_MAX) return -EINVAL;
  if (count != 0 && !may_be_mapped(parts, count * sizeof(*parts))) return -EFAULT;
  std::size_t total = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (parts[i].iov_len > SSIZE_MAX - total) return -EINVAL;
    total += parts[i].iov_len;
  }
  return 0;
}

ssize_t socket_recv(Socket& socket, IoCursor into, int flags) {
  if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;
  const RecvMode mode = (flags & MSG_PEEK) != 0    ? RecvMode::kPeek
                        : (flags & MSG_TRUNC) != 0 ? RecvMode::kDiscard
                                                   : RecvMode::kTake;
  if ((flags & MSG_OOB) != 0) {
    arm_urgent_bells();
    return socket.connection.recv_urgent(into, mode);
  }
  const std::size_t target = mode == RecvMode::kPeek ? 1 : wanted(socket, into.left(), flags);
  Deadline deadline(socket.settings.recv_timeout_ns.load(std::memory_order_relaxed));
  ssize_t done = 0;
  for (;;) {
    const ssize_t n = socket.connection.recv(into, mode);
    if (n > 0) {
      done += n;
      if (mode == RecvMode::kDiscard) into.skip_all(static_cast<std::size_t>(n));
      const bool enough = static_cast<std::size_t>(done) >= target;
      if (enough || into.left() == 0 || socket.connection.at_mark()) return done;
      continue;
    }
    if (n == 0) return done;
    if (n != -EAGAIN) return after_some(socket, done, n);
    if (must_not_block(socket, flags)) {
      count_empty_read();
      return done > 0 ? done : -EAGAIN;
    }
    const int error = wait_for(socket, Want::kReadable, deadline);
    if (error != 0) return done > 0 ? done : error;
  }
}

ssize_t socket_send(Socket& socket, IoCursor from, int flags) {
  const bool urgent = (flags & MSG_OOB) != 0;
  if (urgent && !socket.connection.carries_urgent()) return -EOPNOTSUPP;
  // A writer whose socket has room never waits. An engine that has not taken the last hint yet is
  // busy, stopped or dead.
  if (socket.connection.hint_waits()) look_for_life();
  Deadline deadline(socket.settings.send_timeout_ns.load(std::memory_order_relaxed));
  ssize_t done = 0;
  bool armed = false;
  for (;;) {
    const ssize_t n = urgent ? socket.connection.send_urgent(from)
                             : socket.connection.send(from, (flags & MSG_MORE) != 0);
    if (n >= 0) {
      done += n;
      if (from.left() == 0) return done;
      continue;
    }
    if (n != -EAGAIN) return send_failed(socket, done, n, flags);
    if (must_not_block(socket, flags)) {
      if (armed) return done > 0 ? done : -EAGAIN;
      arm_writable(socket);  // then once more: space may have come before the hint was asked for
      armed = true;
      continue;
    }
    const int error = wait_for(socket, Want::kWritable, deadline);
    if (error != 0) return done > 0 ? done : error;
  }
}

ssize_t socket_recvmsg(Socket& socket, msghdr* message, int flags) {
  if (const int error = check_message(message); error != 0) return error;
  const ssize_t n = socket_recv(socket, IoCursor(message->msg_iov, message->msg_iovlen), flags);
  if (n < 0) return n;
  message->msg_namelen = 0;
  message->msg_controllen = 0;
  const bool urgent = (flags & MSG_OOB) != 0;
  message->msg_flags = !urgent ? 0 : n > 0 ? MSG_OOB : MSG_OOB | MSG_TRUNC;
  return n;
}

ssize_t socket_sendmsg(Socket& socket, const msghdr* message, int flags) {
  if (const int error = check_message(message); error != 0) return error;
  return socket_send(socket, IoCursor(message->msg_iov, message->msg_iovlen), flags);
}

ssize_t socket_sendfile(Socket& socket, int in_fd, off_t* offset, std::size_t count) {
  if (offset != nullptr && !may_be_mapped(offset)) return -EFAULT;
  std::array<char, 32 * 1024> buffer;
  off_t at = offset != nullptr ? *offset : ::lseek(in_fd, 0, SEEK_CUR);
  if (at < 0) return offset == nullptr && errno == EBADF ? -EBADF : -EINVAL;
  std::size_t done = 0;
  ssize_t error = 0;
  while (done < count && error == 0) {
    const std::size_t want = std::min(count - done, buffer.size());
    const ssize_t got = ::pread(in_fd, buffer.data(), want, at);
    if (got <= 0) {
      error = got < 0 ? -errno : 0;
      break;
    }
    const bool more = done + static_cast<std::size_t>(got) < count;
    const ssize_t sent =
        socket_send(socket, buffer.data(), static_cast<std::size_t>(got), more ? MSG_MORE : 0);
    if (sent < 0) {
      error = sent;
      break;
    }
    done += static_cast<std::size_t>(sent);
    at += sent;
    if (sent < got) break;
  }
  // The last piece asked for more; if the file ended there, nothing more comes.
  if (done > 0 && done < count) socket.connection.end_of_more();
  if (offset != nullptr) {
    *offset = at;
  } else if (done > 0) {
    ::lseek(in_fd, at, SEEK_SET);
  }
  return done > 0 ? static_cast<ssize_t>(done) : error;
}

}  // namespace toe::libtoe
