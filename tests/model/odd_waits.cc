// Epoll flags, nesting, select over high numbers, and many threads that wait.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "model/odd_calls.h"

namespace toe::test {
namespace {

void watch(int epoll, int fd, std::uint32_t events, int op = EPOLL_CTL_ADD) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = events;
  note("epoll_ctl", ::epoll_ctl(epoll, op, fd, &event));
}

void wait_on(const std::string& what, int epoll, int timeout = 0) {
  std::array<epoll_event, 8> events{};
  const int n = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), timeout);
  note(what, n);
  for (int i = 0; i < n; ++i) note("  events", events[static_cast<std::size_t>(i)].events);
}

void read_all(int fd) {
  char sink[100];
  while (::recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0) {
  }
}

void write_text(int fd, const char* text) {
  note("write", ::write(fd, text, std::char_traits<char>::length(text)));
}

/// A wait that misses its wake-up takes this long: far longer than a busy machine delays one.
constexpr int kMissedMs = 10'000;

/// Whether `wait` ends by the bytes that come 50 ms after its begin, and what CPU time it takes.
template <typename Wait>
void timed(const std::string& what, int writer, Wait wait) {
  const long cpu = cpu_ms();
  const long start = now_ms();  // before the thread, which may overtake this one
  std::thread later([writer] {
    ::usleep(50'000);
    if (::write(writer, "late", 4) != 4) note("write", -1);
  });
  note(what, wait());
  const long took = now_ms() - start;
  say("  in time", took >= 45 && took < kMissedMs / 2 ? "yes" : std::to_string(took));
  say("  cheap", cpu_ms() - cpu < 30 ? "yes" : "no");
  later.join();
}

}  // namespace

void odd_epoll_flags(const Addresses& at) {
  const Ends ends = connect_pair(at);
  int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  watch(epoll, ends.server, EPOLLIN | EPOLLONESHOT);
  wait_on("nothing", epoll);
  write_text(ends.client, "one");
  wait_on("oneshot", epoll, 1000);
  write_text(ends.client, "two");
  settle();
  wait_on("disarmed", epoll);
  watch(epoll, ends.server, EPOLLIN | EPOLLONESHOT, EPOLL_CTL_MOD);
  wait_on("armed again", epoll);
  watch(epoll, ends.server, EPOLLIN | EPOLLET, EPOLL_CTL_MOD);
  wait_on("edge after mod", epoll);
  wait_on("edge gone", epoll);
  write_text(ends.client, "three");
  settle();
  wait_on("new edge", epoll);
  read_all(ends.server);
  wait_on("read", epoll);
  watch(epoll, ends.server, EPOLLIN | EPOLLOUT | EPOLLRDHUP, EPOLL_CTL_MOD);
  wait_on("level", epoll);
  wait_on("level again", epoll);
  note("shutdown", ::shutdown(ends.client, SHUT_WR));
  settle();
  wait_on("rdhup", epoll);
  watch(epoll, ends.server, EPOLLRDHUP, EPOLL_CTL_MOD);
  wait_on("rdhup only", epoll);
  watch(epoll, ends.server, 0, EPOLL_CTL_MOD);
  wait_on("no interest", epoll);
  note("shutdown", ::shutdown(ends.server, SHUT_WR));
  settle();
  wait_on("hup", epoll);
  watch(epoll, ends.server, EPOLLIN, EPOLL_CTL_ADD);
  note("del", ::epoll_ctl(epoll, EPOLL_CTL_DEL, ends.server, nullptr));
  note("del again", ::epoll_ctl(epoll, EPOLL_CTL_DEL, ends.server, nullptr));
  watch(epoll, ends.server, EPOLLIN, EPOLL_CTL_MOD);
  wait_on("deleted", epoll);
  note("bad op", ::epoll_ctl(epoll, 77, ends.server, nullptr));
  note("itself", ::epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, nullptr));
  epoll_event event{};
  note("wait for none", ::epoll_wait(epoll, &event, 0, 0));
  note("wait on a socket", ::epoll_wait(ends.server, &event, 1, 0));
  note("ctl on a socket", ::epoll_ctl(ends.server, EPOLL_CTL_ADD, epoll, &event));
  close_both(ends);

  const Ends others = connect_pair(at);
  watch(epoll, others.server, EPOLLIN | EPOLLEXCLUSIVE);
  watch(epoll, others.server, EPOLLIN, EPOLL_CTL_MOD);
  const int copy = ::dup(others.server);
  watch(epoll, copy, EPOLLIN);
  write_text(others.client, "to both");
  settle();
  wait_on("both descriptors", epoll);
  note("close", ::close(others.server));
  wait_on("one closed", epoll);
  note("close", ::close(copy));
  wait_on("both closed", epoll);
  note("peer", ::read(others.client, &event, 1));
  ::close(others.client);
  ::close(epoll);
}

