// Threads and processes that share descriptors and get in each other's way.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <random>
#include <thread>
#include <vector>

#include "model/odd_calls.h"

namespace toe::test {
namespace {

int connect_to(const Addresses& at) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  ::connect(fd, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client));
  return fd;
}

/// Random calls on a few descriptor numbers that all threads share.
class Chaos {
 public:
  explicit Chaos(const Addresses& at) : at_(at), listener_(listen_on(at, 200)) {
    ::fcntl(listener_, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < kSlots; ++i) slot(i).store(-1);
    for (int i = 0; i < kEpolls; ++i) epolls_[static_cast<std::size_t>(i)] = ::epoll_create1(0);
  }
  ~Chaos() {
    for (int i = 0; i < kSlots; ++i) ::close(slot(i).load());
    for (const int epoll : epolls_) ::close(epoll);
    ::close(listener_);
  }

  void run(unsigned seed, long until_ms) {
    std::minstd_rand random(seed);
    while (now_ms() < until_ms) step(random);
  }

 private:
  static constexpr int kSlots = 24;
  static constexpr int kEpolls = 3;

  std::atomic<int>& slot(int i) { return slots_[static_cast<std::size_t>(i)]; }

  void put(std::atomic<int>& into, int fd) {
    const int former = into.exchange(fd);
    if (former >= 0) ::close(former);
  }

  void step(std::minstd_rand& random) {
    auto& one = slot(static_cast<int>(random() % kSlots));
    const int fd = one.load();
    const int other = slot(static_cast<int>(random() % kSlots)).load();
    const int epoll = epolls_[random() % kEpolls];
    char bytes[5000] = {};
    const std::size_t length = 1 + random() % sizeof(bytes);
    epoll_event events[8];
    epoll_event wanted{};
    wanted.events = EPOLLIN | (random() % 2 != 0 ? EPOLLOUT : 0u) |
                    (random() % 3 == 0 ? EPOLLET : 0u) | (random() % 5 == 0 ? EPOLLONESHOT : 0u);
    wanted.data.fd = fd;
    pollfd both[] = {{fd, POLLIN, 0}, {other, POLLOUT, 0}, {epoll, POLLIN, 0}};
    switch (random() % 16) {
      case 0:
        return put(one, connect_to(at_));
      case 1:
      case 2: {
        const int accepted = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
        if (accepted >= 0) put(one, accepted);
        return;
      }
      case 3:
        return put(one, -1);
      case 4:
      case 5:
      case 6:
        ::send(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        return;
      case 7:
      case 8:
      case 9:
        ::recv(fd, bytes, length, MSG_DONTWAIT | (random() % 4 == 0 ? MSG_PEEK : 0));
        return;
      case 10:
        ::epoll_ctl(epoll, random() % 2 != 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &wanted);
        return;
      case 11:
        ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
        return;
      case 12:
        ::epoll_wait(epoll, events, 8, static_cast<int>(random() % 3));
        return;
      case 13:
        ::poll(both, random() % 4 == 0 ? 3 : 2, static_cast<int>(random() % 3));
        return;
      case 14:
        ::shutdown(fd, static_cast<int>(random() % 3));
        return;
      default:
        if (fd >= 0 && other >= 0 && fd != other) ::dup2(fd, other);
        return;
    }
  }

  const Addresses& at_;
  int listener_;
  std::array<std::atomic<int>, kSlots> slots_;
  std::array<int, kEpolls> epolls_{};
};

}  // namespace

void odd_chaos(const Addresses& at) {
  {
    Chaos chaos(at);
    std::vector<std::thread> threads;
    const long until = now_ms() + 3000;
    for (unsigned i = 0; i < 6; ++i) threads.emplace_back([&, i] { chaos.run(i + 1, until); });
    for (std::thread& thread : threads) thread.join();
  }
  // And everything still works.
  const Ends ends = connect_pair(at);
  note("write", ::write(ends.client, "fine", 4));
  char bytes[9];
  note("read", ::recv(ends.server, bytes, 4, MSG_WAITALL));
  close_both(ends);
}

