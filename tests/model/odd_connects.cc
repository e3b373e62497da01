// Connecting in unusual orders, time-outs, and sockets that are not connected at all.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <thread>
#include <vector>

#include "model/odd_calls.h"

namespace toe::test {
namespace {

char g_bytes[100'000];

const sockaddr* plain(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

short events_of(int fd, short wanted = POLLIN | POLLOUT | POLLRDHUP) {
  pollfd entry{fd, wanted, 0};
  ::poll(&entry, 1, 0);
  return entry.revents;
}

int error_of(int fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

void limit(int fd, int option, long ms) {
  const timeval time{ms / 1000, ms % 1000 * 1000};
  note("time-out", ::setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)));
}

long fill(int fd) {
  long total = 0;
  for (;;) {
    const ssize_t n = ::send(fd, g_bytes, sizeof(g_bytes), MSG_DONTWAIT);
    if (n < 0) return total;
    total += n;
    if (total > 200'000'000) return -1;
  }
}

}  // namespace

void odd_fresh(const Addresses& at) {
  std::signal(SIGPIPE, SIG_IGN);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  note("events", events_of(fd));
  note("read", ::read(fd, g_bytes, 1));
  note("write", ::write(fd, g_bytes, 1));
  sockaddr_in name{};
  socklen_t length = sizeof(name);
  note("getpeername", ::getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length));
  note("getsockname", ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length));
  note("accept", ::accept(fd, nullptr, nullptr));
  const int epoll = ::epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP;
  note("epoll_ctl", ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 0));
  note("  events", event.events);
  note("connect, short", ::connect(fd, plain(at.client), 4));
  sockaddr_in wrong = at.client;
  wrong.sin_family = AF_UNIX;
  note("connect, family", ::connect(fd, plain(wrong), sizeof(wrong)));
  // Registered before it connects: the registration follows.
  const int listener = listen_on(at);
  note("connect", ::connect(fd, plain(at.client), sizeof(at.client)));
  const int accepted = ::accept(listener, nullptr, nullptr);
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 0));
  note("  events", event.events);
  note("write", ::write(accepted, "x", 1));
  settle();
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 0));
  note("  events", event.events);
  note("connect again", ::connect(fd, plain(at.client), sizeof(at.client)));
  note("close", ::close(accepted));
  settle();
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 0));
  note("  events", event.events);
  for (const int one : {fd, epoll, listener}) ::close(one);
}

void odd_connects(const Addresses& at) {
  const int listener = listen_on(at);
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int first = ::connect(fd, plain(at.client), sizeof(at.client));
  note("in progress", first == -1 && errno == EINPROGRESS);
  settle();
  note("events", events_of(fd));
  note("error", error_of(fd));
  note("connect", ::connect(fd, plain(at.client), sizeof(at.client)));
  note("connect", ::connect(fd, plain(at.client), sizeof(at.client)));
  int accepted = ::accept(listener, nullptr, nullptr);
  close_both({fd, accepted});
  // Without asking how the connect went.
  fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  ::connect(fd, plain(at.client), sizeof(at.client));
  settle();
  note("write", ::write(fd, "at once", 7));
  accepted = ::accept(listener, nullptr, nullptr);
  settle();
  note("read", ::recv(accepted, g_bytes, 20, MSG_DONTWAIT));
  note("getfl", ::fcntl(fd, F_GETFL));
  note("getfl", ::fcntl(accepted, F_GETFL));
  close_both({fd, accepted});
  // Many at once, accepted later, with bytes that were there before.
  std::vector<int> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(::socket(AF_INET, SOCK_STREAM, 0));
    note("connect", ::connect(clients.back(), plain(at.client), sizeof(at.client)));
    note("write", ::write(clients.back(), "early", 5));
  }
  settle();
  for (const int client : clients) {
    accepted = ::accept(listener, nullptr, nullptr);
    note("events", events_of(accepted));
    note("read", ::read(accepted, g_bytes, 9));
    close_both({client, accepted});
  }
  // A peer that is gone before it is accepted.
  fd = ::socket(AF_INET, SOCK_STREAM, 0);
  note("connect", ::connect(fd, plain(at.client), sizeof(at.client)));
  note("write", ::write(fd, "and gone", 8));
  note("close", ::close(fd));
  settle();
  accepted = ::accept(listener, nullptr, nullptr);
  note("events", events_of(accepted));
  note("read", ::read(accepted, g_bytes, 20));
  note("read", ::read(accepted, g_bytes, 20));
  ::close(accepted);
  ::close(listener);
}

void odd_limits(const Addresses& at) {
  const Ends ends = connect_pair(at);
  limit(ends.server, SO_RCVTIMEO, 60);
  long start = now_ms();
  note("read", ::read(ends.server, g_bytes, 1));
  say("  in time", now_ms() - start >= 55 && now_ms() - start < 300 ? "yes" : "no");
  note("waitall", ::write(ends.client, "abc", 3));
  start = now_ms();
  note("waitall", ::recv(ends.server, g_bytes, 9, MSG_WAITALL));
  say("  in time", now_ms() - start >= 55 && now_ms() - start < 300 ? "yes" : "no");
  limit(ends.client, SO_SNDTIMEO, 60);
  say("full", fill(ends.client) > 0 ? "yes" : "no");
  do {
    settle();  // buffers may grow behind the last write
  } while (fill(ends.client) != 0);
  note("events", events_of(ends.client, POLLOUT));
  start = now_ms();
  note("write", ::write(ends.client, g_bytes, 10));
  say("  in time", now_ms() - start >= 55 && now_ms() - start < 300 ? "yes" : "no");
  // Room again: an edge for a writer that found it full.
  const int epoll = ::epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLOUT | EPOLLET;
  note("epoll_ctl", ::epoll_ctl(epoll, EPOLL_CTL_ADD, ends.client, &event));
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 0));
  std::thread reader([&] {
    ::usleep(50'000);
    limit(ends.server, SO_RCVTIMEO, 100);
    while (::read(ends.server, g_bytes, sizeof(g_bytes)) > 0) {
    }
  });
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 2000));
  note("  events", event.events);
  reader.join();
  note("events", events_of(ends.client, POLLOUT));
  int queued = -1;
  note("FIONREAD", ::ioctl(ends.server, FIONREAD, &queued));
  note("  count", queued);
  ::close(epoll);
  close_both(ends);
}

// No number left for the connection that waits.
void odd_no_numbers(const Addresses& at) {
  const int listener = listen_on(at);
  const int client = ::socket(AF_INET, SOCK_STREAM, 0);
  note("connect", ::connect(client, plain(at.client), sizeof(at.client)));
  note("write", ::write(client, "hello", 5));
  settle();
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  std::vector<int> taken;
  for (;;) {
    const int fd = ::dup(client);
    if (fd < 0) break;
    taken.push_back(fd);
    if (taken.size() > 100'000) break;
  }
  note("accept", ::accept(listener, nullptr, nullptr));
  note("socket", ::socket(AF_INET, SOCK_STREAM, 0));
  note("epoll_create1", ::epoll_create1(0));
  ::close(taken.back());
  taken.pop_back();
  const int accepted = ::accept(listener, nullptr, nullptr);
  note("accept", accepted >= 0);
  note("read", ::read(accepted, g_bytes, 9));
  for (const int fd : taken) ::close(fd);
  close_both({client, accepted});
  ::close(listener);
}

}  // namespace toe::test
