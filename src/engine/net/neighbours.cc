#include "engine/net/neighbours.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

namespace toe::engine::net {
namespace {

constexpr std::uint16_t kHasMac =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;

ndmsg& fill(Request& request, int ifindex, const IpAddr& address) {
  auto& header = request.header<ndmsg>();
  header.ndm_family = family_of(address);
  header.ndm_ifindex = ifindex;
  put_address(request.message(), NDA_DST, address);
  return header;
}

constexpr std::uint16_t kCreate = NLM_F_CREATE;

}  // namespace

std::optional<Neighbour> parse_neighbour(const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWNEIGH && message.nlmsg_type != RTM_DELNEIGH) return std::nullopt;
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(ndmsg))) return std::nullopt;
  const auto& header = *static_cast<const ndmsg*>(mnl_nlmsg_get_payload(&message));
  if (header.ndm_family != AF_INET && header.ndm_family != AF_INET6) return std::nullopt;
  const Attributes attributes(message, sizeof(ndmsg));
  const auto address = attributes.address(NDA_DST);
  if (!address) return std::nullopt;
  Neighbour neighbour;
  neighbour.ifindex = header.ndm_ifindex;
  neighbour.address = *address;
  neighbour.deleted = message.nlmsg_type == RTM_DELNEIGH;
  neighbour.failed = (header.ndm_state & NUD_FAILED) != 0;
  neighbour.stale = (header.ndm_state & NUD_STALE) != 0;
  neighbour.fixed = (header.ndm_state & (NUD_PERMANENT | NUD_NOARP)) != 0;
  neighbour.managed = (attributes.u32(NDA_FLAGS_EXT).value_or(0) & NTF_EXT_MANAGED) != 0;
  if (!neighbour.deleted && (header.ndm_state & kHasMac) != 0) {
    neighbour.mac = attributes.mac(NDA_LLADDR);
  }
  return neighbour;
}

Result<Neighbours> Neighbours::open() {
  auto netlink = Netlink::open(NETLINK_ROUTE);
  if (!netlink.ok()) return netlink.error();
  Neighbours neighbours(std::move(netlink.value()));
  neighbours.read_table_sizes();
  return neighbours;
}

int Neighbours::manage(const Key& key) {
  Request request(RTM_NEWNEIGH, kCreate);
  fill(request, key.first, key.second);
  mnl_attr_put_u32(&request.message(), NDA_FLAGS_EXT, NTF_EXT_MANAGED);
  return netlink_.exchange(request);
}

int Neighbours::use(const Key& key) {
  Request request(RTM_NEWNEIGH, kCreate);
  fill(request, key.first, key.second).ndm_flags = NTF_USE;
  return netlink_.exchange(request);
}

bool Neighbours::is_fixed(const Key& key) {
  const auto entry = get(key.first, key.second);
  return entry && entry->fixed;
}

int Neighbours::activate(const Key& key) {
  if (is_fixed(key)) return 0;
  if (can_manage_ == false) return use(key);
  const int code = manage(key);
  if (can_manage_ == true) return code;
  // An old kernel overlooks the flag: the entry is there, but not managed.
  const auto entry = get(key.first, key.second);
  if (code == 0 && !entry) return 0;  // nothing learnt
  can_manage_ = code == 0 && entry->managed;
  return *can_manage_ ? 0 : use(key);
}

bool Neighbours::has_room(const Counts& counts, bool known) {
  const std::uint32_t most = std::min(counts.table / 2, kMaxKept);
  return counts.kept < most && (known || counts.unknown < std::max(most / 4, 1u));
}

// In any namespace the kernel tells the sizes, which hold for all of them together.
void Neighbours::read_table_sizes() {
  Request request(RTM_GETNEIGHTBL, NLM_F_DUMP);
  request.header<ndtmsg>().ndtm_family = AF_UNSPEC;
  netlink_.exchange(request, [this](const nlmsghdr& message) {
    if (message.nlmsg_type != RTM_NEWNEIGHTBL) return;
    if (message.nlmsg_len < NLMSG_LENGTH(sizeof(ndtmsg))) return;
    const auto family = static_cast<const ndtmsg*>(mnl_nlmsg_get_payload(&message))->ndtm_family;
    const auto size = Attributes(message, sizeof(ndtmsg)).u32(NDTA_THRESH3);
    if (!size || (family != AF_INET && family != AF_INET6)) return;
    counts_[family == AF_INET ? 0 : 1].table = *size;
  });
}

Status Neighbours::keep(int ifindex, const IpAddr& address) {
  const Key key{ifindex, address};
  const auto found = kept_.find(key);
  if (found != kept_.end()) {
    found->second.holders++;
    return Done{};
  }
  const auto entry = get(ifindex, address);
  const bool known = entry && entry->mac;
  Counts& counts = counts_of(address);
  if (!has_room(counts, known)) read_table_sizes();  // the operator may have made them larger
  if (!has_room(counts, known)) return Error{ENOBUFS, "too many neighbours"};
  const int code = activate(key);
  if (code != 0) return Error{code, std::string("neighbour not resolved: ") + strerror(code)};
  kept_.emplace(key, Kept{1, known});
  ++counts.kept;
  if (!known) ++counts.unknown;
  return Done{};
}

void Neighbours::drop(int ifindex, const IpAddr& address) {
  const auto found = kept_.find({ifindex, address});
  if (found == kept_.end() || --found->second.holders != 0) return;
  const Key key = found->first;
  Counts& counts = counts_of(address);
  --counts.kept;
  if (!found->second.known) --counts.unknown;
  kept_.erase(found);
  // A use without the flag takes it away; the entry ages like any other.
  if (can_manage_ == true && !is_fixed(key)) use(key);
}

std::optional<Neighbour> Neighbours::get(int ifindex, const IpAddr& address) {
  Request request(RTM_GETNEIGH, 0);
  fill(request, ifindex, address);
  std::optional<Neighbour> found;
  netlink_.exchange(request, [&](const nlmsghdr& message) { found = parse_neighbour(message); });
  if (found) note_answer(*found);
  return found;
}

Status Neighbours::refresh(int ifindex, const IpAddr& address) {
  const Key key{ifindex, address};
  const auto entry = get(ifindex, address);
  if (entry && entry->fixed) return Done{};
  if (entry && entry->mac) {
    // Without an address: what the kernel has learnt since the look above stays. A message with the
    // managed flag would ignore the state, hence one message for each.
    Request probe(RTM_NEWNEIGH, NLM_F_REPLACE);
    fill(probe, ifindex, address).ndm_state = NUD_PROBE;
    if (netlink_.exchange(probe) == 0 && can_manage_ == false) return Done{};
  }
  const int code = activate(key);
  if (code != 0) return Error{code, std::string("neighbour not asked: ") + strerror(code)};
  return Done{};
}

void Neighbours::note_answer(const Neighbour& neighbour) {
  const auto found = kept_.find({neighbour.ifindex, neighbour.address});
  if (found == kept_.end() || found->second.known || !neighbour.mac) return;
  found->second.known = true;
  --counts_of(neighbour.address).unknown;
}

void Neighbours::on_event(const Neighbour& neighbour) {
  const Key key{neighbour.ifindex, neighbour.address};
  if (!kept_.contains(key)) return;
  note_answer(neighbour);
  if (neighbour.deleted) {
    activate(key);
  } else if (neighbour.stale && can_manage_ == false && !neighbour.fixed) {
    use(key);
  }
}

void Neighbours::on_carrier(int ifindex) {
  for (const auto& [key, kept] : kept_) {
    if (key.first == ifindex) activate(key);
  }
}

}  // namespace toe::engine::net
