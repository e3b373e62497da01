#include "engine/destinations.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace toe::engine {
namespace {

using Kind = control::Route::Kind;

/// IPv6 and TCP, without options.
constexpr std::uint32_t kHeaders = 60;

control::Route refusal(Kind kind, int error = 0) {
  control::Route route;
  route.kind = kind;
  route.error = error;
  return route;
}

bool same(const control::Route& a, const control::Route& b) {
  return a.kind == b.kind && a.mtu == b.mtu && a.advmss == b.advmss && a.error == b.error &&
         a.source_mac == b.source_mac && a.next_hop_mac == b.next_hop_mac && a.source == b.source &&
         std::strcmp(a.congestion, b.congestion) == 0;
}

/// Where the route leads, before the next hop is looked at.
Kind kind_of(const net::Route& route, int ifindex) {
  if (route.kind == net::Route::Kind::kLocal) return Kind::kOwnAddress;
  // Broadcast and the like are left to the kernel, which has its own answers.
  if (route.kind == net::Route::Kind::kOther || route.oif != ifindex) return Kind::kOtherDevice;
  return Kind::kDirect;
}

}  // namespace

Destinations::Destinations(net::RouteLookup lookup, net::Neighbours neighbours,
                           const port::Device& device, std::uint32_t most_mtu, Answer answer)
    : lookup_(std::move(lookup)),
      neighbours_(std::move(neighbours)),
      device_(device),
      most_mtu_(most_mtu),
      answer_(std::move(answer)) {}

void Destinations::want(const Key& key) {
  if (entries_.size() >= kMaxDestinations && !entries_.contains(key)) {
    answer_(key, refusal(Kind::kUnreachable, ENOBUFS));
    return;
  }
  Entry& entry = entries_[key];
  entry.answered = false;
  look_up(key, entry);
}

void Destinations::forget(const Key& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  let_go(key, found->second);
  entries_.erase(found);
}

void Destinations::confirm(const Key& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end() || !found->second.kept) return;
  (void)neighbours_.refresh(device_.ifindex, found->second.next_hop);
}

// As Linux for a socket without an address: the first answer brings the source, the second is by
// what rules say about that source.
Result<net::Route> Destinations::find(const Key& key) {
  net::RouteQuery query{key.path.remote, key.path.local, key.path.local_port, key.path.remote_port,
                        key.uid};
  Result<net::Route> found = lookup_.find(query);
  const bool again = found.ok() && query.local.is_any() && !found.value().source.is_any() &&
                     found.value().kind == net::Route::Kind::kUnicast;
  if (!again) return found;
  query.local = found.value().source;
  return lookup_.find(query);
}

void Destinations::look_up(const Key& key, Entry& entry) {
  Result<net::Route> found = find(key);
  const Kind kind = found.ok() ? kind_of(found.value(), device_.ifindex) : Kind::kUnreachable;
  if (kind != Kind::kDirect) {
    let_go(key, entry);
    answer(key, entry, refusal(kind, found.ok() ? 0 : found.error().code));
    return;
  }
  const net::Route& route = found.value();
  entry.mtu = route.mtu == 0 ? device_.mtu : std::min(route.mtu, device_.mtu);
  entry.advmss = std::min(route.advmss, most_mtu_ - kHeaders);
  entry.source = route.source;
  entry.congestion = route.congestion;
  follow(key, entry, route.next_hop);
  if (!entry.kept) {
    answer(key, entry, refusal(Kind::kUnreachable, ENOBUFS));
    return;
  }
  const auto neighbour = neighbours_.get(device_.ifindex, entry.next_hop);
  // Gone: the event that said so was lost, or the kernel's table is full for the moment.
  if (!neighbour || (neighbour->failed && !neighbour->mac)) {
    (void)neighbours_.refresh(device_.ifindex, entry.next_hop);
    return;  // an event will tell
  }
  on_hop(key, entry, *neighbour);
}

void Destinations::follow(const Key& key, Entry& entry, const IpAddr& next_hop) {
  if (entry.kept && entry.next_hop == next_hop) return;
  let_go(key, entry);
  entry.next_hop = next_hop;
  entry.kept = neighbours_.keep(device_.ifindex, next_hop).ok();
  if (entry.kept) by_hop_[next_hop].insert(key);
}

