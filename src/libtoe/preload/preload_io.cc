// The names through which bytes pass.
#include <algorithm>

#include "libtoe/inherit.h"
#include "libtoe/io.h"
#include "libtoe/limbo.h"
#include "libtoe/preload/preload.h"
#include "libtoe/user_memory.h"

using toe::libtoe::answer;
using toe::libtoe::IoCursor;
using toe::libtoe::libc;
using toe::libtoe::may_be_mapped;
using toe::libtoe::offloaded_socket;
using toe::libtoe::Role;
using toe::libtoe::Socket;

namespace {

// A listener carries no bytes.
Socket* stream(int fd) {
  Socket* socket = offloaded_socket(fd);
  return socket != nullptr && socket->role() == Role::kConnection ? socket : nullptr;
}

ssize_t vector_call(Socket& socket, const iovec* parts, int count, bool out) {
  if (count < 0) return answer<ssize_t>(-EINVAL);
  const int error = toe::libtoe::check_vector(parts, static_cast<std::size_t>(count));
  if (error != 0) return answer<ssize_t>(error);
  const IoCursor cursor(parts, static_cast<std::size_t>(count));
  if (cursor.left() == 0) return 0;
  return answer(out ? socket_send(socket, cursor, 0) : socket_recv(socket, cursor, 0));
}

}  // namespace

extern "C" [[noreturn]] void __chk_fail();

TOE_EXPORT ssize_t read(int fd, void* buffer, size_t length) {
  if (Socket* socket = stream(fd)) {
    return length == 0 ? 0 : answer(socket_recv(*socket, buffer, length, 0));
  }
  return libc().read(fd, buffer, length);
}

TOE_EXPORT ssize_t __read_chk(int fd, void* buffer, size_t length, size_t room) {
  if (length > room) __chk_fail();
  return read(fd, buffer, length);
}

TOE_EXPORT ssize_t write(int fd, const void* buffer, size_t length) {
  if (Socket* socket = stream(fd)) return answer(socket_send(*socket, buffer, length, 0));
  return libc().write(fd, buffer, length);
}

TOE_EXPORT ssize_t recv(int fd, void* buffer, size_t length, int flags) {
  if (Socket* socket = stream(fd)) return answer(socket_recv(*socket, buffer, length, flags));
  return libc().recv(fd, buffer, length, flags);
}

TOE_EXPORT ssize_t __recv_chk(int fd, void* buffer, size_t length, size_t room, int flags) {
  if (length > room) __chk_fail();
  return recv(fd, buffer, length, flags);
}

TOE_EXPORT ssize_t send(int fd, const void* buffer, size_t length, int flags) {
  if (Socket* socket = stream(fd)) return answer(socket_send(*socket, buffer, length, flags));
  return libc().send(fd, buffer, length, flags);
}

TOE_EXPORT ssize_t recvfrom(int fd, void* buffer, size_t length, int flags, sockaddr* from,
                            socklen_t* from_length) {
  Socket* socket = stream(fd);
  if (socket == nullptr) return libc().recvfrom(fd, buffer, length, flags, from, from_length);
  if (from != nullptr && may_be_mapped(from_length)) *from_length = 0;  // a stream has no sender
  return answer(socket_recv(*socket, buffer, length, flags));
}

TOE_EXPORT ssize_t __recvfrom_chk(int fd, void* buffer, size_t length, size_t room, int flags,
                                  sockaddr* from, socklen_t* from_length) {
  if (length > room) __chk_fail();
  return recvfrom(fd, buffer, length, flags, from, from_length);
}

TOE_EXPORT ssize_t sendto(int fd, const void* buffer, size_t length, int flags, const sockaddr* to,
                          socklen_t to_length) {
  if (Socket* socket = stream(fd)) return answer(socket_send(*socket, buffer, length, flags));
  return libc().sendto(fd, buffer, length, flags, to, to_length);
}

TOE_EXPORT ssize_t readv(int fd, const iovec* parts, int count) {
  if (Socket* socket = stream(fd)) return vector_call(*socket, parts, count, false);
  return libc().readv(fd, parts, count);
}

TOE_EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  if (Socket* socket = stream(fd)) return vector_call(*socket, parts, count, true);
  return libc().writev(fd, parts, count);
}

TOE_EXPORT ssize_t preadv2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  if (offset == -1 && flags == 0 && stream(fd) != nullptr) return readv(fd, parts, count);
  return libc().preadv2(fd, parts, count, offset, flags);
}

TOE_EXPORT ssize_t pwritev2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  if (offset == -1 && flags == 0 && stream(fd) != nullptr) return writev(fd, parts, count);
  return libc().pwritev2(fd, parts, count, offset, flags);
}

TOE_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  if (Socket* socket = stream(fd)) return answer(socket_recvmsg(*socket, message, flags));
  const ssize_t n = libc().recvmsg(fd, message, flags);
  if (n >= 0 && message->msg_controllen != 0) toe::libtoe::show_received(*message);
  return n;
}

TOE_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  if (Socket* socket = stream(fd)) return answer(socket_sendmsg(*socket, message, flags));
  if (may_be_mapped(message)) toe::libtoe::note_sent(*message);
  return libc().sendmsg(fd, message, flags);
}

TOE_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  Socket* socket = stream(fd);
  if (socket == nullptr) return libc().recvmmsg(fd, messages, count, flags, timeout);
  if (count != 0 && !may_be_mapped(messages, sizeof(*messages) * count)) return answer(-EFAULT);
  unsigned done = 0;
  for (; done < count; ++done) {
    const int wait = done > 0 && (flags & MSG_WAITFORONE) != 0 ? MSG_DONTWAIT : 0;
    const ssize_t n =
        socket_recvmsg(*socket, &messages[done].msg_hdr, (flags & ~MSG_WAITFORONE) | wait);
    if (n < 0 && done == 0) return static_cast<int>(answer(n));
    if (n < 0) break;
    messages[done].msg_len = static_cast<unsigned>(n);
    if (n == 0) return static_cast<int>(done + 1);
  }
  return static_cast<int>(done);
}

TOE_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  Socket* socket = stream(fd);
  if (socket == nullptr) return libc().sendmmsg(fd, messages, count, flags);
  if (count != 0 && !may_be_mapped(messages, sizeof(*messages) * count)) return answer(-EFAULT);
  unsigned done = 0;
  for (; done < count; ++done) {
    const ssize_t n = socket_sendmsg(*socket, &messages[done].msg_hdr, flags);
    if (n < 0 && done == 0) return static_cast<int>(answer(n));
    if (n < 0) break;
    messages[done].msg_len = static_cast<unsigned>(n);
  }
  return static_cast<int>(done);
}

TOE_EXPORT ssize_t sendfile(int out, int in, off_t* offset, size_t count) {
  if (stream(in) != nullptr) return answer<ssize_t>(-EINVAL);  // as splice
  if (Socket* socket = stream(out)) return answer(socket_sendfile(*socket, in, offset, count));
  return libc().sendfile(out, in, offset, count);
}

TOE_EXPORT ssize_t sendfile64(int out, int in, off_t* offset, size_t count) {
  return sendfile(out, in, offset, count);
}

TOE_EXPORT ssize_t splice(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t count,
                          unsigned flags) {
  // As the kernel answers for a descriptor that cannot splice: programs fall back to copying.
  if (stream(in) != nullptr || stream(out) != nullptr) return answer<ssize_t>(-EINVAL);
  return libc().splice(in, in_offset, out, out_offset, count, flags);
}
