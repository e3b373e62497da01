#include "model/odd_calls.h"

#include <arpa/inet.h>
#include <execinfo.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace toe::test {
namespace {

constexpr OddProgram kPrograms[] = {
    {"odd_streams", odd_streams},
    {"odd_standard_streams", odd_standard_streams},
    {"odd_faults", odd_faults},
    {"odd_flags", odd_flags},
    {"odd_ends", odd_ends},
    {"odd_descriptors", odd_descriptors},
    {"odd_epoll_flags", odd_epoll_flags},
    {"odd_nested", odd_nested},
    {"odd_select", odd_select},
    {"odd_signals", odd_signals},
    {"odd_signal_race", odd_signal_race},
    {"odd_storm", odd_storm},
    {"odd_cancel", odd_cancel},
    {"odd_processes", odd_processes},
    {"odd_crowd", odd_crowd},
    {"odd_options", odd_options},
    {"odd_listeners", odd_listeners},
    {"odd_fresh", odd_fresh},
    {"odd_connects", odd_connects},
    {"odd_limits", odd_limits},
    {"odd_no_numbers", odd_no_numbers},
    {"odd_chaos", odd_chaos},
    {"odd_closed_while_shared", odd_closed_while_shared},
    {"odd_closed_while_connecting", odd_closed_while_connecting},
    {"odd_numbers_taken", odd_numbers_taken},
    {"odd_oneshot_threads", odd_oneshot_threads},
    {"odd_closed_under_reader", odd_closed_under_reader},
    {"odd_forked_epoll", odd_forked_epoll},
};

sockaddr_in address_of(const char* text, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, text, &address.sin_addr);
  return address;
}

// A fault tells where it was: it may be a rare one.
void on_fault(int signal, siginfo_t* info, void* context) {
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  char line[256];
  const int n = std::snprintf(
      line, sizeof(line), "signal %d code %d address %p ip %#llx bp %#llx\n", signal, info->si_code,
      info->si_addr, static_cast<unsigned long long>(registers[REG_RIP]),
      static_cast<unsigned long long>(registers[REG_RBP]));
  if (::write(STDERR_FILENO, line, static_cast<std::size_t>(n)) != n) return;
  void* frames[32];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, 32), STDERR_FILENO);
}

void tell_faults() {
  void* first[1];
  ::backtrace(first, 1);  // loads what it needs now, not in the handler
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGSEGV, SIGBUS}) ::sigaction(signal, &action, nullptr);
}

}  // namespace

// On stderr, unbuffered: some programs play with descriptor 1 and with stdio.
void note(const std::string& what, long result) {
  const int error = errno;
  char line[256];
  const int n = result < 0 ? std::snprintf(line, sizeof(line), "%s: %ld %s\n", what.c_str(), result,
                                           ::strerrorname_np(error))
                           : std::snprintf(line, sizeof(line), "%s: %ld\n", what.c_str(), result);
  if (::write(STDERR_FILENO, line, static_cast<std::size_t>(n)) != n) std::abort();
}

void say(const std::string& what, const std::string& text) {
  const std::string line = what + ": " + text + "\n";
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) std::abort();
}

// On a busy machine everything takes longer, this too: naps count only while they end in time.
void settle() {
  constexpr int kNapMs = 10;
  constexpr int kNaps = 4;
  constexpr int kMostNaps = 100;
  for (int i = 0, in_time = 0; i < kMostNaps && in_time < kNaps; ++i) {
    const long start = now_ms();
    ::usleep(kNapMs * 1000);
    in_time = now_ms() - start <= 2 * kNapMs ? in_time + 1 : 0;
  }
}

int listen_on(const Addresses& at, int backlog) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  const int one = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&at.server), sizeof(at.server)) != 0 ||
      ::listen(fd, backlog) != 0) {
    note("listen", -1);
    std::exit(1);
  }
  return fd;
}

Ends connect_pair(const Addresses& at) {
  const int listener = listen_on(at);
  const int client = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(client, reinterpret_cast<const sockaddr*>(&at.client), sizeof(at.client)) != 0) {
    note("connect", -1);
    std::exit(1);
  }
  const int server = ::accept(listener, nullptr, nullptr);
  if (server < 0) {
    note("accept", -1);
    std::exit(1);
  }
  ::close(listener);
  return {client, server};
}

void close_both(Ends ends) {
  ::close(ends.client);
  ::close(ends.server);
}

long cpu_ms() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
         (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
}

long now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace toe::test

// odd_calls list | odd_calls NAME ADDRESS PORT
int main(int argc, char** argv) {
  using toe::test::kPrograms;
  const std::string name = argc > 1 ? argv[1] : "";
  if (name == "list") {
    for (const auto& program : kPrograms) std::printf("%s\n", program.name);
    return 0;
  }
  if (name == "stream_child") return toe::test::odd_stream_child();
  if (argc != 4) return 2;
  ::alarm(40);
  toe::test::tell_faults();
  const auto port = static_cast<int>(std::strtol(argv[3], nullptr, 10));
  for (const auto& program : kPrograms) {
    if (name != program.name) continue;
    program.run({toe::test::address_of("0.0.0.0", port), toe::test::address_of(argv[2], port)});
    std::fprintf(stderr, "ok %s\n", name.c_str());
    return 0;
  }
  return 2;
}
