// Who may own a port: proofs read from a program's kernel socket, and ports held by ourselves.
#ifndef TOE_ENGINE_NET_OWNERSHIP_H_
#define TOE_ENGINE_NET_OWNERSHIP_H_

#include <cstdint>
#include <span>

#include "base/addr.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace toe::engine::net {

/// What the kernel says about a TCP socket.
struct SocketFacts {
  std::uint64_t cookie = 0;  ///< identity of the socket, whatever fd it is seen through
  int family = 0;            ///< AF_INET or AF_INET6
  IpAddr address;            ///< local; any: wildcard or not bound
  std::uint16_t port = 0;    ///< local; 0: not bound
  bool v6_only = false;
  bool reuse_address = false;
  bool reuse_port = false;
};

/// The facts of a socket that proves the right to serve its port.
struct ListenerProof : SocketFacts {};

/// SO_NETNS_COOKIE of this process's namespace.
Result<std::uint64_t> own_netns_cookie();

/// Whether `fd`, received from a program, is a plain TCP socket of the namespace `netns_cookie`.
/// The code of a refusal is the errno to report; the text says why. `fd` stays the caller's.
Result<SocketFacts> check_socket(int fd, std::uint64_t netns_cookie);

/// Whether `fd` proves its port: as check_socket, and it listens on a wildcard or on one of
/// `local`, through whatever interface. Only a listening socket does: others may be bound to the
/// same port beside it. Members of an SO_REUSEPORT group are told by reuse_port; each must show its
/// own socket.
Result<ListenerProof> check_listener(int fd, std::uint64_t netns_cookie,
                                     std::span<const IpAddr> local);

/// Whether `fd` may connect: as check_socket, and it is bound to no other address than one of
/// `local`. What a program can bind to (127.0.0.0/8, any address with IP_FREEBIND) need not be a
/// source of the engine's.
Result<SocketFacts> check_connector(int fd, std::uint64_t netns_cookie,
                                    std::span<const IpAddr> local);

/// A local port that nobody else in the namespace can get while this lives.
struct HeldPort {
  UniqueFd fd;
  std::uint16_t port = 0;
};

/// Binds `port` (0: one of the kernel's choice) on `local`, without SO_REUSEADDR: with it another
/// user could listen there. The wildcard "::" holds the port for IPv4 as well.
Result<HeldPort> hold_port(const IpAddr& local, std::uint16_t port = 0);

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_OWNERSHIP_H_
