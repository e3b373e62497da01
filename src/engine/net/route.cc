#include "engine/net/route.h"

#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

namespace toe::engine::net {
namespace {

void fill(Request& request, const RouteQuery& query) {
  auto& header = request.header<rtmsg>();
  header.rtm_family = family_of(query.remote);
  const std::uint8_t bits = query.remote.is_v4() ? 32 : 128;
  header.rtm_dst_len = bits;
  nlmsghdr& message = request.message();
  put_address(message, RTA_DST, query.remote);
  if (!query.local.is_any()) {
    header.rtm_src_len = bits;
    put_address(message, RTA_SRC, query.local);
  }
  mnl_attr_put_u32(&message, RTA_UID, query.uid);
  mnl_attr_put_u8(&message, RTA_IP_PROTO, IPPROTO_TCP);
  if (query.local_port != 0) mnl_attr_put_u16(&message, RTA_SPORT, htons(query.local_port));
  if (query.remote_port != 0) mnl_attr_put_u16(&message, RTA_DPORT, htons(query.remote_port));
}

Route::Kind kind_of(std::uint8_t type) {
  if (type == RTN_UNICAST) return Route::Kind::kUnicast;
  return type == RTN_LOCAL ? Route::Kind::kLocal : Route::Kind::kOther;
}

// RTA_VIA: an IPv4 route through an IPv6 gateway (RFC 5549).
std::optional<IpAddr> via(const nlattr* attribute) {
  if (attribute == nullptr) return std::nullopt;
  const std::size_t length = mnl_attr_get_payload_len(attribute);
  const auto* bytes = static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute));
  if (length == sizeof(rtvia) + 16) return IpAddr::v6(bytes + sizeof(rtvia));
  if (length == sizeof(rtvia) + 4) return IpAddr::v4(bytes + sizeof(rtvia));
  return std::nullopt;
}

std::optional<Route> parse(const nlmsghdr& message, const RouteQuery& query) {
  if (message.nlmsg_type != RTM_NEWROUTE || message.nlmsg_len < NLMSG_LENGTH(sizeof(rtmsg))) {
    return std::nullopt;
  }
  const auto& header = *static_cast<const rtmsg*>(mnl_nlmsg_get_payload(&message));
  const Attributes attributes(message, sizeof(rtmsg));
  Route route;
  route.kind = kind_of(header.rtm_type);
  route.oif = static_cast<int>(attributes.u32(RTA_OIF).value_or(0));
  const auto gateway = attributes.address(RTA_GATEWAY);
  route.next_hop = gateway.value_or(via(attributes.find(RTA_VIA)).value_or(query.remote));
  route.source = query.local;
  if (query.local.is_any()) route.source = attributes.address(RTA_PREFSRC).value_or(IpAddr{});
  if (const nlattr* metrics = attributes.find(RTA_METRICS)) {
    const Attributes values(*metrics);
    route.mtu = values.u32(RTAX_MTU).value_or(0);
    route.advmss = values.u32(RTAX_ADVMSS).value_or(0);
    route.congestion = values.text(RTAX_CC_ALGO);
    route.mtu_locked = (values.u32(RTAX_LOCK).value_or(0) & (1u << RTAX_MTU)) != 0;
  }
  return route;
}

}  // namespace

Result<RouteLookup> RouteLookup::open() {
  auto netlink = Netlink::open(NETLINK_ROUTE);
  if (!netlink.ok()) return netlink.error();
  return RouteLookup(std::move(netlink.value()));
}

Result<Route> RouteLookup::find(const RouteQuery& query) {
  Request request(RTM_GETROUTE, 0);
  fill(request, query);
  std::optional<Route> route;
  const int code = netlink_.exchange(request, [&](const nlmsghdr& message) {
    if (auto parsed = parse(message, query)) route = parsed;
  });
  if (code != 0) return Error{code, std::string("no route: ") + strerror(code)};
  if (!route) return Error{ENETUNREACH, "the kernel named no route"};
  return *route;
}

}  // namespace toe::engine::net
