#include "engine/net/device.h"

#include <linux/ethtool.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/unique_fd.h"
#include "engine/log.h"
#include "engine/net/events.h"
#include "engine/net/netlink.h"

namespace toe::engine::net {
namespace {

// Queues in use now; nothing if the driver does not say.
std::optional<std::uint32_t> queues_in_use(const std::string& name) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&channels);
  if (!fd.valid() || ::ioctl(fd.get(), SIOCETHTOOL, &request) != 0) return std::nullopt;
  return std::max(1u, channels.rx_count + channels.combined_count);
}

std::string kind_of(const Attributes& attributes) {
  const nlattr* info = attributes.find(IFLA_LINKINFO);
  return info == nullptr ? "" : Attributes(*info).text(IFLA_INFO_KIND);
}

}  // namespace

Result<port::Device> read_device(const std::string& name) {
  auto netlink = Netlink::open(NETLINK_ROUTE);
  if (!netlink.ok()) return netlink.error();
  Request request(RTM_GETLINK, 0);
  request.header<ifinfomsg>();
  mnl_attr_put_strz(&request.message(), IFLA_IFNAME, name.substr(0, IFNAMSIZ - 1).c_str());
  port::Device device;
  bool ethernet = false;
  const int code = netlink.value().exchange(request, [&](const nlmsghdr& message) {
    const auto link = parse_link(message);
    if (!link) return;
    const Attributes attributes(message, sizeof(ifinfomsg));
    const auto& header = *static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(&message));
    ethernet = header.ifi_type == ARPHRD_ETHER;
    device = {.name = link->name,
              .ifindex = link->ifindex,
              .mac = link->mac,
              .mtu = link->mtu,
              .rx_queues = attributes.u32(IFLA_NUM_RX_QUEUES).value_or(1),
              .is_veth = kind_of(attributes) == "veth",
              .is_up = link->carrier};
  });
  if (code == ENODEV || device.ifindex == 0) return Error{ENODEV, "there is no interface " + name};
  if (code != 0) return Error{code, "interface " + name + " not read: " + strerror(code)};
  if (!ethernet) return Error{EINVAL, name + " is not an Ethernet interface"};
  if (const auto queues = queues_in_use(name)) device.rx_queues = *queues;
  return device;
}

std::uint32_t usable_mtu(const std::string& name, std::uint32_t mtu, std::uint32_t most) {
  if (mtu <= most) return mtu;
  spdlog::warn("the MTU of {} ({}) is more than frames can hold here: connections use {}", name,
               mtu, most);
  return most;
}

Result<LinkEvent> read_link(int ifindex) {
  auto netlink = Netlink::open(NETLINK_ROUTE);
  if (!netlink.ok()) return netlink.error();
  Request request(RTM_GETLINK, 0);
  request.header<ifinfomsg>().ifi_index = ifindex;
  std::optional<LinkEvent> link;
  const int code = netlink.value().exchange(
      request, [&](const nlmsghdr& message) { link = parse_link(message); });
  if (code == ENODEV) {
    LinkEvent gone;
    gone.ifindex = ifindex;
    gone.removed = true;
    return gone;
  }
  if (code != 0 || !link) return Error{code, std::string("link not read: ") + strerror(code)};
  return *link;
}

Result<std::vector<IpAddr>> read_addresses(int ifindex) {
  auto netlink = Netlink::open(NETLINK_ROUTE);
  if (!netlink.ok()) return netlink.error();
  Request request(RTM_GETADDR, NLM_F_DUMP);
  request.header<ifaddrmsg>();
  std::vector<IpAddr> addresses;
  const int code = netlink.value().exchange(request, [&](const nlmsghdr& message) {
    const auto event = parse_address(message);
    if (event && event->added && event->ifindex == ifindex) addresses.push_back(event->address);
  });
  if (code != 0) return Error{code, std::string("addresses not read: ") + strerror(code)};
  return addresses;
}

}  // namespace toe::engine::net
