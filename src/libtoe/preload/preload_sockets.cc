// The names that make, name, configure and end sockets.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include "libtoe/epoll.h"
#include "libtoe/internal_fds.h"
#include "libtoe/open.h"
#include "libtoe/options.h"
#include "libtoe/preload/preload.h"
#include "libtoe/urgent_signal.h"
#include "libtoe/user_memory.h"

using toe::libtoe::answer;
using toe::libtoe::as_socket;
using toe::libtoe::FdTable;
using toe::libtoe::kLeaveToKernel;
using toe::libtoe::libc;
using toe::libtoe::may_be_mapped;
using toe::libtoe::offloaded_socket;
using toe::libtoe::Role;
using toe::libtoe::Socket;

TOE_EXPORT int socket(int domain, int type, int protocol) noexcept {
  const int fd = libc().socket(domain, type, protocol);
  if (fd >= 0) toe::libtoe::note_socket(fd, domain, type, protocol);
  return fd;
}

TOE_EXPORT int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  if (offloaded_socket(fd) != nullptr) return answer(-EINVAL);  // bound by connect or listen
  if (as_socket(FdTable::get(fd)) == nullptr) return libc().bind(fd, address, length);
  return answer(toe::libtoe::socket_bind(fd, address, length));
}

TOE_EXPORT int sockatmark(int fd) noexcept {
  if (const Socket* socket = toe::libtoe::offloaded_connection(fd)) {
    return socket->connection.at_mark() ? 1 : 0;
  }
  return libc().sockatmark(fd);
}

TOE_EXPORT int listen(int fd, int backlog) noexcept {
  if (Socket* socket = as_socket(FdTable::get(fd))) {
    return answer(socket_listen(*socket, fd, backlog));
  }
  return libc().listen(fd, backlog);
}

TOE_EXPORT int connect(int fd, const sockaddr* address, socklen_t length) {
  Socket* socket = as_socket(FdTable::get(fd));
  if (socket != nullptr && may_be_mapped(address, length)) {
    const int result = socket_connect(*socket, fd, address, length);
    if (result != kLeaveToKernel) return answer(result);
  }
  return libc().connect(fd, address, length);
}

TOE_EXPORT int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  if (Socket* socket = offloaded_socket(fd)) {
    return answer(socket_accept(*socket, fd, address, length, flags));
  }
  if (const int error = toe::libtoe::await_engine(fd); error != 0) return answer(error);
  if (Socket* socket = offloaded_socket(fd)) {
    return answer(socket_accept(*socket, fd, address, length, flags));
  }
  return libc().accept4(fd, address, length, flags);
}

TOE_EXPORT int accept(int fd, sockaddr* address, socklen_t* length) {
  return accept4(fd, address, length, 0);
}

TOE_EXPORT int shutdown(int fd, int how) noexcept {
  if (Socket* socket = offloaded_socket(fd)) return answer(socket_shutdown(*socket, fd, how));
  return libc().shutdown(fd, how);
}

TOE_EXPORT int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
  if (Socket* socket = offloaded_socket(fd)) {
    const int result = socket_name(*socket, false, address, length);
    if (result != kLeaveToKernel) return answer(result);
  }
  return libc().getsockname(fd, address, length);
}

TOE_EXPORT int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept {
  if (Socket* socket = offloaded_socket(fd)) {
    const int result = socket_name(*socket, true, address, length);
    if (result != kLeaveToKernel) return answer(result);
  }
  return libc().getpeername(fd, address, length);
}

TOE_EXPORT int setsockopt(int fd, int level, int name, const void* value,
                          socklen_t length) noexcept {
  Socket* socket = as_socket(FdTable::get(fd));
  if (socket == nullptr) return libc().setsockopt(fd, level, name, value, length);
  int result = kLeaveToKernel;
  const bool listener = socket->role() == Role::kListener;
  const bool congestion = level == IPPROTO_TCP && name == TCP_CONGESTION;
  if (socket->offloaded()) result = socket_setsockopt(*socket, {level, name}, value, length);
  if (congestion && (listener || !socket->offloaded())) {
    result = toe::libtoe::set_fresh_congestion(*socket, value, length);
    if (listener && result == 0) toe::libtoe::update_listener(*socket, fd);
  }
  if (result != kLeaveToKernel) return answer(result);
  const int done = libc().setsockopt(fd, level, name, value, length);
  if (done != 0) return done;
  if (listener || !socket->offloaded()) note_option(*socket, {level, name}, value, length);
  if (listener) toe::libtoe::update_listener(*socket, fd);
  if (congestion && !socket->offloaded()) socket->needs_kernel.store(true);
  return done;
}

