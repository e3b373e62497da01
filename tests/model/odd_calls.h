// Programs of unusual socket calls, written so that the kernel is the judge: each prints what every
// call answered, and preload_test.py compares the lines of a run on the kernel with those of a run
// under libtoe.
#ifndef TOE_TESTS_MODEL_ODD_CALLS_H_
#define TOE_TESTS_MODEL_ODD_CALLS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

namespace toe::test {

struct Addresses {
  sockaddr_in server;
  sockaddr_in client;  ///< where clients connect to
};

/// A connection within this process.
struct Ends {
  int client;
  int server;
};

/// One line: name, result, and errno's name when the result is negative.
void note(const std::string& what, long result);
/// One line with a text.
void say(const std::string& what, const std::string& text);
/// Long enough for bytes and ends to arrive.
void settle();
int listen_on(const Addresses& at, int backlog = 16);
Ends connect_pair(const Addresses& at);
void close_both(Ends ends);
/// CPU time of this process in milliseconds.
long cpu_ms();
long now_ms();

using OddCalls = void (*)(const Addresses& at);
struct OddProgram {
  const char* name;
  OddCalls run;
};

void odd_streams(const Addresses& at);
void odd_standard_streams(const Addresses& at);
int odd_stream_child();
void odd_faults(const Addresses& at);
void odd_flags(const Addresses& at);
void odd_ends(const Addresses& at);
void odd_descriptors(const Addresses& at);
void odd_epoll_flags(const Addresses& at);
void odd_nested(const Addresses& at);
void odd_select(const Addresses& at);
void odd_signals(const Addresses& at);
void odd_signal_race(const Addresses& at);
void odd_storm(const Addresses& at);
void odd_cancel(const Addresses& at);
void odd_processes(const Addresses& at);
void odd_crowd(const Addresses& at);
void odd_options(const Addresses& at);
void odd_listeners(const Addresses& at);
void odd_fresh(const Addresses& at);
void odd_connects(const Addresses& at);
void odd_limits(const Addresses& at);
void odd_no_numbers(const Addresses& at);
void odd_chaos(const Addresses& at);
void odd_closed_while_shared(const Addresses& at);
void odd_closed_while_connecting(const Addresses& at);
void odd_numbers_taken(const Addresses& at);
void odd_oneshot_threads(const Addresses& at);
void odd_closed_under_reader(const Addresses& at);
void odd_forked_epoll(const Addresses& at);

}  // namespace toe::test

#endif  // TOE_TESTS_MODEL_ODD_CALLS_H_
