// How sockets come and go: socket, listen, connect, accept, close, dup, shutdown, and the offer of
// each to the engine. Results are negative errno values, or kLeaveToKernel.
#ifndef TOE_LIBTOE_OPEN_H_
#define TOE_LIBTOE_OPEN_H_

#include <sys/socket.h>

#include "libtoe/socket.h"

namespace toe::libtoe {

/// The call is libc's business.
inline constexpr int kLeaveToKernel = 1;

/// `fd` names `file`, which is held for it, from now on. False when the number is beyond the table:
/// `file` is given up.
bool name_file(int fd, File& file);
/// A socket(2) of the program has returned `fd`.
void note_socket(int fd, int domain, int type, int protocol);
/// A TCP socket of unknown history (received, inherited): tracked as if fresh.
Socket* track(int fd, int family);
/// Shows `fd` to the engine; becomes what the engine says it is.
void show_socket(int fd);

/// bind(2). What the engine keeps of a program that ended just now does not stand in the way.
int socket_bind(int fd, const sockaddr* address, socklen_t length);
/// listen(2): the kernel listens first, then the engine is asked.
int socket_listen(Socket& socket, int fd, int backlog);
/// Tells the engine again what backlog and options the program gives its listener.
void update_listener(Socket& socket, int fd);
int socket_connect(Socket& socket, int fd, const sockaddr* address, socklen_t length);
/// `flags` as accept4(2). The new fd, or a negative errno.
int socket_accept(Socket& socket, int fd, sockaddr* address, socklen_t* length, int flags);
/// Before an accept by the kernel alone: with a listener that no engine has seen yet this waits for
/// a visitor as that accept would, and looks for an engine meanwhile. 0 to go on, or a negative
/// errno.
int await_engine(int fd);
int socket_shutdown(Socket& socket, int fd, int how);
/// Forgets `fd`; the last one gives the socket or epoll instance up. Before libc's close.
void forget_fd(int fd);
/// `to` names now what `from` names. After libc's dup.
void note_dup(int from, int to);
/// getsockname and getpeername.
int socket_name(const Socket& socket, bool remote, sockaddr* address, socklen_t* length);

/// After an engine came back: registers every listener of this process again.
void offer_listeners(Attachment& attachment);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_OPEN_H_
