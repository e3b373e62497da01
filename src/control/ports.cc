#include "control/ports.h"

#include <algorithm>

#include "base/check.h"

namespace toe::control {

std::uint32_t PortPool::find(std::uint16_t port) const {
  const auto at = where_.find(port);
  return at == where_.end() ? kNil : at->second;
}

void PortPool::add_use(std::uint16_t port) {
  const std::uint32_t i = find(port);
  TOE_CHECK(i != kNil && ports_[i].uses > 0);
  ++ports_[i].uses;
}

void PortPool::give_back(std::uint16_t port) {
  const std::uint32_t i = find(port);
  TOE_CHECK(i != kNil && ports_[i].uses > 0);
  if (--ports_[i].uses > 0) return;
  if (++unused_ <= kHigh) return;
  --unused_;
  where_.erase(port);
  ports_[i] = ports_.back();
  ports_.pop_back();
  if (i < ports_.size()) where_[ports_[i].port] = i;
  world_->release_port(local_, port);
}

void PortPool::refill(bool starving) {
  const std::uint32_t at_hand = starving ? 0 : unused_;
  if (at_hand + asked_ >= kLow) return;
  for (std::uint32_t n = at_hand + asked_; n < kBatch && size() + asked_ < kMaxPorts; ++n) {
    ++asked_;
    world_->want_port(local_);
  }
}

void PortPool::on_answer(std::uint16_t port) {
  if (asked_ > 0) --asked_;
  if (port == 0 || find(port) != kNil) return;
  where_[port] = size();
  ports_.push_back({port, 0});
  ++unused_;
}

PortUses::Use& PortUses::use_of(const IpAddr& local, std::uint16_t port) {
  std::vector<Use>& uses = ports_[port];
  const auto at =
      std::find_if(uses.begin(), uses.end(), [&](const Use& u) { return u.local == local; });
  if (at != uses.end()) return *at;
  uses.push_back({local, 0, 0});
  return uses.back();
}

void PortUses::open_listener(const IpAddr& local, std::uint16_t port) {
  ++use_of(local, port).listeners;
}

void PortUses::close_listener(const IpAddr& local, std::uint16_t port) {
  Use& use = use_of(local, port);
  TOE_CHECK(use.listeners > 0);
  --use.listeners;
  settle(port);
}

void PortUses::add(const IpAddr& local, std::uint16_t port) { ++use_of(local, port).connections; }

void PortUses::remove(const IpAddr& local, std::uint16_t port) {
  Use& use = use_of(local, port);
  TOE_CHECK(use.connections > 0);
  if (--use.connections == 0) settle(port);
}

// Releases what is not used: an exact address once nothing uses it, unless a wildcard listener
// covers it; a wildcard once its listener and all connections of the port have gone.
void PortUses::settle(std::uint16_t port) {
  const auto entry = ports_.find(port);
  std::vector<Use>& uses = entry->second;
  bool covered = false;
  bool connections = false;
  for (const Use& u : uses) {
    covered |= u.local.is_any() && u.listeners > 0;
    connections |= u.connections > 0;
  }
  for (std::size_t i = 0; i < uses.size();) {
    const Use u = uses[i];
    const bool used = u.listeners > 0 || u.connections > 0 || (u.local.is_any() && connections);
    if (used) {
      ++i;
      continue;
    }
    uses[i] = uses.back();
    uses.pop_back();
    if (u.local.is_any() || !covered) world_.release_port(u.local, port);
  }
  if (uses.empty()) ports_.erase(entry);
}

}  // namespace toe::control