void odd_nested(const Addresses& at) {
  const Ends ends = connect_pair(at);
  const int inner = ::epoll_create1(0);
  const int outer = ::epoll_create1(0);
  watch(outer, inner, EPOLLIN);
  watch(inner, ends.server, EPOLLIN);
  wait_on("nothing", outer);
  timed("epoll in epoll", ends.client, [&] {
    epoll_event event{};
    return ::epoll_wait(outer, &event, 1, kMissedMs);
  });
  wait_on("outer", outer);
  wait_on("inner", inner);
  wait_on("outer again", outer);
  read_all(ends.server);
  wait_on("inner read", inner);
  wait_on("outer read", outer);
  timed("epoll in poll", ends.client, [&] {
    pollfd entry{inner, POLLIN, 0};
    const int n = ::poll(&entry, 1, kMissedMs);
    note("  revents", entry.revents);
    return n;
  });
  read_all(ends.server);
  pollfd empty{inner, POLLIN, 0};
  note("poll of a read one", ::poll(&empty, 1, 20));
  timed("epoll in select", ends.client, [&] {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(inner, &set);
    return ::select(inner + 1, &set, nullptr, nullptr, nullptr);
  });
  read_all(ends.server);
  timed("the epoll in the epoll in poll", ends.client, [&] {
    pollfd entry{outer, POLLIN, 0};
    return ::poll(&entry, 1, kMissedMs);
  });
  wait_on("outer", outer);
  wait_on("inner", inner);
  read_all(ends.server);
  wait_on("inner read", inner);
  // Kernel descriptors inside are as visible as ever.
  const int event = ::eventfd(0, 0);
  watch(inner, event, EPOLLIN);
  wait_on("outer, eventfd", outer);
  const std::uint64_t one = 1;
  note("write", ::write(event, &one, sizeof(one)));
  wait_on("outer, eventfd", outer);
  wait_on("inner, eventfd", inner);
  // An inner instance that gets its first socket when it is nested already.
  const int late = ::epoll_create1(0);
  pollfd entry{late, POLLIN, 0};
  note("poll of an empty one", ::poll(&entry, 1, 0));
  watch(late, ends.server, EPOLLIN);
  timed("a late one", ends.client, [&] {
    entry.revents = 0;
    return ::poll(&entry, 1, kMissedMs);
  });
  close_both(ends);
  for (const int fd : {inner, outer, event, late}) ::close(fd);
}

