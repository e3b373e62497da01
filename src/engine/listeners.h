// Ports of this host that the engine owns: listeners shown by programs, and ephemeral ports it
// holds itself. Marks them in the steering program, and keeps a port reserved at the kernel for as
// long as control uses it.
#ifndef TOE_ENGINE_LISTENERS_H_
#define TOE_ENGINE_LISTENERS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "base/addr.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/net/ownership.h"
#include "port/afxdp/steering.h"

namespace toe::engine {

/// Thread: admin.
class Listeners {
 public:
  /// `local`: addresses of the device now.
  Listeners(port::Steering& steering, std::span<const IpAddr> local);

  /// A program showed its listening socket and control is being asked: keeps a copy of the socket.
  void offer(const net::ListenerProof& proof, UniqueFd socket);
  /// Control's answer. Refused and offered by nobody else: the copy is closed.
  void answered(std::uint64_t cookie, bool accepted);

  /// Steers the listener's port to the engine without hurting what the kernel serves on it. Returns
  /// an errno.
  int mark(std::uint64_t cookie);
  /// 0 if unknown.
  std::uint16_t port_of(std::uint64_t cookie) const;
  /// The listener has no holder any more: its copy stays bound, but nobody listens. Returns what it
  /// was bound to; port 0 if unknown.
  std::pair<IpAddr, std::uint16_t> close(std::uint64_t cookie);
  /// After close(): new connections are the kernel's again; only `ours` stay with the engine.
  void drain(const IpAddr& local, std::uint16_t port, std::span<const port::FourTuple> ours);
  /// Nothing uses the port any more.
  void release(const IpAddr& local, std::uint16_t port);

  /// Forgets exceptions whose connections the kernel has finished. To be called now and then.
  void tidy();

  /// Holds an ephemeral port on `local` and steers it.
  Result<std::uint16_t> hold(const IpAddr& local);

  void add_address(const IpAddr& address);
  void remove_address(const IpAddr& address);
  std::span<const IpAddr> addresses() const { return local_; }

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
    bool accepted = false;
    bool marked = false;
    std::uint32_t offers = 0;
  };

  static bool covers(const Entry& entry, const IpAddr& address);
  bool served(const IpAddr& address, std::uint16_t port) const;
  int own(const Entry& entry, const IpAddr& address,
          const std::vector<port::FourTuple>& kernel_has);
  void disown(const IpAddr& address, std::uint16_t port);

  port::Steering& steering_;
  std::vector<IpAddr> local_;
  std::map<std::uint64_t, Entry> entries_;  ///< by cookie
  std::vector<Entry> closed_;               ///< without holders, port still in use
  std::map<std::pair<IpAddr, std::uint16_t>, net::HeldPort> held_;
  std::map<std::uint16_t, std::vector<port::FourTuple>> kernels_;  ///< exceptions, by port
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_LISTENERS_H_
