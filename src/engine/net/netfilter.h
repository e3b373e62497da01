// Whether packet filter rules exist that redirected segments would walk around.
#ifndef TOE_ENGINE_NET_NETFILTER_H_
#define TOE_ENGINE_NET_NETFILTER_H_

#include <string>

#include "base/result.h"

namespace toe::engine::net {

/// Names a chain of this namespace at the prerouting, input or ingress hook (nf_tables), or a table
/// of the older iptables; empty if there is none. Needs CAP_NET_ADMIN.
Result<std::string> find_input_filter();

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_NETFILTER_H_
