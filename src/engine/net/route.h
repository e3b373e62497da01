// Routes are the kernel's: one question per destination.
#ifndef TOE_ENGINE_NET_ROUTE_H_
#define TOE_ENGINE_NET_ROUTE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "base/addr.h"
#include "base/result.h"
#include "engine/net/netlink.h"

namespace toe::engine::net {

/// A TCP connection to be routed; ports in host byte order, 0 if not known yet.
struct RouteQuery {
  IpAddr remote;
  IpAddr local{};  ///< any: the kernel picks the source
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;
  std::uint32_t uid = 0;  ///< of the program, for rules by user
};

struct Route {
  enum class Kind { kUnicast, kLocal, kOther };  ///< kOther: broadcast, multicast, anycast

  Kind kind = Kind::kUnicast;
  int oif = 0;
  IpAddr next_hop;           ///< the gateway, or the destination itself
  IpAddr source;             ///< the query's, or the kernel's choice; any if it made none
  std::uint32_t mtu = 0;     ///< of the route; 0: the device's
  std::uint32_t advmss = 0;  ///< MSS to announce (`ip route ... advmss`); 0: from the MTU
  bool mtu_locked = false;
  std::string congestion;  ///< its congestion control (`ip route ... congctl`), "" if none
};

/// Answers in some 10 microseconds. Thread: one.
class RouteLookup {
 public:
  static Result<RouteLookup> open();

  /// Error::code is what connect() gives on Linux: ENETUNREACH, EHOSTUNREACH, EACCES ...
  Result<Route> find(const RouteQuery& query);

 private:
  explicit RouteLookup(Netlink netlink) : netlink_(std::move(netlink)) {}

  Netlink netlink_;
};

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_ROUTE_H_
