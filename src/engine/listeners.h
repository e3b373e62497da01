// Ports of this host that the engine owns: listeners shown by programs, and ephemeral ports it
// holds itself. Marks them in the steering program, and keeps a port reserved at the kernel for as
// long as control uses it.
#ifndef TOE_ENGINE_LISTENERS_H_
#define TOE_ENGINE_LISTENERS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/addr.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/net/ownership.h"
#include "engine/net/sock_diag.h"
#include "port/afxdp/steering.h"

namespace toe::engine {

/// Thread: admin.
class Listeners {
 public:
  /// Lists what the kernel has on a port.
  using Listing = std::function<Result<std::vector<port::FourTuple>>(std::uint16_t)>;

  /// `local`: addresses of the device now.
  Listeners(port::Steering& steering, std::span<const IpAddr> local,
            Listing kernel_connections = net::kernel_connections);

  /// A program showed its listening socket and control is being asked: keeps a copy of the socket.
  void offer(const net::ListenerProof& proof, UniqueFd socket);
  /// Control's answer. Refused and offered by nobody else: the copy is closed.
  void answered(std::uint64_t cookie, bool accepted);

  /// Steers the listener's port to the engine without hurting what the kernel serves on it. Returns
  /// an errno.
  ///
  /// An address of the device stays the kernel's while a socket that was not shown to us listens
  /// there in the same SO_REUSEPORT group, or by a better match: Linux lets it have connections
  /// too.
  int mark(std::uint64_t cookie);
  /// 0 if unknown.
  std::uint16_t port_of(std::uint64_t cookie) const;
  /// The listener has no holder any more: its copy stays bound, but nobody listens, unless another
  /// process has just offered the same socket. Returns its port; 0 if unknown.
  std::uint16_t close(std::uint64_t cookie);
  /// New connections to the port's addresses that no listener of ours serves any more are the
  /// kernel's again; only `ours` stay with the engine. Again, with what was begun meanwhile: those
  /// stay as well.
  void drain(std::uint16_t port, std::span<const port::FourTuple> ours);
  /// Nothing uses the port any more.
  void release(const IpAddr& local, std::uint16_t port);

  /// Looks who shares ports with SO_REUSEPORT by now, and steers what is to be had. To be called
  /// now and then. Returns the ports that have to be drained for others' sake.
  std::vector<std::uint16_t> follow_groups();
  /// Forgets exceptions whose connections the kernel has finished. To be called now and then.
  void tidy();
  /// Ports with connections of the engine whose new connections are the kernel's.
  std::vector<std::uint16_t> draining() const;
  /// Forgets those connections of a draining port that are not among `ours`.
  void tidy_drained(std::uint16_t port, std::span<const port::FourTuple> ours);

  /// Holds an ephemeral port on `local` and steers it.
  Result<std::uint16_t> hold(const IpAddr& local);

  /// True: the device did not have the address before. What was steered when it went is again.
  bool add_address(const IpAddr& address);
  /// True: it had it. Ports and connections of the address wait for its return.
  bool remove_address(const IpAddr& address);
  /// Those that the device has now.
  std::span<const IpAddr> addresses() const { return present_; }

  std::size_t count() const { return entries_.size(); }
  /// Sockets kept to hold ports that nobody listens on: spare, or still in use.
  std::size_t held() const { return held_.size() + closed_.size(); }

 private:
  struct Entry {
    UniqueFd socket;
    IpAddr local;
    std::uint16_t port = 0;
    bool v4 = false;  ///< an AF_INET socket
    bool v6_only = false;
    bool reuse_port = false;
    bool accepted = false;
    bool marked = false;
    std::uint32_t offers = 0;
    std::vector<IpAddr> left;  ///< addresses that stay the kernel's, for another socket's sake
  };

  static int rank(const IpAddr& local, bool v6_only, const IpAddr& address);
  static bool covers(const Entry& entry, const IpAddr& address) {
    return rank(entry.local, entry.v6_only, address) > 0;
  }
  static bool serves(const Entry& entry, const IpAddr& address);
  bool served(const IpAddr& address, std::uint16_t port) const;
  bool owned(const IpAddr& address, std::uint16_t port) const;
  void leave_to_others(Entry& entry, const std::vector<net::KernelListener>& listeners) const;
  int look_around(std::uint16_t port);
  int take(Entry& entry);
  int take_all(const std::vector<IpAddr>& addresses, std::uint16_t port);
  bool would_answer(const std::vector<IpAddr>& addresses, std::uint16_t port) const;
  int leave_to_kernel(std::uint16_t port);
  int except(const std::vector<port::FourTuple>& tuples, std::uint16_t port);
  void end_drain(const IpAddr& address, std::uint16_t port);
  bool claimed(const IpAddr& address, std::uint16_t port) const;
  bool tidy_kernels(std::uint16_t port);
  Result<std::vector<port::FourTuple>> sorted_connections(std::uint16_t port) const;
  void forget(const IpAddr& address, std::optional<std::uint16_t> port);
  void disown(const IpAddr& address, std::uint16_t port);

  port::Steering& steering_;
  Listing kernel_connections_;
  std::vector<IpAddr> local_;               ///< addresses with a place in `steering_`
  std::vector<IpAddr> present_;             ///< of these, those that the device has now
  std::map<std::uint64_t, Entry> entries_;  ///< by cookie
  std::vector<Entry> closed_;               ///< without holders, port still in use
  std::map<std::pair<IpAddr, std::uint16_t>, net::HeldPort> held_;
  std::map<std::uint16_t, std::set<port::FourTuple>> kernels_;     ///< exceptions, by port
  std::map<std::uint16_t, std::vector<port::FourTuple>> drained_;  ///< the engine's, by port
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_LISTENERS_H_
