// stdio on sockets, wrong addresses, and the flags of recv and send.
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "model/odd_calls.h"

namespace toe::test {
namespace {

int print_list(int fd, const char* format, ...) {
  va_list list;
  va_start(list, format);
  const int n = ::vdprintf(fd, format, list);
  va_end(list);
  return n;
}

std::string read_text(int fd, std::size_t most = 4096) {
  std::string text(most, '\0');
  const ssize_t n = ::read(fd, text.data(), most);
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

void* at_number(std::intptr_t number) { return reinterpret_cast<void*>(number); }

void bad_transfers(Ends ends, void* bad) {
  note("write", ::write(ends.client, bad, 10));
  note("send", ::send(ends.client, bad, 10, MSG_DONTWAIT));
  iovec half[] = {{const_cast<char*>("half"), 4}, {bad, 7}};
  note("writev, second bad", ::writev(ends.client, half, 2));
  iovec whole[] = {{bad, 7}};
  note("writev, first bad", ::writev(ends.client, whole, 1));
  note("writev, vector bad", ::writev(ends.client, static_cast<iovec*>(bad), 2));
  note("sendmsg", ::sendmsg(ends.client, static_cast<msghdr*>(bad), 0));
  note("write", ::write(ends.client, "bytes", 5));
  settle();
  note("read", ::read(ends.server, bad, 10));
  note("recv peek", ::recv(ends.server, bad, 10, MSG_PEEK));
  note("recvmsg", ::recvmsg(ends.server, static_cast<msghdr*>(bad), MSG_DONTWAIT));
  char two[2];
  iovec into[] = {{two, 2}, {bad, 7}};
  note("readv, second bad", ::readv(ends.server, into, 2));
  say("rest", read_text(ends.server));
  if (reinterpret_cast<long>(bad) < 0) return;  // the kernel does not even look for bytes
  note("read, nothing there", ::recv(ends.server, bad, 10, MSG_DONTWAIT));
  note("trunc", ::recv(ends.server, bad, 10, MSG_DONTWAIT | MSG_TRUNC));
}

void bad_others(Ends ends, void* bad) {
  auto* length = static_cast<socklen_t*>(bad);
  auto* name = static_cast<sockaddr*>(bad);
  int value = 0;
  socklen_t size = sizeof(value);
  sockaddr_in out{};
  socklen_t out_size = sizeof(out);
  note("getsockopt value", ::getsockopt(ends.client, SOL_SOCKET, SO_ERROR, bad, &size));
  note("getsockopt length", ::getsockopt(ends.client, SOL_SOCKET, SO_ERROR, &value, length));
  note("setsockopt", ::setsockopt(ends.client, SOL_SOCKET, SO_KEEPALIVE, bad, sizeof(value)));
  note("getsockname", ::getsockname(ends.client, name, &out_size));
  note("getpeername", ::getpeername(ends.client, reinterpret_cast<sockaddr*>(&out), length));
  note("connect", ::connect(ends.client, name, sizeof(out)));
  note("ioctl", ::ioctl(ends.client, FIONREAD, bad));
  note("poll", ::poll(static_cast<pollfd*>(bad), 1, 0));
  const int epoll = ::epoll_create1(0);
  note("epoll_ctl", ::epoll_ctl(epoll, EPOLL_CTL_ADD, ends.client, static_cast<epoll_event*>(bad)));
  epoll_event event{};
  event.events = EPOLLOUT;
  note("epoll_ctl good", ::epoll_ctl(epoll, EPOLL_CTL_ADD, ends.client, &event));
  note("epoll_wait", ::epoll_wait(epoll, static_cast<epoll_event*>(bad), 4, 0));
  ::close(epoll);
}

void lines_and_numbers(const Addresses& at) {
  const Ends ends = connect_pair(at);
  FILE* out = ::fdopen(ends.client, "w");
  note("fileno", ::fileno(out) == ends.client);
  note("fprintf", std::fprintf(out, "number %d\nsecond line\n", 42));
  note("fflush", std::fflush(out));
  FILE* in = ::fdopen(::dup(ends.server), "r");
  char line[100] = "";
  note("fgets", std::fgets(line, sizeof(line), in) != nullptr);
  say("line", line);
  note("fgetc", std::fgetc(in));
  note("ungetc", std::ungetc('S', in));
  note("fgets", std::fgets(line, sizeof(line), in) != nullptr);
  say("line", line);
  note("dprintf", ::dprintf(ends.server, "%s-%05d|", "from dprintf", 7));
  note("vdprintf", print_list(ends.server, "%x", 255));
  settle();
  say("got", read_text(ends.client));
  std::string large(300'000, 'x');
  if (::fork() == 0) {
    const bool all = std::fwrite(large.data(), 1, large.size(), out) == large.size();
    ::_exit(all && std::fclose(out) == 0 ? 0 : 1);
  }
  note("fclose", std::fclose(out));
  std::size_t total = 0;
  std::string piece(10'000, '\0');
  while (total < large.size()) {
    const std::size_t n = std::fread(piece.data(), 1, piece.size(), in);
    if (n == 0) break;
    total += n;
  }
  note("fread", static_cast<long>(total));
  say("end", std::fgetc(in) == EOF ? "yes" : "no");
  note("feof", std::feof(in) != 0);
  int status = -1;
  ::wait(&status);
  note("status", status);
  note("fclose", std::fclose(in));
  ::close(ends.server);
}

void both_ways(const Addresses& at) {
  const Ends ends = connect_pair(at);
  char line[100] = "";
  FILE* both = ::fdopen(ends.client, "r+");
  note("fputs", std::fputs("ask\n", both));
  note("fflush", std::fflush(both));
  say("asked", read_text(ends.server));
  note("write", ::write(ends.server, "answer\n", 7));
  note("fgets", std::fgets(line, sizeof(line), both) != nullptr);
  say("line", line);
  note("bad mode", ::fdopen(ends.server, "x") == nullptr ? -1 : 0);
  std::signal(SIGPIPE, SIG_IGN);
  note("shutdown", ::shutdown(ends.client, SHUT_WR));
  note("fputs", std::fputs("late\n", both));
  note("fflush", std::fflush(both));
  note("ferror", std::ferror(both) != 0);
  note("dprintf", ::dprintf(ends.client, "late"));
  note("fclose", std::fclose(both));
  ::close(ends.server);
}

void before_connect(const Addresses& at) {
  const int listener = listen_on(at);
  const int early = ::socket(AF_INET, SOCK_STREAM, 0);
  FILE* stream = ::fdopen(early, "w");
  note("connect",
       ::connect(early, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)));
  const int accepted = ::accept(listener, nullptr, nullptr);
  std::fputs("early bird", stream);
  note("fclose", std::fclose(stream));
  settle();
  say("got", read_text(accepted));
  char byte;
  note("end", ::read(accepted, &byte, 1));
  close_both({listener, accepted});
}

}  // namespace

void odd_streams(const Addresses& at) {
  lines_and_numbers(at);
  both_ways(at);
  before_connect(at);
}

int odd_stream_child() {
  char line[100];
  std::printf("unflushed ");
  while (std::fgets(line, sizeof(line), stdin) != nullptr) std::printf("child got %s", line);
  std::puts("child ends");
  return 0;
}

void odd_standard_streams(const Addresses& at) {
  // As inetd: the socket is the standard input and output of another program.
  Ends ends = connect_pair(at);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends.client);
    ::dup2(ends.server, 0);
    ::dup2(ends.server, 1);
    ::close(ends.server);
    ::execl("/proc/self/exe", "odd_calls", "stream_child", nullptr);
    ::_exit(9);
  }
  ::close(ends.server);
  note("write", ::write(ends.client, "one\ntwo\n", 8));
  note("shutdown", ::shutdown(ends.client, SHUT_WR));
  std::string all;
  for (std::string piece; !(piece = read_text(ends.client)).empty();) all += piece;
  say("all", all);
  int status = 0;
  ::waitpid(child, &status, 0);
  note("status", status);
  ::close(ends.client);

