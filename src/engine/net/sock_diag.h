// The connections that the kernel holds.
#ifndef TOE_ENGINE_NET_SOCK_DIAG_H_
#define TOE_ENGINE_NET_SOCK_DIAG_H_

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "port/afxdp/steering.h"

namespace toe::engine::net {

/// Every TCP connection of the kernel with local port `port` in this namespace, half-open ones and
/// TIME-WAIT included, listeners not. Read while new SYNs are kept away (see steering.md).
Result<std::vector<port::FourTuple>> kernel_connections(std::uint16_t port);

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_SOCK_DIAG_H_