void Destinations::let_go(const Key& key, Entry& entry) {
  if (!entry.kept) return;
  entry.kept = false;
  neighbours_.drop(device_.ifindex, entry.next_hop);
  const auto hop = by_hop_.find(entry.next_hop);
  if (hop == by_hop_.end()) return;
  hop->second.erase(key);
  if (hop->second.empty()) by_hop_.erase(hop);
}

bool Destinations::answer(const Key& key, Entry& entry, const control::Route& route) {
  if (entry.answered && same(entry.last, route)) return false;
  entry.last = route;
  answer_(key, route);
  return std::exchange(entry.answered, true);
}

control::Route Destinations::direct(const Entry& entry, const MacAddr& mac) const {
  control::Route route;
  route.kind = Kind::kDirect;
  route.mtu = static_cast<std::uint16_t>(entry.mtu);
  route.advmss = static_cast<std::uint16_t>(entry.advmss);
  route.source_mac = device_.mac;
  route.next_hop_mac = mac;
  route.source = entry.source;
  // A name that only the kernel has leaves the choice to the engine's default.
  if (shm::is_congestion_name(entry.congestion)) {
    entry.congestion.copy(route.congestion, sizeof route.congestion - 1);
  }
  return route;
}

bool Destinations::on_hop(const Key& key, Entry& entry, const net::Neighbour& neighbour) {
  if (neighbour.mac && !neighbour.failed && !neighbour.deleted) {
    return answer(key, entry, direct(entry, *neighbour.mac));
  }
  if (neighbour.failed && entry.last.kind != Kind::kDirect) {
    return answer(key, entry, refusal(Kind::kUnreachable, EHOSTUNREACH));
  }
  // A known next hop that stops answering keeps its address: connections time out as on Linux.
  return false;
}

void Destinations::on_neighbour(const net::Neighbour& neighbour) {
  neighbours_.on_event(neighbour);
  if (neighbour.ifindex != device_.ifindex) return;
  if (by_hop_.contains(neighbour.address)) changed_hops_[neighbour.address] = neighbour;
}

// The event may have waited while the kernel has learnt more.
void Destinations::tell_hop(const net::Neighbour& event) {
  const auto hop = by_hop_.find(event.address);
  if (hop == by_hop_.end()) return;
  const auto now = neighbours_.get(device_.ifindex, event.address);
  const net::Neighbour& last = now && (now->mac || now->failed) ? *now : event;
  for (const Key& key : hop->second) {
    if (on_hop(key, entries_.at(key), last)) ++round_;
  }
}

void Destinations::on_link(const net::LinkEvent& link) {
  if (link.ifindex != device_.ifindex || link.removed) return;
  const bool came_back = link.carrier && !device_.is_up;
  const std::uint32_t mtu = std::min(link.mtu, most_mtu_);
  const bool changed = link.mac != device_.mac || mtu != device_.mtu;
  device_.mac = link.mac;
  device_.mtu = mtu;
  device_.is_up = link.carrier;
  if (came_back) neighbours_.on_carrier(device_.ifindex);
  if (!came_back && !changed) return;
  for (auto& [key, entry] : entries_) look_up(key, entry);
}

void Destinations::on_change(Time now) {
  if (look_again_ == Time::never()) look_again_ = now + kSettle;
}

Time Destinations::next_deadline() const {
  if (look_from_) return Time{};
  if (!changed_hops_.empty()) return rests_until_;
  return look_again_ == Time::never() ? look_again_ : std::max(look_again_, rests_until_);
}

void Destinations::poll(Time now) {
  if (now < next_deadline()) return;
  if (!look_from_) begin_round(now);
  if (look_from_) look_at_some();
  if (look_from_ || round_ == 0) return;
  rests_until_ = now + kSettle + kRest * round_;
  round_ = 0;
}

void Destinations::begin_round(Time now) {
  for (const auto& [address, event] : std::exchange(changed_hops_, {})) tell_hop(event);
  if (now < look_again_) return;
  look_again_ = Time::never();
  if (!entries_.empty()) look_from_ = entries_.begin()->first;
}

void Destinations::look_at_some() {
  auto at = entries_.lower_bound(*look_from_);
  for (std::size_t i = 0; i < kLooksPerTurn && at != entries_.end(); ++i, ++at, ++round_) {
    look_up(at->first, at->second);
  }
  look_from_.reset();
  if (at != entries_.end()) look_from_ = at->first;
}

}  // namespace toe::engine