// A descriptor gets further numbers and is watched while another thread closes it.
void odd_closed_while_shared(const Addresses& at) {
  constexpr int kSockets = 60'000;  // opened and closed; a few hundred are enough to find a defect
  constexpr int kFirstNumber = 100;
  const int epoll = ::epoll_create1(0);
  std::atomic<int> shared{-1};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, number = kFirstNumber + i] {
      while (!stop.load()) {
        const int fd = shared.load();
        if (fd < 0) continue;
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT;
        ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        if (::dup2(fd, number) == number) ::close(number);
      }
    });
  }
  const long until = now_ms() + 10'000;
  for (int i = 0; i < kSockets && now_ms() < until; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    shared.store(fd);
    if (i % 64 == 0) ::sched_yield();
    ::close(fd);
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  ::close(epoll);
  // And everything still works.
  const Ends ends = connect_pair(at);
  note("write", ::write(ends.client, "fine", 4));
  char bytes[9];
  note("read", ::recv(ends.server, bytes, 4, MSG_WAITALL));
  close_both(ends);
}

// A socket takes the numbers that are free next, again and again, while another thread connects:
// no call may open a file in passing. (A socket can be mapped, and faults when it is read.)
void odd_numbers_taken(const Addresses& at) {
  constexpr int kNumbers = 4;
  const int listener = listen_on(at, 100);
  const int taker = ::socket(AF_INET, SOCK_STREAM, 0);
  const int first = ::dup(taker);  // the number of each connecting socket
  ::close(first);
  std::atomic<bool> stop{false};
  std::thread thread([&] {
    while (!stop.load()) {
      for (int number = first + 1; number <= first + kNumbers; ++number) {
        if (::dup2(taker, number) == number) ::close(number);
      }
    }
  });
  int connected = 0;
  const long until = now_ms() + 1000;
  while (now_ms() < until) {
    const int client = connect_to(at);
    const int server = ::accept(listener, nullptr, nullptr);
    if (client >= 0 && server >= 0) ++connected;
    ::close(server);
    ::close(client);
  }
  stop.store(true);
  thread.join();
  say("connected", connected > 0 ? "yes" : "no");
  ::close(taker);
  ::close(listener);
}

// The descriptor is closed while its connect is under way. Whether it connects is not compared; but
// what was connected ends: its peer sees the end of it.
void odd_closed_while_connecting(const Addresses& at) {
  constexpr int kRounds = 300;
  const int listener = listen_on(at, 100);
  ::fcntl(listener, F_SETFL, O_NONBLOCK);
  std::atomic<int> connecting{-1};
  std::atomic<bool> stop{false};
  std::thread closer([&] {
    while (!stop.load()) {
      const int fd = connecting.exchange(-1);
      if (fd >= 0) ::close(fd);
    }
  });
  int endless = 0;
  for (int i = 0; i < kRounds; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    connecting.store(fd);
    ::connect(fd, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client));
    while (connecting.load() >= 0) ::sched_yield();
    pollfd entry{listener, POLLIN, 0};
    if (::poll(&entry, 1, 5) != 1) continue;
    const int server = ::accept(listener, nullptr, nullptr);
    entry = {server, POLLIN, 0};
    if (server >= 0 && ::poll(&entry, 1, 5000) != 1) ++endless;
    ::close(server);
    if (endless > 2) break;
  }
  stop.store(true);
  closer.join();
  note("endless", endless);
  ::close(listener);
}

