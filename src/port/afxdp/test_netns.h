// For tests: two network namespaces of this process, joined by a veth pair.
//
// The namespaces have no names and disappear with the object. Their addresses:
//   here: v0 10.99.0.1/24 fd99::1/64      there: v1 10.99.0.2/24 fd99::2/64
#ifndef TOE_PORT_AFXDP_TEST_NETNS_H_
#define TOE_PORT_AFXDP_TEST_NETNS_H_

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/check.h"
#include "base/unique_fd.h"

namespace toe::port {

/// Thread: the namespace of the calling thread is changed; use from the test's main thread.
class TestNetns {
 public:
  /// `queues`: receive and send queues of both ends.
  explicit TestNetns(int queues = 1) {
    original_.reset(open_own());
    if (::unshare(CLONE_NEWNET) != 0) return;
    there_.reset(open_own());
    TOE_CHECK(::unshare(CLONE_NEWNET) == 0);
    here_.reset(open_own());
    const std::string peer =
        "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(there_.get());
    run("ip link set lo up");
    const std::string number = std::to_string(queues);
    // Without a number there is one in use, and ethtool may raise it.
    const std::string each = queues == 1 ? "" : " numrxqueues " + number + " numtxqueues " + number;
    run("ip link add v0" + each + " type veth peer name v1" + each + " netns " + peer);
    configure("v0", "1");
    enter_there();
    run("ip link set lo up");
    configure("v1", "2");
    enter_here();
  }
  ~TestNetns() {
    if (permitted()) enter(original_);
  }
  TestNetns(const TestNetns&) = delete;
  TestNetns& operator=(const TestNetns&) = delete;

  /// False: this process may not create namespaces; skip the test.
  bool permitted() const { return here_.valid(); }

  void enter_here() const { enter(here_); }
  void enter_there() const { enter(there_); }

  /// Runs a shell command in the namespace entered last; it must succeed.
  static void run(const std::string& command) { TOE_CHECK(std::system(command.c_str()) == 0); }

 private:
  static int open_own() { return ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC); }
  static void enter(const UniqueFd& fd) { TOE_CHECK(::setns(fd.get(), CLONE_NEWNET) == 0); }
  static void configure(const std::string& dev, const std::string& host) {
    run("ip link set " + dev + " addrgenmode none && ip link set " + dev + " up");
    run("ip addr add 10.99.0." + host + "/24 dev " + dev);
    // Neighbour discovery needs a link-local address.
    for (const char* prefix : {"fd99::", "fe80::"}) {
      run("ip addr add " + (prefix + host) + "/64 dev " + dev + " nodad");
    }
  }

  UniqueFd original_;
  UniqueFd there_;
  UniqueFd here_;
};

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_TEST_NETNS_H_
