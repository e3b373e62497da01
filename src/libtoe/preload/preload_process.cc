// Load, fork, and the raw system call entry.
#include <pthread.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "libtoe/open.h"
#include "libtoe/preload/preload.h"
#include "libtoe/runtime.h"
#include "toe/toe.h"

using toe::libtoe::answer;
using toe::libtoe::libc;
using toe::libtoe::Runtime;

namespace {

void before_fork() { Runtime::get().before_fork(); }
void after_fork_parent() { Runtime::get().after_fork_parent(); }
void after_fork_child() { Runtime::get().after_fork_child(); }

__attribute__((constructor)) void load() {
  const int saved = errno;
  toe::libtoe::load_libc();
  ::pthread_atfork(before_fork, after_fork_parent, after_fork_child);
  Runtime::get().start();
  errno = saved;
}

}  // namespace

TOE_EXPORT const char* toe_version(void) { return TOE_VERSION; }

extern "C" {
// The interposed names, called by number below.
int close(int);
int listen(int, int) noexcept;
}

namespace {

struct SyscallArguments {
  long a, b, c, d, e, f;
};

template <typename T>
T* pointer(long value) {
  return reinterpret_cast<T*>(value);
}

// Socket calls made by number go the same way as by name. False: not one of them.
bool by_number(long number, const SyscallArguments& args, long& result) {
  const int fd = static_cast<int>(args.a);
  const auto length = static_cast<std::size_t>(args.c);
  switch (number) {
    case SYS_read:
      result = ::read(fd, pointer<void>(args.b), length);
      return true;
    case SYS_write:
      result = ::write(fd, pointer<const void>(args.b), length);
      return true;
    case SYS_readv:
      result = ::readv(fd, pointer<const iovec>(args.b), static_cast<int>(args.c));
      return true;
    case SYS_writev:
      result = ::writev(fd, pointer<const iovec>(args.b), static_cast<int>(args.c));
      return true;
    case SYS_recvfrom:
      result = ::recvfrom(fd, pointer<void>(args.b), length, static_cast<int>(args.d),
                          pointer<sockaddr>(args.e), pointer<socklen_t>(args.f));
      return true;
    case SYS_sendto:
      result = ::sendto(fd, pointer<const void>(args.b), length, static_cast<int>(args.d),
                        pointer<const sockaddr>(args.e), static_cast<socklen_t>(args.f));
      return true;
    case SYS_recvmsg:
      result = ::recvmsg(fd, pointer<msghdr>(args.b), static_cast<int>(args.c));
      return true;
    case SYS_sendmsg:
      result = ::sendmsg(fd, pointer<const msghdr>(args.b), static_cast<int>(args.c));
      return true;
    case SYS_socket:
      result = ::socket(fd, static_cast<int>(args.b), static_cast<int>(args.c));
      return true;
    case SYS_connect:
      result = ::connect(fd, pointer<const sockaddr>(args.b), static_cast<socklen_t>(args.c));
      return true;
    case SYS_listen:
      result = ::listen(fd, static_cast<int>(args.b));
      return true;
    case SYS_accept4:
      result = ::accept4(fd, pointer<sockaddr>(args.b), pointer<socklen_t>(args.c),
                         static_cast<int>(args.d));
      return true;
    case SYS_shutdown:
      result = ::shutdown(fd, static_cast<int>(args.b));
      return true;
    case SYS_close:
      result = ::close(fd);
      return true;
    case SYS_epoll_ctl:
      result = ::epoll_ctl(fd, static_cast<int>(args.b), static_cast<int>(args.c),
                           pointer<epoll_event>(args.d));
      return true;
    case SYS_close_range:
      result = ::close_range(static_cast<unsigned>(args.a), static_cast<unsigned>(args.b),
                             static_cast<int>(args.c));
      return true;
    default:
      return false;
  }
}

}  // namespace

TOE_EXPORT long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  SyscallArguments args{};
  args.a = va_arg(list, long);
  args.b = va_arg(list, long);
  args.c = va_arg(list, long);
  args.d = va_arg(list, long);
  args.e = va_arg(list, long);
  args.f = va_arg(list, long);
  va_end(list);
  long result = 0;
  if (by_number(number, args, result)) return result;
  // A ring would read and write the placeholders of offloaded sockets behind our back.
  if (number == SYS_io_uring_setup) {
    if (toe::libtoe::any_socket_offloaded()) return answer<long>(-ENOSYS);
    toe::libtoe::note_io_uring();
  }
  return libc().syscall(number, args.a, args.b, args.c, args.d, args.e, args.f);
}
