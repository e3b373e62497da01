// The system calls of a serving engine.
#include <seccomp.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "engine/privileges.h"

namespace toe::engine {
namespace {

// By purpose. What is missing here fails with EPERM and a line in the kernel's audit log.
constexpr const char* kAllowed[] = {
    // descriptors and files
    "read", "write", "readv", "writev", "pread64", "pwrite64", "close", "close_range", "fstat",
    "newfstatat", "stat", "lstat", "statx", "open", "openat", "readlink", "readlinkat", "access",
    "faccessat", "faccessat2", "lseek", "ftruncate", "fcntl", "dup", "dup2", "dup3", "pipe2",
    "eventfd2", "memfd_create", "unlink", "unlinkat", "flock", "getdents64", "ioctl",
    // sockets, netlink and maps
    "socket", "connect", "bind", "listen", "accept", "accept4", "shutdown", "getsockname",
    "getpeername", "getsockopt", "setsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg",
    "sendmmsg", "recvmmsg", "bpf",
    // memory
    "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "membarrier",
    // waiting and time
    "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll",
    "futex", "sched_yield", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday",
    "restart_syscall",
    // threads, signals and the end
    "clone", "clone3", "set_robust_list", "get_robust_list", "rseq", "rt_sigaction",
    "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "gettid", "getpid", "getppid",
    "wait4", "waitid", "exit", "exit_group",
    // looking at oneself
    "getuid", "geteuid", "getgid", "getegid", "getrandom", "getrlimit", "prlimit64", "uname",
    "sysinfo", "sched_getaffinity", "getcpu", "prctl", "arch_prctl"};

/// The sanitizers' own calls are not foreseeable.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

Error failure(int result) {
  return {-result, std::string("cannot restrict system calls: ") + std::strerror(-result)};
}

struct Release {
  void operator()(void* filter) const { ::seccomp_release(filter); }
};

}  // namespace

Status restrict_calls() {
  if (kSanitized) return Done{};
  const std::unique_ptr<void, Release> filter(::seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  if (filter == nullptr) return failure(-ENOMEM);
  for (const char* name : kAllowed) {
    const int call = ::seccomp_syscall_resolve_name(name);
    if (call == __NR_SCMP_ERROR) continue;  // not a call of this kind of machine
    const int result = ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0);
    if (result < 0) return failure(result);
  }
  (void)::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_LOG, 1);
  const int result = ::seccomp_load(filter.get());
  return result < 0 ? Status(failure(result)) : Status(Done{});
}

}  // namespace toe::engine
