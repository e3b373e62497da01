#include "engine/net/netfilter.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "engine/net/netlink.h"

namespace toe::engine::net {
namespace {

// The hook number of a base chain; nothing for a chain that is only jumped to.
std::optional<std::uint32_t> hook_of(const Attributes& chain) {
  const nlattr* hook = chain.find(NFTA_CHAIN_HOOK);
  if (hook == nullptr) return std::nullopt;
  const auto number = Attributes(*hook).u32(NFTA_HOOK_HOOKNUM);
  if (!number) return std::nullopt;
  return ntohl(*number);
}

// Hooks that a frame on its way to a local socket passes after the device's XDP program.
bool on_the_way_in(std::uint8_t family, std::uint32_t hook) {
  switch (family) {
    case NFPROTO_INET:
      return hook == NF_INET_PRE_ROUTING || hook == NF_INET_LOCAL_IN || hook == NF_INET_INGRESS;
    case NFPROTO_IPV4:
    case NFPROTO_IPV6:
    case NFPROTO_BRIDGE:
      return hook == NF_INET_PRE_ROUTING || hook == NF_INET_LOCAL_IN;
    case NFPROTO_NETDEV:
      return hook == NF_NETDEV_INGRESS;
    default:
      return false;
  }
}

std::string parse_chain(const nlmsghdr& message) {
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(nfgenmsg))) return {};
  const auto& header = *static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(&message));
  const Attributes chain(message, sizeof(nfgenmsg));
  const auto hook = hook_of(chain);
  if (!hook || !on_the_way_in(header.nfgen_family, *hook)) return {};
  return "nftables chain " + chain.text(NFTA_CHAIN_TABLE) + "/" + chain.text(NFTA_CHAIN_NAME);
}

// A kernel without nf_tables has no chains.
bool is_absent(int code) {
  return code == EINVAL || code == EOPNOTSUPP || code == EPROTONOSUPPORT || code == ENOENT;
}

Result<std::string> find_nft_chain() {
  auto netlink = Netlink::open(NETLINK_NETFILTER);
  if (!netlink.ok()) {
    if (is_absent(netlink.error().code)) return std::string();
    return netlink.error();
  }
  Request request((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETCHAIN, NLM_F_DUMP);
  auto& header = request.header<nfgenmsg>();
  header.nfgen_family = NFPROTO_UNSPEC;
  header.version = NFNETLINK_V0;
  std::string found;
  const int code = netlink.value().exchange(request, [&](const nlmsghdr& message) {
    if (found.empty()) found = parse_chain(message);
  });
  if (code != 0 && !is_absent(code)) {
    return Error{code, std::string("packet filter rules not read: ") + strerror(code)};
  }
  return found;
}

std::string find_legacy_table() {
  for (const char* file : {"ip_tables_names", "ip6_tables_names"}) {
    std::ifstream names(std::string("/proc/thread-self/net/") + file);
    std::string table;
    if (names >> table) return "iptables table " + table;
  }
  return {};
}

}  // namespace

Result<std::string> find_input_filter() {
  auto chain = find_nft_chain();
  if (!chain.ok() || !chain.value().empty()) return chain;
  return find_legacy_table();
}

Result<FilterWatch> FilterWatch::open() {
  FilterWatch watch;
  auto netlink = Netlink::open(NETLINK_NETFILTER, {NFNLGRP_NFTABLES});
  if (netlink.ok()) {
    watch.netlink_.emplace(std::move(netlink.value()));
  } else if (!is_absent(netlink.error().code)) {
    return netlink.error();
  }
  return watch;
}

void FilterWatch::drain() {
  constexpr int kDatagrams = 64;  // then others have their turn
  (void)netlink_->drain(kDatagrams, [](const nlmsghdr&) {});
}

}  // namespace toe::engine::net
