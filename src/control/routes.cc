#include "control/routes.h"

namespace toe::control {

RouteCache::RouteCache(World& world, flow::HashKey secret)
    : world_(world), by_key_(64, Hash{secret}) {}

std::uint32_t RouteCache::acquire(const RouteKey& key, std::uint32_t spared) {
  const auto link = [this](std::uint32_t i) -> Link& { return entries_[i].idle; };
  if (auto found = by_key_.find(key); found != by_key_.end()) {
    RouteEntry& e = entries_[found->second];
    if (e.users++ == 0) unlink(idle_, found->second, link);
    return found->second;
  }
  if (by_key_.size() + spared >= kMaxRoutes && !idle_.empty()) forget(idle_.head);
  if (by_key_.size() + spared >= kMaxRoutes) return kNil;
  std::uint32_t i = static_cast<std::uint32_t>(entries_.size());
  if (free_.empty()) {
    entries_.emplace_back();
  } else {
    i = free_.back();
    free_.pop_back();
    entries_[i] = {};
  }
  entries_[i].key = key;
  entries_[i].used = true;
  entries_[i].users = 1;
  by_key_.emplace(key, i);
  world_.want_route(key);
  return i;
}

std::uint32_t RouteCache::find(const RouteKey& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? kNil : found->second;
}

std::uint32_t RouteCache::share(std::uint32_t i) {
  TOE_CHECK(entries_[i].used && entries_[i].users > 0);
  ++entries_[i].users;
  return i;
}

void RouteCache::release(std::uint32_t i) {
  RouteEntry& e = entries_[i];
  TOE_CHECK(e.used && e.users > 0);
  if (--e.users > 0) return;
  push_back(idle_, i, [this](std::uint32_t n) -> Link& { return entries_[n].idle; });
  // A refusal may end at any time (the neighbour answers again): the next user asks anew.
  if (!e.known || e.route.kind == Route::Kind::kUnreachable) {
    forget(i);
  } else if (idle_.count > kMaxIdle) {
    forget(idle_.head);
  }
}

void RouteCache::forget_idle(std::uint32_t most) {
  for (; most > 0 && !idle_.empty(); --most) forget(idle_.head);
}

std::uint32_t RouteCache::update(const RouteKey& key, const Route& route, bool& changed) {
  changed = false;
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return kNil;
  RouteEntry& e = entries_[found->second];
  Route next = route;
  if (route.kind != Route::Kind::kDirect) {
    // Connections that have gone this way keep it while no other leads through DEV.
    next.mtu = e.route.mtu;
    next.source_mac = e.route.source_mac;
    next.next_hop_mac = e.route.next_hop_mac;
  }
  changed = e.known &&
            (e.route.kind != next.kind || e.route.mtu != next.mtu ||
             e.route.source_mac != next.source_mac || e.route.next_hop_mac != next.next_hop_mac);
  e.known = true;
  e.route = next;
  return found->second;
}

void RouteCache::lower_mtu(std::uint32_t i, std::uint16_t mtu, Time now) {
  RouteEntry& e = entries_[i];
  if (e.path_mtu != 0) forget_mtu(i);
  e.path_mtu = mtu;
  e.path_until = now + kPathMtuAge;
  push_back(lowered_, i, [this](std::uint32_t n) -> Link& { return entries_[n].lowered; });
}

std::uint32_t RouteCache::expire_mtu(Time now) {
  const std::uint32_t i = lowered_.head;
  if (i == kNil || entries_[i].path_until > now) return kNil;
  forget_mtu(i);
  return i;
}

Time RouteCache::next_expiry() const {
  return lowered_.empty() ? Time::never() : entries_[lowered_.head].path_until;
}

void RouteCache::forget_mtu(std::uint32_t i) {
  unlink(lowered_, i, [this](std::uint32_t n) -> Link& { return entries_[n].lowered; });
  entries_[i].path_mtu = 0;
}

void RouteCache::forget(std::uint32_t i) {
  if (entries_[i].path_mtu != 0) forget_mtu(i);
  unlink(idle_, i, [this](std::uint32_t n) -> Link& { return entries_[n].idle; });
  world_.forget_route(entries_[i].key);
  by_key_.erase(entries_[i].key);
  entries_[i].used = false;
  free_.push_back(i);
}

}  // namespace toe::control
