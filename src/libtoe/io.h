// recv, send and their families on offloaded connections: POSIX semantics over Connection.
// Results as the system calls inside the kernel: a count or a negative errno.
#ifndef TOE_LIBTOE_IO_H_
#define TOE_LIBTOE_IO_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>

#include "libtoe/io_cursor.h"
#include "libtoe/socket.h"

namespace toe::libtoe {

ssize_t socket_recv(Socket& socket, IoCursor into, int flags);
ssize_t socket_send(Socket& socket, IoCursor from, int flags);
/// 0, or the errno that Linux has for such an array of buffers.
int check_vector(const iovec* parts, std::size_t count);
ssize_t socket_recvmsg(Socket& socket, msghdr* message, int flags);
ssize_t socket_sendmsg(Socket& socket, const msghdr* message, int flags);
/// sendfile(2) towards an offloaded connection.
ssize_t socket_sendfile(Socket& socket, int in_fd, off_t* offset, std::size_t count);

inline ssize_t socket_recv(Socket& socket, void* buffer, std::size_t length, int flags) {
  const iovec part{buffer, length};
  return socket_recv(socket, IoCursor(&part, 1), flags);
}
inline ssize_t socket_send(Socket& socket, const void* buffer, std::size_t length, int flags) {
  const iovec part{const_cast<void*>(buffer), length};
  return socket_send(socket, IoCursor(&part, 1), flags);
}

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_IO_H_
