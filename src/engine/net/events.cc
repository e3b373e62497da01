#include "engine/net/events.h"

#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>

namespace toe::engine::net {
namespace {

bool is_link_local(const IpAddr& address) {
  return !address.is_v4() && address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
}

}  // namespace

std::optional<LinkEvent> parse_link(const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWLINK && message.nlmsg_type != RTM_DELLINK) return std::nullopt;
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg))) return std::nullopt;
  const auto& header = *static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(&message));
  if (header.ifi_family != AF_UNSPEC) return std::nullopt;  // a bridge's view of a port
  const Attributes attributes(message, sizeof(ifinfomsg));
  LinkEvent link;
  link.ifindex = header.ifi_index;
  link.name = attributes.text(IFLA_IFNAME);
  link.mac = attributes.mac(IFLA_ADDRESS).value_or(MacAddr{});
  link.mtu = attributes.u32(IFLA_MTU).value_or(0);
  link.up = (header.ifi_flags & IFF_UP) != 0;
  link.carrier = link.up && (header.ifi_flags & IFF_LOWER_UP) != 0;
  link.removed = message.nlmsg_type == RTM_DELLINK;
  return link;
}

std::optional<AddressEvent> parse_address(const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWADDR && message.nlmsg_type != RTM_DELADDR) return std::nullopt;
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(ifaddrmsg))) return std::nullopt;
  const auto& header = *static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(&message));
  const Attributes attributes(message, sizeof(ifaddrmsg));
  // Of a point-to-point link IFA_ADDRESS is the other end.
  auto address = attributes.address(IFA_LOCAL);
  if (!address) address = attributes.address(IFA_ADDRESS);
  if (!address || is_link_local(*address)) return std::nullopt;
  const std::uint32_t flags = attributes.u32(IFA_FLAGS).value_or(header.ifa_flags);
  const bool usable =
      (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) == 0 || (flags & IFA_F_OPTIMISTIC) != 0;
  return AddressEvent{.ifindex = static_cast<int>(header.ifa_index),
                      .address = *address,
                      .added = message.nlmsg_type == RTM_NEWADDR && usable};
}

Result<NetEvents> NetEvents::open() {
  auto netlink = Netlink::open(
      NETLINK_ROUTE, {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
                      RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_NEIGH});
  if (!netlink.ok()) return netlink.error();
  ::setsockopt(netlink.value().fd(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes,
               sizeof(kReceiveBufferBytes));
  return NetEvents(std::move(netlink.value()));
}

bool NetEvents::poll(const std::function<void(const NetEvent&)>& each) {
  bool routes_changed = false;
  const int code = netlink_.drain(kPerPoll, [&](const nlmsghdr& message) {
    switch (message.nlmsg_type) {
      case RTM_NEWROUTE:
      case RTM_DELROUTE:
      case RTM_NEWRULE:
      case RTM_DELRULE:
        routes_changed = true;
        return;
      default:
        break;
    }
    if (const auto link = parse_link(message)) each(*link);
    if (const auto address = parse_address(message)) each(*address);
    if (const auto neighbour = parse_neighbour(message)) each(*neighbour);
  });
  if (routes_changed) each(RoutesChanged{});
  if (code == ENOBUFS) lost_ = true;
  // The kernel adds nothing to the queue until it has been emptied, so this comes.
  if (lost_ && code == EAGAIN) {
    lost_ = false;
    each(EventsLost{});
  }
  return code == 0 || code == ENOBUFS;
}

}  // namespace toe::engine::net
