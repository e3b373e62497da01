// Ends, descriptors, processes, options and listeners.
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "model/odd_calls.h"

namespace toe::test {
namespace {

char g_byte[64];

short events_of(int fd) {
  pollfd entry{fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
  ::poll(&entry, 1, 0);
  return entry.revents;
}

void state_of(const std::string& what, int fd, bool sends) {
  note(what + " events", events_of(fd));
  note(what + " recv", ::recv(fd, g_byte, sizeof(g_byte), MSG_DONTWAIT));
  if (sends) {
    note(what + " send", ::send(fd, "s", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
    settle();
  }
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  note(what + " error", error);
  sockaddr_in name{};
  length = sizeof(name);
  note(what + " peer", ::getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length));
}

void shut(Ends ends, int how) {
  note("shutdown", ::shutdown(ends.client, how));
  settle();
  state_of("client", ends.client, true);
  state_of("server", ends.server, how == SHUT_WR);
  note("shutdown again", ::shutdown(ends.client, how));
  note("shutdown nonsense", ::shutdown(ends.client, 9));
}

void pass(int over, int fd) {
  char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part{const_cast<char*>("x"), 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  note("sendmsg", ::sendmsg(over, &message, 0));
}

int take_passed(int over) {
  char control[CMSG_SPACE(sizeof(int))] = {};
  char byte;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  note("recvmsg", ::recvmsg(over, &message, 0));
  int fd = -1;
  if (cmsghdr* header = CMSG_FIRSTHDR(&message)) std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
  return fd;
}

[[gnu::noinline]] pid_t start_quickly(int closes) {
  const pid_t child = ::vfork();
  if (child != 0) return child;
  ::close(closes);
  ::execl("/bin/true", "true", nullptr);
  ::_exit(1);
}

}  // namespace

void odd_ends(const Addresses& at) {
  for (const int how : {SHUT_RD, SHUT_WR, SHUT_RDWR}) {
    Ends ends = connect_pair(at);
    shut(ends, how);
    close_both(ends);
    ends = connect_pair(at);
    note("write", ::write(ends.server, "unread", 6));
    settle();
    shut(ends, how);
    close_both(ends);
  }
  // The peer closes with and without unread bytes, and the last words before it.
  for (const bool unread : {false, true}) {
    const Ends ends = connect_pair(at);
    if (unread) note("write", ::write(ends.server, "never read", 10));
    note("write", ::write(ends.client, "last words", 10));
    settle();
    note("close", ::close(ends.client));
    settle();
    state_of("after close", ends.server, false);
    note("close", ::close(ends.server));
  }
  // Half close in both orders.
  const Ends ends = connect_pair(at);
  note("shutdown", ::shutdown(ends.server, SHUT_WR));
  settle();
  note("read", ::read(ends.client, g_byte, 1));
  note("events", events_of(ends.client));
  note("write", ::write(ends.client, "still", 5));
  settle();
  note("read", ::read(ends.server, g_byte, 9));
  note("shutdown", ::shutdown(ends.client, SHUT_WR));
  settle();
  note("events", events_of(ends.client));
  note("events", events_of(ends.server));
  state_of("client", ends.client, true);
  state_of("server", ends.server, true);
  note("shutdown late", ::shutdown(ends.server, SHUT_RDWR));
  close_both(ends);
}

void odd_descriptors(const Addresses& at) {
  Ends ends = connect_pair(at);
  const Ends others = connect_pair(at);
  note("dup2 over", ::dup2(ends.client, others.client) == others.client);
  settle();
  note("peer of the replaced", ::read(others.server, g_byte, 1));
  note("write", ::write(others.client, "dup", 3));
  note("close", ::close(ends.client));
  note("write", ::write(others.client, "dup", 3));
  settle();
  note("read", ::read(ends.server, g_byte, 9));
  const int null = ::open("/dev/null", O_RDWR);
  note("dup2 a file over", ::dup2(null, others.client) == others.client);
  settle();
  note("read", ::read(ends.server, g_byte, 9));
  note("read of the file", ::read(others.client, g_byte, 9));
  note("dup2 itself", ::dup2(ends.server, ends.server) == ends.server);
  note("dup3 itself", ::dup3(ends.server, ends.server, 0));
  note("dup2 bad", ::dup2(-1, ends.server));
  note("dup3 flags", ::dup3(ends.server, others.client, 0x77));
  const int high = ::fcntl(ends.server, F_DUPFD_CLOEXEC, 500);
  note("dupfd", high >= 500);
  note("cloexec", ::fcntl(high, F_GETFD));
  note("getfl", ::fcntl(high, F_GETFL));
  note("setfl", ::fcntl(high, F_SETFL, O_NONBLOCK));
  note("getfl of the other", ::fcntl(ends.server, F_GETFL));
  note("read", ::read(ends.server, g_byte, 9));
  note("close", ::close(high));
  note("close again", ::close(high));
  note("read closed", ::read(high, g_byte, 1));
  note("lseek", ::lseek(ends.server, 0, SEEK_CUR));
  note("pread", ::pread(ends.server, g_byte, 1, 0));
  note("ftruncate", ::ftruncate(ends.server, 0));
  note("fsync", ::fsync(ends.server));
  note("listen", ::listen(ends.server, 5));
  note("accept", ::accept(ends.server, nullptr, nullptr));
  note("bind",
       ::bind(ends.server, reinterpret_cast<const sockaddr*>(&at.server), sizeof(at.server)));
  note("connect",
       ::connect(ends.server, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)));
  close_both(ends);
  ::close(others.server);
  ::close(others.client);

  // Pipes and files beside a socket.
  ends = connect_pair(at);
  int pipe[2];
  if (::pipe(pipe) != 0) return;
  char name[] = "/tmp/odd-calls-XXXXXX";
  const int file = ::mkstemp(name);
  ::unlink(name);
  note("pwrite", ::pwrite(file, "0123456789", 10, 0));
  off_t offset = 4;
  note("sendfile", ::sendfile(ends.client, file, &offset, 100));
  note("offset", offset);
  note("sendfile at the end", ::sendfile(ends.client, file, &offset, 100));
  note("sendfile", ::sendfile(ends.client, file, nullptr, 3));
  note("position", ::lseek(file, 0, SEEK_CUR));
  settle();
  note("read", ::read(ends.server, g_byte, 40));
  offset = -1;
  note("sendfile before the start", ::sendfile(ends.client, file, &offset, 3));
  note("sendfile of a pipe", ::sendfile(ends.client, pipe[0], nullptr, 3));
  ::close(pipe[0]);
  ::close(pipe[1]);
  ::close(file);
  // Closed by another thread while blocked is an end of the call, one way or the other.
  close_both(ends);
}

void odd_processes(const Addresses& at) {
  // A child that closes its copies takes nothing away; one that exits without neither.
  Ends ends = connect_pair(at);
  for (const bool closes : {true, false}) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (closes) close_both(ends);
      ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    settle();
    note("write", ::write(ends.client, "here", 4));
    settle();
    note("read", ::recv(ends.server, g_byte, 9, MSG_DONTWAIT));
  }
  // vfork and exec.
  int status = 0;
  ::waitpid(start_quickly(ends.client), &status, 0);
  note("vfork", status);
  note("write", ::write(ends.client, "still", 5));
  settle();
  note("read", ::recv(ends.server, g_byte, 9, MSG_DONTWAIT));
  // The child talks on; the parent has closed.
  int ready[2];
  if (::pipe(ready) != 0) return;
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends.client);
    if (::read(ready[0], g_byte, 1) != 1) ::_exit(1);
    ::_exit(::write(ends.server, "from the child", 14) == 14 ? 0 : 2);
  }
  ::close(ends.server);
  settle();
  note("before", ::recv(ends.client, g_byte, 20, MSG_DONTWAIT));
  note("go", ::write(ready[1], "g", 1));
  note("read", ::recv(ends.client, g_byte, 14, MSG_WAITALL));
  ::waitpid(child, &status, 0);
  note("status", status);
  settle();
  note("end", ::recv(ends.client, g_byte, 20, MSG_DONTWAIT));
  ::close(ends.client);
  ::close(ready[0]);
  ::close(ready[1]);

