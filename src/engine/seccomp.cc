// The system calls of a serving engine, one list for each kind of thread.
//
// What a thread calls while it starts is not here: it confines itself at the end of its start. A
// call that is missing ends the process with SIGSYS, and the kernel's log names its number.
#include <fcntl.h>
#include <seccomp.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "engine/privileges.h"

namespace toe::engine {
namespace {

/// What besides its number a call is looked at for: one argument, of which some bits must be zero.
struct Restriction {
  unsigned argument;
  std::uint64_t zero_bits;
};
/// Memory is data: nothing that a program sent can become code.
constexpr Restriction kNotExecutable{2, PROT_EXEC};
/// Files are read only: /etc/localtime, /proc.
constexpr Restriction kForReading{2, O_ACCMODE | O_CREAT | O_TRUNC};
constexpr Restriction kAny{0, 0};

enum class Answer : std::uint8_t {
  kDone,
  kNotThere,  ///< fails with ENOENT, which its caller expects
};

struct Call {
  const char* name;
  Restriction restriction = kAny;
  Answer answer = Answer::kDone;
};
using Calls = std::span<const Call>;

/// Memory, locks and the end, of every thread; also what abort() needs to leave a core file.
constexpr Call kCommon[] = {{"mmap", kNotExecutable},
                            {"mprotect", kNotExecutable},
                            {"munmap"},
                            {"mremap"},
                            {"madvise"},
                            {"brk"},
                            {"futex"},
                            {"write"},
                            {"clock_gettime"},
                            {"restart_syscall"},
                            {"sched_getaffinity"},  // malloc, for its number of arenas
                            {"rt_sigreturn"},
                            {"rt_sigprocmask"},
                            {"rt_sigaction"},
                            {"getpid"},
                            {"gettid"},
                            {"tgkill"},
                            {"exit"},
                            {"exit_group"}};

/// Admin: programs that attach, netlink, maps of the steering program, the log, the end of all.
constexpr Call kAdmin[] = {
    // descriptors, and files at the end
    {"read"},
    {"close"},
    {"fcntl"},
    {"pipe2"},
    {"ioctl"},
    {"fstat"},
    {"newfstatat"},
    {"openat", kForReading},
    {"lseek"},
    {"unlink"},
    {"unlinkat"},
    // segments and answers
    {"memfd_create"},
    {"ftruncate"},
    // sockets: the control socket, netlink, held ports, and what programs show
    {"socket"},
    {"bind"},
    {"shutdown"},
    {"accept4"},
    {"getsockname"},
    {"getsockopt"},
    {"setsockopt"},
    {"sendto"},
    {"recvfrom"},
    {"sendmsg"},
    {"recvmsg"},
    {"bpf"},
    // waiting, for threads and the guardian too
    {"epoll_ctl"},
    {"epoll_wait"},
    {"epoll_pwait"},
    {"poll"},
    {"sched_yield"},
    {"nanosleep"},
    {"clock_nanosleep"},
    {"wait4"},
    // who may ask
    {"getuid"},
    {"geteuid"},
};

/// The worker: doorbells, the AF_XDP socket, sleep. It opens nothing.
constexpr Call kDataPath[] = {{"read"},
                              {"close"},
                              {"epoll_ctl"},
                              {"epoll_wait"},
                              {"epoll_pwait"},
                              {"epoll_pwait2"},
                              {"sendto"},
                              {"recvfrom"},
                              {"getsockopt"},
                              {"sched_yield"},
                              // malloc wants to know how the machine overcommits
                              {"openat", kForReading, Answer::kNotThere}};

/// The metrics' thread: HTTP over sockets of the kernel.
constexpr Call kMetrics[] = {{"poll"},
                             {"accept4"},
                             {"recvfrom"},
                             {"sendto"},
                             {"read"},
                             {"close"},
                             {"openat", kForReading, Answer::kNotThere}};  // malloc, as above

/// The guardian waits for the engine's end and sends the last frames.
constexpr Call kGuardian[] = {{"poll"}, {"ppoll"}, {"sendto"}};

Calls calls_of(ThreadRole role) {
  switch (role) {
    case ThreadRole::kAdmin:
      return kAdmin;
    case ThreadRole::kDataPath:
      return kDataPath;
    case ThreadRole::kGuardian:
      return kGuardian;
    case ThreadRole::kMetrics:
      return kMetrics;
  }
  return {};
}

Status failure(int result) {
  return Error{-result, std::string("cannot restrict system calls: ") + std::strerror(-result)};
}

struct Release {
  void operator()(void* filter) const { ::seccomp_release(filter); }
};

/// 0 or a negative errno.
int allow(void* filter, Calls calls) {
  for (const Call& call : calls) {
    const int number = ::seccomp_syscall_resolve_name(call.name);
    if (number == __NR_SCMP_ERROR) continue;  // not a call of this kind of machine
    const scmp_arg_cmp zero{call.restriction.argument, SCMP_CMP_MASKED_EQ,
                            call.restriction.zero_bits, 0};
    const unsigned checks = call.restriction.zero_bits == 0 ? 0 : 1;
    const std::uint32_t action =
        call.answer == Answer::kDone ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOENT);
    const int result = ::seccomp_rule_add_array(filter, action, number, checks, &zero);
    if (result < 0) return result;
  }
  return 0;
}

}  // namespace

// The sanitizers' own calls are not foreseeable.
bool can_restrict_calls() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return false;
#else
  return true;
#endif
#else
  return true;
#endif
}

Status restrict_calls(ThreadRole role) {
  const std::unique_ptr<void, Release> filter(::seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (filter == nullptr) return failure(-ENOMEM);
  int result = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  if (result == 0) result = allow(filter.get(), kCommon);
  if (result == 0) result = allow(filter.get(), calls_of(role));
  if (result == 0) result = ::seccomp_load(filter.get());
  return result < 0 ? failure(result) : Status(Done{});
}

}  // namespace toe::engine
