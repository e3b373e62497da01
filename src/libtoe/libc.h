// libc's own functions behind the names that libtoe.so interposes. Everything in libtoe calls
// through this table, so that it never meets itself.
#ifndef TOE_LIBTOE_LIBC_H_
#define TOE_LIBTOE_LIBC_H_

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>

extern "C" int __vdprintf_chk(int fd, int flag, const char* format, va_list list);

namespace toe::libtoe {

// clang-format off
#define TOE_LIBC_NAMES(X) \
  X(accept4) X(bind) X(close) X(close_range) X(connect) X(dup) X(dup2) X(dup3) \
  X(epoll_create1) X(epoll_ctl) X(epoll_pwait) X(epoll_pwait2) X(epoll_wait) \
  X(execve) X(execvpe) X(fcntl) X(fdopen) X(fexecve) X(fileno) X(fileno_unlocked) \
  X(getpeername) X(getsockname) X(getsockopt) \
  X(ioctl) X(listen) X(poll) X(ppoll) X(preadv2) X(pselect) X(pwritev2) X(read) X(readv) \
  X(recv) X(recvfrom) X(recvmmsg) X(recvmsg) X(select) X(send) X(sendfile) X(sendmmsg) \
  X(sendmsg) X(sendto) X(setsockopt) X(shutdown) X(sigaction) X(signal) X(sockatmark) \
  X(socket) X(splice) X(sysv_signal) \
  X(syscall) X(vdprintf) X(__vdprintf_chk) X(write) X(writev)
// clang-format on

struct Libc {
  bool ready = false;
#define TOE_LIBC_MEMBER(name) decltype(&::name) name = nullptr;
  TOE_LIBC_NAMES(TOE_LIBC_MEMBER)
#undef TOE_LIBC_MEMBER
};

extern Libc g_libc;
/// Fills the table. Any thread; every caller finds the same pointers.
void load_libc();

inline const Libc& libc() {
  if (!g_libc.ready) [[unlikely]]
    load_libc();
  return g_libc;
}

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_LIBC_H_