  // A descriptor on its way in a message.
  ends = connect_pair(at);
  int unix_pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair) != 0) return;
  pass(unix_pair[0], ends.server);
  note("close", ::close(ends.server));
  const int passed = take_passed(unix_pair[1]);
  note("write", ::write(ends.client, "to the passed", 13));
  settle();
  note("read", ::recv(passed, g_byte, 20, MSG_DONTWAIT));
  note("write", ::write(passed, "back", 4));
  settle();
  note("read", ::recv(ends.client, g_byte, 20, MSG_DONTWAIT));
  note("close", ::close(passed));
  settle();
  note("end", ::recv(ends.client, g_byte, 20, MSG_DONTWAIT));
  ::close(ends.client);
  ::close(unix_pair[0]);
  ::close(unix_pair[1]);
}

void odd_options(const Addresses& at) {
  const Ends ends = connect_pair(at);
  const struct {
    const char* name;
    int level, option;
  } all[] = {{"SO_TYPE", SOL_SOCKET, SO_TYPE},
             {"SO_DOMAIN", SOL_SOCKET, SO_DOMAIN},
             {"SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL},
             {"SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN},
             {"SO_BROADCAST", SOL_SOCKET, SO_BROADCAST},
             {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE},
             {"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT},
             {"SO_SNDLOWAT", SOL_SOCKET, SO_SNDLOWAT},
             {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY},
             {"SO_BUSY_POLL", SOL_SOCKET, SO_BUSY_POLL},
             {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE},
             {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},
             {"TCP_CORK", IPPROTO_TCP, TCP_CORK},
             {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE},
             {"TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT},
             {"TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT},
             {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT},
             {"TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN},
             {"nonsense", IPPROTO_TCP, 9999},
             {"nonsense", SOL_SOCKET, 9999},
             {"nonsense", 9999, 1}};
  for (const auto& one : all) {
    int value = -77;
    socklen_t length = sizeof(value);
    const std::string name = one.name;
    note(name, ::getsockopt(ends.client, one.level, one.option, &value, &length));
    note("  value", value);
    note("  length", length);
    value = 1;
    note("  set 1", ::setsockopt(ends.client, one.level, one.option, &value, sizeof(value)));
    note("  set short", ::setsockopt(ends.client, one.level, one.option, &value, 2));
    length = 1;
    value = 0x5555;
    note("  get short", ::getsockopt(ends.client, one.level, one.option, &value, &length));
    note("  length", length);
    note("  value", value);
  }
  int count = 0;
  note("FIONREAD", ::ioctl(ends.server, FIONREAD, &count));
  note("  count", count);
  note("FIONBIO", ::ioctl(ends.server, FIONBIO, &count));
  note("nonsense", ::ioctl(ends.server, 0x7777, &count));
  close_both(ends);
}

void odd_listeners(const Addresses& at) {
  int listener = listen_on(at, 2);
  sockaddr_in name{};
  socklen_t length = sizeof(name);
  note("getsockname", ::getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length));
  note("getpeername", ::getpeername(listener, reinterpret_cast<sockaddr*>(&name), &length));
  note("read", ::read(listener, g_byte, 1));
  note("recv", ::recv(listener, g_byte, 1, MSG_DONTWAIT));
  note("send", ::send(listener, g_byte, 1, MSG_NOSIGNAL));
  note("connect",
       ::connect(listener, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)));
  note("events", events_of(listener));
  note("accept4 flags", ::accept4(listener, nullptr, nullptr, 0x123));
  note("nonblock", ::fcntl(listener, F_SETFL, O_NONBLOCK));
  note("accept", ::accept(listener, nullptr, nullptr));
  note("listen again", ::listen(listener, 20));
  for (const int flags : {0, int{SOCK_NONBLOCK}, int{SOCK_CLOEXEC}, SOCK_NONBLOCK | SOCK_CLOEXEC}) {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    note("connect",
         ::connect(client, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)));
    settle();
    note("events", events_of(listener));
    length = 4;
    const int accepted = ::accept4(listener, reinterpret_cast<sockaddr*>(&name), &length, flags);
    note("accept4", accepted >= 0);
    note("  length", length);
    note("  getfl", ::fcntl(accepted, F_GETFL));
    note("  getfd", ::fcntl(accepted, F_GETFD));
    close_both({client, accepted});
  }
  // A connection that waits when the listener goes.
  int client = ::socket(AF_INET, SOCK_STREAM, 0);
  note("connect",
       ::connect(client, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)));
  settle();
  note("close", ::close(listener));
  ::close(client);
  // shutdown ends listening, listen begins it again.
  listener = listen_on(at, 2);
  note("shutdown", ::shutdown(listener, SHUT_RD));
  note("accept", ::accept(listener, nullptr, nullptr));
  note("events", events_of(listener));
  client = ::socket(AF_INET, SOCK_STREAM, 0);
  note("connect",
       ::connect(client, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)));
  ::close(client);
  note("listen", ::listen(listener, 5));
  client = ::socket(AF_INET, SOCK_STREAM, 0);
  note("connect",
       ::connect(client, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)));
  const int accepted = ::accept(listener, nullptr, nullptr);
  note("accept", accepted >= 0);
  close_both({client, accepted});
  ::close(listener);
}

}  // namespace toe::test
