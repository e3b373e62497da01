// What each kind of thread may call, and that anything else ends the process. Each case runs in a
// child, which tells by its exit status.
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/unique_fd.h"
#include "engine/privileges.h"

namespace toe::engine {
namespace {

using Act = std::function<void()>;

constexpr ThreadRole kRoles[] = {ThreadRole::kAdmin, ThreadRole::kDataPath, ThreadRole::kGuardian,
                                 ThreadRole::kMetrics};

/// How a child ends that does `act`: its exit status (0 if it comes to the end), or minus the
/// signal that killed it.
int end_of(const Act& act) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    act();
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void confine(ThreadRole role) {
  if (!restrict_calls(role).ok()) ::_exit(100);
}

int end_confined(ThreadRole role, const Act& act) {
  return end_of([&] {
    confine(role);
    act();
  });
}

void expect(bool condition) {
  if (!condition) ::_exit(1);
}

class Seccomp : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!can_restrict_calls()) GTEST_SKIP() << "sanitizers make calls of their own";
  }
};

struct NamedAct {
  const char* name;
  Act act;
};

/// Calls by which a process whose code an attacker runs would get further.
const std::vector<NamedAct>& escapes() {
  static const std::vector<NamedAct> acts = {
      {"execve", [] { ::execl("/bin/true", "true", nullptr); }},
      {"fork", [] { (void)::fork(); }},
      {"ptrace", [] { ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
      {"kill", [] { ::kill(::getppid(), 0); }},
      {"setuid", [] { ::syscall(SYS_setuid, 0); }},
      {"mount", [] { ::mount("none", "/nowhere", "tmpfs", 0, nullptr); }},
      {"unshare", [] { ::unshare(CLONE_NEWUSER); }},
      {"process_vm_readv", [] { ::syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0); }},
      {"open for writing", [] { (void)::open("/tmp/never", O_WRONLY | O_CREAT, 0600); }},
      {"executable memory",
       [] { ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }},
      {"memory made executable",
       [] {
         void* page = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         ::mprotect(page, 4096, PROT_READ | PROT_EXEC);
       }},
      {"another filter", [] { ::syscall(SYS_seccomp, 0, 0, nullptr); }},
      {"unknown", [] { ::syscall(9999); }},
  };
  return acts;
}

TEST_F(Seccomp, NoRoleGetsFurther) {
  for (const ThreadRole role : kRoles) {
    for (const NamedAct& escape : escapes()) {
      EXPECT_EQ(end_confined(role, escape.act), -SIGSYS)
          << escape.name << " of role " << static_cast<int>(role);
    }
  }
}

TEST_F(Seccomp, TheDataPathOpensNothing) {
  const NamedAct acts[] = {
      {"socket", [] { ::socket(AF_INET, SOCK_STREAM, 0); }},
      {"accept", [] { ::accept4(0, nullptr, nullptr, 0); }},
      {"memfd_create", [] { ::memfd_create("x", 0); }},
      {"recvmsg", [] { ::recvmsg(0, nullptr, 0); }},
      {"bpf", [] { ::syscall(SYS_bpf, BPF_MAP_CREATE, nullptr, 0); }},
      {"unlink", [] { ::unlink("/tmp/never"); }},
  };
  for (const NamedAct& act : acts) {
    EXPECT_EQ(end_confined(ThreadRole::kDataPath, act.act), -SIGSYS) << act.name;
    EXPECT_EQ(end_confined(ThreadRole::kGuardian, act.act), -SIGSYS) << act.name;
    EXPECT_EQ(end_confined(ThreadRole::kAdmin, act.act), 0) << act.name;
  }
}

TEST_F(Seccomp, TheMetricsTakeConnectionsAndMakeNone) {
  const sockaddr nowhere{};
  const NamedAct acts[] = {
      {"socket", [] { ::socket(AF_INET, SOCK_STREAM, 0); }},
      {"connect", [&nowhere] { ::connect(0, &nowhere, sizeof nowhere); }},
      {"bpf", [] { ::syscall(SYS_bpf, BPF_MAP_CREATE, nullptr, 0); }},
      {"sendmsg", [] { ::sendmsg(0, nullptr, 0); }},
  };
  for (const NamedAct& act : acts) {
    EXPECT_EQ(end_confined(ThreadRole::kMetrics, act.act), -SIGSYS) << act.name;
  }
  EXPECT_EQ(end_confined(ThreadRole::kMetrics, [] { ::accept4(0, nullptr, nullptr, 0); }), 0);
}

TEST_F(Seccomp, FilesAreNotThereForTheDataPath) {
  const Act open = [] {
    expect(::open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT);  // malloc opens some in /proc
  };
  EXPECT_EQ(end_confined(ThreadRole::kDataPath, open), 0);
  EXPECT_EQ(end_confined(ThreadRole::kGuardian, open), -SIGSYS);
}

TEST_F(Seccomp, TheGuardianReadsNothing) {
  const Act read = [] {
    char byte;
    (void)!::read(-1, &byte, 1);
  };
  EXPECT_EQ(end_confined(ThreadRole::kGuardian, read), -SIGSYS);
  EXPECT_EQ(end_confined(ThreadRole::kDataPath, read), 0);
}

/// Memory in all the ways in which malloc gets and returns it.
void use_memory() {
  for (std::size_t bytes = 16; bytes < (64u << 20); bytes *= 2) {
    std::vector<std::unique_ptr<char[]>> blocks;
    for (int i = 0; i < 4; ++i) blocks.emplace_back(new char[bytes]());
  }
}

TEST_F(Seccomp, EveryRoleUsesMemoryAndLocks) {
  for (const ThreadRole role : kRoles) EXPECT_EQ(end_confined(role, use_memory), 0);
}

TEST_F(Seccomp, AThreadOfTheDataPathRingsSleepsAndEnds) {
  const int end = end_of([] {
    const UniqueFd bell(::eventfd(0, EFD_NONBLOCK));
    const UniqueFd epoll(::epoll_create1(0));
    std::thread worker([&] {
      confine(ThreadRole::kDataPath);
      use_memory();
      epoll_event event{EPOLLIN, {}};
      expect(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, bell.get(), &event) == 0);
      std::uint64_t one = 1;
      expect(::write(bell.get(), &one, sizeof one) == sizeof one);
      const timespec timeout{1, 0};
      expect(::epoll_pwait2(epoll.get(), &event, 1, &timeout, nullptr) == 1);
      expect(::read(bell.get(), &one, sizeof one) == sizeof one);
      expect(::sched_yield() == 0);
    });
    worker.join();
  });
  EXPECT_EQ(end, 0);
}

TEST_F(Seccomp, OneThreadsCallEndsTheWholeProcess) {
  const int end = end_of([] {
    std::thread worker([] {
      confine(ThreadRole::kDataPath);
      ::socket(AF_INET, SOCK_STREAM, 0);
    });
    worker.join();  // would come back if only the thread died
  });
  EXPECT_EQ(end, -SIGSYS);
}

TEST_F(Seccomp, EachThreadHasItsOwnList) {
  const int end = end_of([] {
    std::thread worker([] { confine(ThreadRole::kDataPath); });
    worker.join();
    confine(ThreadRole::kAdmin);
    expect(UniqueFd(::socket(AF_INET, SOCK_STREAM, 0)).valid());
    expect(UniqueFd(::open("/dev/null", O_RDONLY)).valid());
  });
  EXPECT_EQ(end, 0);
}

TEST_F(Seccomp, AnAbortStaysAnAbort) {
  for (const ThreadRole role : kRoles) {
    EXPECT_EQ(end_confined(role, [] { ::abort(); }), -SIGABRT);
  }
}

}  // namespace
}  // namespace toe::engine
