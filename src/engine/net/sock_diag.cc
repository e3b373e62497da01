#include "engine/net/sock_diag.h"

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
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

std::optional<port::FourTuple> parse(const nlmsghdr& message, std::uint16_t port) {
  if (message.nlmsg_type != SOCK_DIAG_BY_FAMILY) return std::nullopt;
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) return std::nullopt;
  const auto& found = *static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(&message));
  if (ntohs(found.id.idiag_sport) != port) return std::nullopt;
  return port::FourTuple{.local = address_of(found.idiag_family, found.id.idiag_src),
                         .remote = address_of(found.idiag_family, found.id.idiag_dst),
                         .local_port = port,
                         .remote_port = ntohs(found.id.idiag_dport)};
}

}  // namespace

Result<std::vector<port::FourTuple>> kernel_connections(std::uint16_t port) {
  auto netlink = Netlink::open(NETLINK_SOCK_DIAG);
  if (!netlink.ok()) return netlink.error();
  std::vector<port::FourTuple> connections;
  for (const int family : {AF_INET, AF_INET6}) {
    Request request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
    auto& question = request.header<inet_diag_req_v2>();
    question.sdiag_family = static_cast<std::uint8_t>(family);
    question.sdiag_protocol = IPPROTO_TCP;
    question.idiag_states = kStates;
    question.id.idiag_sport = htons(port);
    const int code = netlink.value().exchange(request, [&](const nlmsghdr& message) {
      if (const auto tuple = parse(message, port)) connections.push_back(*tuple);
    });
    if (code != 0) return Error{code, std::string("connections not listed: ") + strerror(code)};
  }
  return connections;
}

}  // namespace toe::engine::net