void odd_select(const Addresses& at) {
  rlimit limit{4096, 4096};
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const Ends ends = connect_pair(at);
  const int high = ::fcntl(ends.server, F_DUPFD, 2000);
  note("high", high >= 2000);
  std::array<fd_set, 4> in{};  // 4096 descriptors
  std::array<fd_set, 4> out{};
  const auto ask = [&](const char* what, timeval timeout) {
    in = {};
    out = {};
    const auto bit = static_cast<std::size_t>(high);
    auto* words = reinterpret_cast<unsigned long*>(in.data());
    words[bit / 64] |= 1ul << (bit % 64);
    reinterpret_cast<unsigned long*>(out.data())[bit / 64] |= 1ul << (bit % 64);
    note(what, ::select(high + 1, in.data(), out.data(), nullptr, &timeout));
    note("  in", (words[bit / 64] >> (bit % 64)) & 1);
    note("  out", (reinterpret_cast<unsigned long*>(out.data())[bit / 64] >> (bit % 64)) & 1);
  };
  ask("writable", {0, 0});
  write_text(ends.client, "x");
  settle();
  ask("both", {0, 0});
  fd_set set;
  FD_ZERO(&set);
  FD_SET(ends.client, &set);
  timeval timeout{0, 30'000};
  note("time-out", ::select(ends.client + 1, &set, nullptr, nullptr, &timeout));
  note("  left", FD_ISSET(ends.client, &set));
  timeout = {-1, 0};
  note("negative", ::select(ends.client + 1, &set, nullptr, nullptr, &timeout));
  FD_SET(ends.client, &set);
  FD_SET(900, &set);
  timeout = {0, 0};
  note("closed in the set", ::select(901, &set, nullptr, nullptr, &timeout));
  pollfd entries[] = {{ends.server, POLLIN, 0}, {-5, POLLIN, 7}, {900, POLLIN, 0}};
  note("poll", ::poll(entries, 3, 0));
  for (const pollfd& entry : entries) note("  revents", entry.revents);
  note("poll no interest", ::poll(entries, 1, 0));
  entries[0].events = 0;
  note("poll nothing asked", ::poll(entries, 1, 0));
  close_both(ends);
  ::close(high);
}

// More threads than a segment has contexts, blocked in every way there is.
void odd_crowd(const Addresses& at) {
  constexpr int kThreads = 150;
  const int listener = listen_on(at, 400);
  std::vector<Ends> pairs;
  for (int i = 0; i < kThreads; ++i) {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(client, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)) != 0) {
      return note("connect", -1);
    }
    pairs.push_back({client, ::accept(listener, nullptr, nullptr)});
  }
  std::atomic<long> good{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const int fd = pairs[static_cast<std::size_t>(i)].server;
      for (int round = 0; round < 3; ++round) {
        pollfd entry{fd, POLLIN, 0};
        if (i % 3 == 1 && ::poll(&entry, 1, 20'000) != 1) return;
        char buffer[8];
        if (::recv(fd, buffer, 4, MSG_WAITALL) != 4) return;
        if (::send(fd, buffer, 4, 0) == 4) good.fetch_add(1);
      }
    });
  }
  std::atomic<long> accepted{0};
  for (int i = 0; i < 20; ++i) {
    threads.emplace_back([&] {
      const int fd = ::accept(listener, nullptr, nullptr);
      if (fd >= 0) accepted.fetch_add(1);
      ::close(fd);
    });
  }
  ::usleep(300'000);
  const long cpu = cpu_ms();
  ::usleep(500'000);
  say("idle is cheap", cpu_ms() - cpu < 20 ? "yes" : std::to_string(cpu_ms() - cpu));
  const long start = now_ms();
  for (int round = 0; round < 3; ++round) {
    for (const Ends& pair : pairs) {
      if (::send(pair.client, "ping", 4, 0) != 4) note("send", -1);
    }
    char buffer[8];
    for (const Ends& pair : pairs) {
      if (::recv(pair.client, buffer, 4, MSG_WAITALL) != 4) note("recv", -1);
    }
  }
  for (int i = 0; i < 20; ++i) {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    ::connect(client, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client));
    ::close(client);
  }
  for (std::thread& thread : threads) thread.join();
  note("answered", good.load());
  note("accepted", accepted.load());
  say("soon", now_ms() - start < 5000 ? "yes" : std::to_string(now_ms() - start));
  for (const Ends& pair : pairs) close_both(pair);
  ::close(listener);
}

}  // namespace toe::test