TOE_EXPORT int getsockopt(int fd, int level, int name, void* value, socklen_t* length) noexcept {
  if (Socket* socket = offloaded_socket(fd)) {
    const int result = socket_getsockopt(*socket, {level, name}, value, length);
    if (result != kLeaveToKernel) return answer(result);
  }
  return libc().getsockopt(fd, level, name, value, length);
}

TOE_EXPORT int close(int fd) {
  if (toe::libtoe::is_internal_fd(fd)) return answer(-EBADF);
  toe::libtoe::forget_fd(fd);
  const toe::libtoe::FdChange change;
  return libc().close(fd);
}

TOE_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  constexpr int kOnlyFlag = 4;  // CLOSE_RANGE_CLOEXEC: nothing is closed now
  if ((flags & kOnlyFlag) != 0) return libc().close_range(first, last, flags);
  const auto end = static_cast<unsigned>(FdTable::end());
  for (unsigned fd = first; fd <= last && fd < end; ++fd) {
    toe::libtoe::forget_fd(static_cast<int>(fd));
  }
  const toe::libtoe::FdChange change;
  return answer(toe::libtoe::close_around_internal(first, last, flags));
}

TOE_EXPORT void closefrom(int first) noexcept {
  close_range(static_cast<unsigned>(first < 0 ? 0 : first), ~0u, 0);
}

TOE_EXPORT int dup(int fd) noexcept {
  const int made = libc().dup(fd);
  if (made >= 0) toe::libtoe::note_dup(fd, made);
  return made;
}

namespace {

int replace_fd(int from, int to, int flags) {
  const toe::libtoe::FdChange change;
  return libc().dup3(from, to, flags);
}

}  // namespace

TOE_EXPORT int dup3(int from, int to, int flags) noexcept {
  if (from == to) return answer(-EINVAL);
  if (toe::libtoe::is_internal_fd(to)) return answer(-EBUSY);
  if (libc().fcntl(from, F_GETFD) < 0) return -1;
  toe::libtoe::forget_fd(to);
  const int made = replace_fd(from, to, flags);
  if (made >= 0) toe::libtoe::note_dup(from, made);
  return made;
}

TOE_EXPORT int dup2(int from, int to) noexcept {
  if (from == to) return libc().fcntl(from, F_GETFD) < 0 ? -1 : to;
  return dup3(from, to, 0);
}

namespace {

void note_owner(int fd) {
  Socket* socket = as_socket(FdTable::get(fd));
  if (socket == nullptr) return;
  socket->owned.store(true);
  if (socket->role() == Role::kConnection) toe::libtoe::follow_owner(*socket, fd);
}

int control_fd(int fd, int command, void* argument) {
  const int number = static_cast<int>(reinterpret_cast<intptr_t>(argument));
  Socket* socket = offloaded_socket(fd);
  if (socket != nullptr && command == F_SETFL) {
    socket->settings.nonblocking.store((number & O_NONBLOCK) != 0);
    // A listener stays O_NONBLOCK inside: its kernel side must never block an accept.
    const int inside = socket->role() == Role::kListener ? number | O_NONBLOCK : number;
    return libc().fcntl(fd, command, inside);
  }
  if (socket != nullptr && command == F_GETFL && socket->role() == Role::kListener) {
    const int flags = libc().fcntl(fd, command);
    return flags < 0 || socket->settings.nonblocking.load() ? flags : flags & ~O_NONBLOCK;
  }
  const int result = libc().fcntl(fd, command, argument);
  if (result == 0 && (command == F_SETOWN || command == F_SETOWN_EX)) note_owner(fd);
  if (result >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC)) {
    toe::libtoe::note_dup(fd, result);
  }
  return result;
}

}  // namespace

TOE_EXPORT int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void* argument = va_arg(list, void*);
  va_end(list);
  return control_fd(fd, command, argument);
}

TOE_EXPORT int fcntl64(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void* argument = va_arg(list, void*);
  va_end(list);
  return control_fd(fd, command, argument);
}

TOE_EXPORT int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list list;
  va_start(list, request);
  void* argument = va_arg(list, void*);
  va_end(list);
  if (Socket* socket = offloaded_socket(fd); socket != nullptr && argument != nullptr) {
    const int result = socket_ioctl(*socket, request, argument);
    if (result != kLeaveToKernel) return answer(result);
  }
  const int result = libc().ioctl(fd, request, argument);
  if (result == 0 && (request == FIOSETOWN || request == SIOCSPGRP)) note_owner(fd);
  return result;
}
