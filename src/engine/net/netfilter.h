// Whether packet filter rules exist that redirected segments would walk around.
#ifndef TOE_ENGINE_NET_NETFILTER_H_
#define TOE_ENGINE_NET_NETFILTER_H_

#include <optional>
#include <string>

#include "base/result.h"
#include "engine/net/netlink.h"

namespace toe::engine::net {

/// Names a chain of this namespace at the prerouting, input or ingress hook (nf_tables), or a table
/// of the older iptables; empty if there is none. Needs CAP_NET_ADMIN.
Result<std::string> find_input_filter();

/// Tells when nf_tables rules of this namespace change. Thread: one.
class FilterWatch {
 public:
  /// A kernel without nf_tables changes nothing: fd() is -1.
  static Result<FilterWatch> open();

  /// Readable when something has changed. Stays this object's.
  int fd() const { return netlink_ ? netlink_->fd() : -1; }
  /// Takes what waits; never blocks.
  void drain();

 private:
  std::optional<Netlink> netlink_;
};

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_NETFILTER_H_
