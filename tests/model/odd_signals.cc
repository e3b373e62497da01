// Signals and cancellation while calls wait.
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "model/odd_calls.h"

namespace toe::test {
namespace {

std::atomic<int> g_hits{0};

void count(int) { g_hits.fetch_add(1); }
void count_info(int signal, siginfo_t* info, void*) {
  if (info != nullptr && info->si_signo == signal) g_hits.fetch_add(1);
}

void handle(int signal, int flags) {
  struct sigaction action {};
  action.sa_flags = flags;
  if ((flags & SA_SIGINFO) != 0) {
    action.sa_sigaction = count_info;
  } else {
    action.sa_handler = count;
  }
  note("sigaction", ::sigaction(signal, &action, nullptr));
}

/// Sends `signal` to the calling thread after 40 ms, and bytes to `fd` once its handler has run and
/// has not ended the call: the object lives as long as the call.
class Later {
 public:
  Later(int signal, int fd)
      : thread_([this, target = ::pthread_self(), signal, fd] {
          ::usleep(40'000);
          const int before = g_hits.load();
          ::pthread_kill(target, signal);
          for (int i = 0; i < kHandlerMs && g_hits.load() == before; ++i) ::usleep(1000);
          for (int i = 0; i < kEndMs && !over_.load(); ++i) ::usleep(1000);
          if (fd >= 0 && ::write(fd, "late", 4) != 4) note("write", -1);
        }) {}
  ~Later() {
    over_.store(true);
    thread_.join();
  }

 private:
  static constexpr int kHandlerMs = 2000;
  static constexpr int kEndMs = 150;  ///< a call that goes on after this has been restarted
  std::atomic<bool> over_{false};
  std::thread thread_;
};

void blocked_calls(Ends ends, int signal) {
  char buffer[8];
  const auto drain = [&] {
    settle();
    while (::recv(ends.server, buffer, sizeof(buffer), MSG_DONTWAIT) > 0) {
    }
  };
  {
    const Later later(signal, ends.client);
    note("recv", ::recv(ends.server, buffer, 4, 0));
  }
  drain();
  {
    const Later later(signal, ends.client);
    pollfd entry{ends.server, POLLIN, 0};
    note("poll", ::poll(&entry, 1, 1000));
  }
  drain();
  {
    const Later later(signal, ends.client);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends.server, &set);
    note("select", ::select(ends.server + 1, &set, nullptr, nullptr, nullptr));
  }
  drain();
  const int epoll = ::epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, ends.server, &event);
  {
    const Later later(signal, ends.client);
    note("epoll_wait", ::epoll_wait(epoll, &event, 1, 1000));
  }
  ::close(epoll);
  drain();
  const timeval limit{1, 0};
  ::setsockopt(ends.server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  {
    const Later later(signal, ends.client);
    note("recv with a limit", ::recv(ends.server, buffer, 4, 0));
  }
  drain();
  const timeval none{};
  ::setsockopt(ends.server, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
  note("hits", g_hits.exchange(0));
}

void* receive(void* fd) {
  char byte;
  ::recv(*static_cast<int*>(fd), &byte, 1, 0);
  return nullptr;
}

void* wait_in_epoll(void* fd) {
  epoll_event event;
  ::epoll_wait(*static_cast<int*>(fd), &event, 1, -1);
  return nullptr;
}

void* wait_in_poll(void* fd) {
  pollfd entry{*static_cast<int*>(fd), POLLIN, 0};
  ::poll(&entry, 1, -1);
  return nullptr;
}

void cancel(const std::string& what, void* (*body)(void*), int fd) {
  pthread_t thread;
  ::pthread_create(&thread, nullptr, body, &fd);
  ::usleep(3000);
  note(what + " cancel", ::pthread_cancel(thread));
  void* result = nullptr;
  ::pthread_join(thread, &result);
  note(what + " cancelled", result == PTHREAD_CANCELED);
}

}  // namespace

void odd_signals(const Addresses& at) {
  const Ends ends = connect_pair(at);
  // Both kinds of handlers exist all the time; only the one that runs counts.
  handle(SIGUSR1, SA_RESTART);
  handle(SIGUSR2, 0);
  say("with SA_RESTART", "");
  blocked_calls(ends, SIGUSR1);
  say("without", "");
  blocked_calls(ends, SIGUSR2);
  handle(SIGUSR1, SA_SIGINFO | SA_RESTART);
  say("with three arguments", "");
  blocked_calls(ends, SIGUSR1);
  note("signal", ::signal(SIGUSR1, count) != SIG_ERR);
  say("by signal()", "");
  blocked_calls(ends, SIGUSR1);
  struct sigaction flags {};
  ::sigaction(SIGUSR1, nullptr, &flags);
  flags.sa_flags &= ~SA_RESTART;
  note("sigaction", ::sigaction(SIGUSR1, &flags, nullptr));
  say("interrupting", "");
  blocked_calls(ends, SIGUSR1);
  // What was installed can be read back.
  struct sigaction before {};
  note("read back", ::sigaction(SIGUSR1, nullptr, &before));
  note("  same", before.sa_handler == count);
  note("  flags", before.sa_flags & SA_RESTART);
  note("  signal", ::signal(SIGUSR1, SIG_IGN) == count);
  note("  ignored", ::signal(SIGUSR1, SIG_DFL) == SIG_IGN);
  note("bad signal", ::sigaction(SIGKILL, &before, nullptr));
  note("bad signal", ::sigaction(99, &before, nullptr));
  handle(SIGUSR1, static_cast<int>(SA_RESETHAND | SA_RESTART));
  ::raise(SIGUSR1);
  note("once", g_hits.exchange(0));
  ::sigaction(SIGUSR1, nullptr, &before);
  note("  then default", before.sa_handler == SIG_DFL);
  close_both(ends);
}

// A signal may come at any moment of a call that waits: none is lost, however early.
void odd_signal_race(const Addresses& at) {
  const Ends ends = connect_pair(at);
  handle(SIGALRM, 0);
  char byte;
  int interrupted = 0;
  const int epoll = ::epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, ends.server, &event);
  for (int i = 0; i < 600; ++i) {
    // Again after 100 ms: a call that began behind the first one must not hang for ever.
    const itimerval soon{{0, 100'000}, {0, 20 + i % 150}};
    ::setitimer(ITIMER_REAL, &soon, nullptr);
    const int before = g_hits.load();
    while (g_hits.load() == before) {
      const long n =
          i % 2 == 0 ? ::recv(ends.server, &byte, 1, 0) : ::epoll_wait(epoll, &event, 1, -1);
      if (n != -1 || errno != EINTR) note("not interrupted", n);
      ++interrupted;
    }
  }
  const itimerval none{};
  ::setitimer(ITIMER_REAL, &none, nullptr);
  // Each signal interrupts a call, but those that came before it began.
  say("most calls interrupted by the first", g_hits.load() < 660 ? "yes" : "no");
  ::close(epoll);
  close_both(ends);
}

// Bytes go through untouched while signals rain.
void odd_storm(const Addresses& at) {
  const Ends ends = connect_pair(at);
  handle(SIGALRM, SA_RESTART);
  const itimerval often{{0, 700}, {0, 700}};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  constexpr std::size_t kBytes = 30'000'000;
  std::thread writer([&] {
    std::string piece(70'001, 'a');
    std::size_t done = 0;
    while (done < kBytes) {
      for (std::size_t i = 0; i < piece.size(); ++i) {
        piece[i] = static_cast<char>((done + i) % 251);
      }
      const ssize_t n = ::send(ends.client, piece.data(), std::min(piece.size(), kBytes - done), 0);
      if (n < 0) {
        note("send", n);
        break;
      }
      done += static_cast<std::size_t>(n);
    }
    ::shutdown(ends.client, SHUT_WR);
  });
  std::size_t total = 0;
  std::size_t wrong = 0;
  std::string piece(50'000, '\0');
  for (;;) {
    const ssize_t n = ::recv(ends.server, piece.data(), piece.size(), 0);
    if (n < 0) note("recv", n);
    if (n <= 0) break;
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      wrong += piece[i] != static_cast<char>((total + i) % 251) ? 1 : 0;
    }
    total += static_cast<std::size_t>(n);
  }
  writer.join();
  const itimerval none{};
  ::setitimer(ITIMER_REAL, &none, nullptr);
  note("bytes", static_cast<long>(total));
  note("wrong", static_cast<long>(wrong));
  say("signals", g_hits.load() > 3 ? "many" : "few");
  close_both(ends);
}

void odd_cancel(const Addresses& at) {
  const Ends ends = connect_pair(at);
  const int epoll = ::epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, ends.server, &event);
  for (int i = 0; i < 70; ++i) {  // more often than there are contexts to lose
    cancel("recv", receive, ends.server);
    cancel("epoll_wait", wait_in_epoll, epoll);
    cancel("poll", wait_in_poll, ends.server);
  }
  note("write", ::write(ends.client, "alive", 5));
  note("epoll_wait", ::epoll_wait(epoll, &event, 1, 1000));
  char buffer[8];
  note("recv", ::recv(ends.server, buffer, 5, MSG_WAITALL));
  pollfd entry{ends.server, POLLIN, 0};
  note("poll", ::poll(&entry, 1, 20));
  ::close(epoll);
  close_both(ends);
}

}  // namespace toe::test
