// What sockets the kernel has on a port.
#ifndef TOE_ENGINE_NET_SOCK_DIAG_H_
#define TOE_ENGINE_NET_SOCK_DIAG_H_

#include <cstdint>
#include <vector>

#include "base/addr.h"
#include "base/result.h"
#include "port/afxdp/steering.h"

namespace toe::engine::net {

/// Every TCP connection of the kernel with local port `port` in this namespace, half-open ones and
/// TIME-WAIT included, listeners not. Read while new SYNs are kept away (see steering.md).
Result<std::vector<port::FourTuple>> kernel_connections(std::uint16_t port);

struct KernelListener {
  std::uint64_t cookie = 0;  ///< SO_COOKIE
  IpAddr local;              ///< may be a wildcard
  bool v6_only = false;
  int ifindex = 0;  ///< device it is bound to, 0 = none
};

/// Every TCP socket that listens on `port` in this namespace.
Result<std::vector<KernelListener>> kernel_listeners(std::uint16_t port);

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_SOCK_DIAG_H_