  // In one program: what was printed before goes to the socket with what comes after.
  ends = connect_pair(at);
  const int kept = ::dup(STDOUT_FILENO);
  std::printf("before ");
  ::dup2(ends.server, STDOUT_FILENO);
  std::printf("and after\n");
  note("fileno", ::fileno(stdout));
  note("fflush", std::fflush(stdout));
  ::dup2(kept, STDOUT_FILENO);
  settle();
  say("got", read_text(ends.client));
  ::close(kept);
  close_both(ends);
}

void odd_faults(const Addresses& at) {
  for (const std::intptr_t number : {0, 64, -4096, -1}) {
    void* const bad = at_number(number);
    const Ends ends = connect_pair(at);
    bad_transfers(ends, bad);
    bad_others(ends, bad);
    close_both(ends);
  }
  const Ends ends = connect_pair(at);
  char byte = 'a';
  iovec wrong[] = {{&byte, 1}, {&byte, ~std::size_t{0}}};
  note("writev, too long", ::writev(ends.client, wrong, 2));
  volatile int negative = -1;  // not for the compiler to see
  note("writev, negative", ::writev(ends.client, wrong, negative));
  iovec many[1025];
  for (iovec& part : many) part = {&byte, 1};
  note("writev, too many", ::writev(ends.client, many, 1025));
  msghdr message{};
  message.msg_iov = many;
  message.msg_iovlen = 1025;
  note("sendmsg, too many", ::sendmsg(ends.client, &message, 0));
  message.msg_iovlen = 2;
  many[1].iov_len = ~std::size_t{0};
  note("sendmsg, negative", ::sendmsg(ends.client, &message, 0));
  note("writev, none", ::writev(ends.client, many, 0));
  close_both(ends);
}

void odd_flags(const Addresses& at) {
  const Ends ends = connect_pair(at);
  char buffer[64] = "";
  const auto take = [&](const char* what, std::size_t length, int flags) {
    std::memset(buffer, 0, sizeof(buffer));
    const ssize_t n = ::recv(ends.server, buffer, length, flags);
    note(what, n);
    if (n > 0) say("  bytes", std::string(buffer, static_cast<std::size_t>(n)));
  };
  take("dontwait, nothing", 5, MSG_DONTWAIT);
  take("peek, nothing", 5, MSG_DONTWAIT | MSG_PEEK);
  take("no bytes, nothing", 0, MSG_DONTWAIT);
  note("read no bytes", ::read(ends.server, buffer, 0));
  note("send nothing", ::send(ends.client, "", 0, 0));
  note("write nothing", ::write(ends.client, "", 0));
  note("send", ::send(ends.client, "abcdefghij", 10, MSG_NOSIGNAL));
  settle();
  take("no bytes, some there", 0, MSG_DONTWAIT);
  take("peek", 4, MSG_PEEK);
  take("peek all", 40, MSG_PEEK);
  take("peek, waitall, dontwait", 40, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT);
  take("take", 3, 0);
  take("waitall, dontwait", 40, MSG_WAITALL | MSG_DONTWAIT);
  take("oob", 1, MSG_OOB);
  take("errqueue", 1, MSG_ERRQUEUE | MSG_DONTWAIT);
  note("send", ::send(ends.client, "0123456789", 10, MSG_MORE));
  note("send", ::send(ends.client, "tail", 4, 0));
  settle();
  note("trunc", ::recv(ends.server, buffer, 4, MSG_TRUNC));
  note("trunc, no buffer", ::recv(ends.server, nullptr, 4, MSG_TRUNC));
  take("rest", 40, 0);
  iovec parts[] = {{buffer, 3}, {buffer + 10, 30}};
  msghdr message{};
  sockaddr_in from{};
  char control[64];
  message.msg_name = &from;
  message.msg_namelen = sizeof(from);
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  message.msg_flags = 0x55;
  note("send", ::send(ends.client, "a message", 9, 0));
  settle();
  note("recvmsg", ::recvmsg(ends.server, &message, MSG_CMSG_CLOEXEC));
  note("  namelen", message.msg_namelen);
  note("  controllen", static_cast<long>(message.msg_controllen));
  note("  flags", message.msg_flags & ~MSG_CMSG_CLOEXEC);
  mmsghdr batch[3] = {};
  for (mmsghdr& one : batch) {
    one.msg_hdr.msg_iov = parts;
    one.msg_hdr.msg_iovlen = 1;
  }
  note("send", ::send(ends.client, "abcdefg", 7, 0));
  settle();
  note("recvmmsg", ::recvmmsg(ends.server, batch, 3, MSG_DONTWAIT, nullptr));
  note("  lengths", batch[0].msg_len * 100 + batch[1].msg_len * 10 + batch[2].msg_len);
  socklen_t length = sizeof(from);
  note("send", ::send(ends.client, "xy", 2, 0));
  settle();
  note("recvfrom",
       ::recvfrom(ends.server, buffer, 9, 0, reinterpret_cast<sockaddr*>(&from), &length));
  note("  length", length);
  note("sendto with an address",
       ::sendto(ends.client, "to", 2, 0, reinterpret_cast<const sockaddr*>(&at.client),
                sizeof(at.client)));
  note("send oob and dontwait", ::send(ends.client, "!", 1, MSG_DONTWAIT));
  note("flag unknown", ::send(ends.client, "!", 1, 0x400000));
  close_both(ends);
}

}  // namespace toe::test
