#include "engine/net/sock_diag.h"

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <string>

#include "engine/net/netlink.h"

namespace toe::engine::net {
namespace {

// All states a connection can be in; half-open ones are asked for as SYN-RECV.
constexpr std::uint32_t kAllStates = 0xfffu;
constexpr std::uint32_t kStates = kAllStates & ~(1u << TCP_LISTEN) & ~(1u << TCP_CLOSE);

IpAddr address_of(std::uint8_t family, const __be32* words) {
  return family == AF_INET ? IpAddr::v4(words) : IpAddr::v6(words);
}

/// The fixed part of an answer about a socket on `port`; nullptr for all else.
const inet_diag_msg* parse(const nlmsghdr& message, std::uint16_t port) {
  if (message.nlmsg_type != SOCK_DIAG_BY_FAMILY) return nullptr;
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) return nullptr;
  const auto* found = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(&message));
  return ntohs(found->id.idiag_sport) == port ? found : nullptr;
}

/// Hands all sockets on `port` in one of `states` to `each`.
Status list(std::uint16_t port, std::uint32_t states,
            const std::function<void(const nlmsghdr&, const inet_diag_msg&)>& each) {
  auto netlink = Netlink::open(NETLINK_SOCK_DIAG);
  if (!netlink.ok()) return netlink.error();
  for (const int family : {AF_INET, AF_INET6}) {
    Request request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
    auto& question = request.header<inet_diag_req_v2>();
    question.sdiag_family = static_cast<std::uint8_t>(family);
    question.sdiag_protocol = IPPROTO_TCP;
    question.idiag_states = states;
    question.id.idiag_sport = htons(port);
    const int code = netlink.value().exchange(request, [&](const nlmsghdr& message) {
      if (const inet_diag_msg* found = parse(message, port)) each(message, *found);
    });
    if (code != 0) return Error{code, std::string("sockets not listed: ") + strerror(code)};
  }
  return Done{};
}

}  // namespace

Result<std::vector<port::FourTuple>> kernel_connections(std::uint16_t port) {
  std::vector<port::FourTuple> connections;
  Status status = list(port, kStates, [&](const nlmsghdr&, const inet_diag_msg& found) {
    connections.push_back({.local = address_of(found.idiag_family, found.id.idiag_src),
                           .remote = address_of(found.idiag_family, found.id.idiag_dst),
                           .local_port = port,
                           .remote_port = ntohs(found.id.idiag_dport)});
  });
  if (!status.ok()) return status.error();
  return connections;
}

Result<std::vector<KernelListener>> kernel_listeners(std::uint16_t port) {
  std::vector<KernelListener> listeners;
  Status status =
      list(port, 1u << TCP_LISTEN, [&](const nlmsghdr& message, const inet_diag_msg& found) {
        const Attributes attributes(message, sizeof(inet_diag_msg));
        KernelListener& listener = listeners.emplace_back();
        listener.cookie = found.id.idiag_cookie[0] | std::uint64_t{found.id.idiag_cookie[1]} << 32;
        listener.local = address_of(found.idiag_family, found.id.idiag_src);
        listener.v6_only = attributes.u8(INET_DIAG_SKV6ONLY).value_or(0) != 0;
        listener.ifindex = static_cast<int>(found.id.idiag_if);
      });
  if (!status.ok()) return status.error();
  return listeners;
}

}  // namespace toe::engine::net
