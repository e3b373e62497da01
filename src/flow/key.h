// Identity of a connection on the wire.
#ifndef TOE_FLOW_KEY_H_
#define TOE_FLOW_KEY_H_

#include <compare>

#include "base/addr.h"

namespace toe::flow {

/// 4-tuple seen from this host; IPv4 in v4-mapped form, ports in host order.
struct FlowKey {
  IpAddr local;
  IpAddr remote;
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;

  auto operator<=>(const FlowKey&) const = default;
};
static_assert(sizeof(FlowKey) == 36);

}  // namespace toe::flow

#endif  // TOE_FLOW_KEY_H_