// Threads of one instance; each event is for one of them.
void odd_oneshot_threads(const Addresses& at) {
  constexpr int kPairs = 30;
  constexpr int kRounds = 200;
  const int listener = listen_on(at, 100);
  const int epoll = ::epoll_create1(0);
  std::vector<Ends> pairs;
  for (int i = 0; i < kPairs; ++i) {
    const int client = connect_to(at);
    pairs.push_back({client, ::accept(listener, nullptr, nullptr)});
    epoll_event event{};
    event.events = EPOLLIN | EPOLLONESHOT;
    event.data.fd = pairs.back().server;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, pairs.back().server, &event);
  }
  std::atomic<int> done{0};
  std::atomic<int> doubled{0};
  std::array<std::atomic<int>, 4096> busy{};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      while (done.load() < kPairs * kRounds) {
        epoll_event event{};
        if (::epoll_wait(epoll, &event, 1, 50) != 1) continue;
        const int fd = event.data.fd;
        if (busy[static_cast<std::size_t>(fd)].exchange(1) != 0) doubled.fetch_add(1);
        char bytes[16];
        const ssize_t n = ::recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        busy[static_cast<std::size_t>(fd)].store(0);
        if (n > 0 && ::send(fd, bytes, static_cast<std::size_t>(n), 0) == n) done.fetch_add(1);
        event.events = EPOLLIN | EPOLLONESHOT;
        ::epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
      }
    });
  }
  int wrong = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (const Ends& pair : pairs) {
      if (::send(pair.client, "question", 8, 0) != 8) ++wrong;
    }
    for (const Ends& pair : pairs) {
      char bytes[8];
      if (::recv(pair.client, bytes, 8, MSG_WAITALL) != 8) ++wrong;
    }
  }
  for (std::thread& thread : threads) thread.join();
  note("wrong", wrong);
  note("two threads at one", doubled.load());
  for (const Ends& pair : pairs) close_both(pair);
  ::close(epoll);
  ::close(listener);
}

// The descriptor of a blocked reader is closed by another thread. How the reader's call ends is not
// compared; but it ends, once the peer has ended, and takes no byte of a later connection.
void odd_closed_under_reader(const Addresses& at) {
  for (int i = 0; i < 8; ++i) {
    Ends ends = connect_pair(at);
    std::atomic<long> got{-2};
    std::atomic<bool> started{false};
    std::thread reader([&] {
      char bytes[16];
      started.store(true);
      got.store(::recv(ends.server, bytes, sizeof(bytes), 0));
    });
    while (!started.load()) ::usleep(1000);
    settle();
    ::close(ends.server);
    ::close(ends.client);
    const Ends later = connect_pair(at);
    ::write(later.client, "not for the reader", 18);
    reader.join();
    char bytes[32];
    const ssize_t n = ::recv(later.server, bytes, 18, MSG_WAITALL);
    if (n != 18 || got.load() > 0) note("stolen", got.load());
    close_both(later);
  }
}

// An instance inherited by a child that waits on it as well.
void odd_forked_epoll(const Addresses& at) {
  const Ends ends = connect_pair(at);
  const int epoll = ::epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  note("epoll_ctl", ::epoll_ctl(epoll, EPOLL_CTL_ADD, ends.server, &event));
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 0));
  const pid_t child = ::fork();
  if (child == 0) {
    char bytes[8];
    if (::epoll_wait(epoll, &event, 1, 5000) != 1) ::_exit(1);
    if (::recv(ends.server, bytes, 4, MSG_DONTWAIT) != 4) ::_exit(2);
    if (::epoll_wait(epoll, &event, 1, 0) != 0) ::_exit(3);
    if (::epoll_ctl(epoll, EPOLL_CTL_MOD, ends.server, &event) != 0) ::_exit(4);
    ::_exit(::write(ends.server, "mine", 4) == 4 ? 0 : 5);
  }
  settle();
  note("write", ::write(ends.client, "ping", 4));
  int status = -1;
  ::waitpid(child, &status, 0);
  note("child", status);
  char bytes[8];
  note("read", ::recv(ends.client, bytes, 4, MSG_WAITALL));
  note("write", ::write(ends.client, "pong", 4));
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 1000));
  note("read", ::recv(ends.server, bytes, 8, MSG_DONTWAIT));
  ::close(epoll);
  close_both(ends);
}

}  // namespace toe::test
