#include "control/ports.h"

#include <algorithm>
#include <utility>

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

void PortPool::swap(std::uint32_t a, std::uint32_t b) {
  std::swap(ports_[a], ports_[b]);
  where_[ports_[a].port] = a;
  where_[ports_[b].port] = b;
}

std::uint16_t PortPool::use(std::uint32_t at) {
  if (at < unused_) {
    swap(at, --unused_);
    at = unused_;
  }
  ++ports_[at].uses;
  return ports_[at].port;
}

void PortPool::give_back(std::uint16_t port) {
  const std::uint32_t i = find(port);
  TOE_CHECK(i != kNil && ports_[i].uses > 0);
  if (--ports_[i].uses > 0) return;
  swap(i, unused_);
  if (unused_ < kHigh) {
    ++unused_;
    return;
  }
  release(unused_);
}

void PortPool::release(std::uint32_t at) {
  swap(at, size() - 1);
  const std::uint16_t port = ports_.back().port;
  where_.erase(port);
  ports_.pop_back();
  world_->release_port(local_, port);
}

void PortPool::shed() {
  while (unused_ > 0) release(--unused_);
}

void PortPool::refill() {
  const std::uint32_t least = dry_ ? 1 : kLow;
  const std::uint32_t enough = dry_ ? 1 : kBatch;
  if (unused_ + asked_ >= least) return;
  while (unused_ + asked_ < enough && size() + asked_ < kMaxPorts) {
    ++asked_;
    world_->want_port(local_);
  }
}

void PortPool::on_answer(std::uint16_t port) {
  if (asked_ > 0) --asked_;
  dry_ = port == 0;
  if (port == 0 || find(port) != kNil) return;
  where_[port] = size();
  ports_.push_back({port, 0});
  swap(unused_, size() - 1);
  ++unused_;
}

bool PortUses::Use::covers(const Use& exact) const {
  if (!local.is_any()) return local == exact.local;
  if (local.is_v4()) return exact.local.is_v4();
  return !exact.local.is_v4() || !v6only;
}

PortUses::Use& PortUses::use_of(const IpAddr& local, std::uint16_t port, bool v6only) {
  std::vector<Use>& uses = ports_[port];
  const bool only = v6only && local.is_any();
  const auto at = std::find_if(uses.begin(), uses.end(),
                               [&](const Use& u) { return u.local == local && u.v6only == only; });
  if (at != uses.end()) return *at;
  uses.push_back({.local = local, .v6only = only});
  return uses.back();
}

void PortUses::open_listener(const IpAddr& local, std::uint16_t port, bool v6only) {
  Use& use = use_of(local, port, v6only);
  ++use.listeners;
  use.listened = true;
}

void PortUses::close_listener(const IpAddr& local, std::uint16_t port, bool v6only) {
  Use& use = use_of(local, port, v6only);
  TOE_CHECK(use.listeners > 0);
  --use.listeners;
  settle(port);
}

void PortUses::add(const IpAddr& local, std::uint16_t port) {
  ++use_of(local, port, false).connections;
}

void PortUses::remove(const IpAddr& local, std::uint16_t port) {
  Use& use = use_of(local, port, false);
  TOE_CHECK(use.connections > 0);
  if (--use.connections == 0) settle(port);
}

// Releases what is not used: an exact address once nothing uses it, unless only a wildcard listener
// made it used; a wildcard once its listener and all connections that it could have had are gone.
void PortUses::settle(std::uint16_t port) {
  const auto entry = ports_.find(port);
  std::vector<Use>& uses = entry->second;
  const auto used = [&](const Use& u) {
    return u.listeners > 0 || std::any_of(uses.begin(), uses.end(), [&](const Use& other) {
             return other.connections > 0 && u.covers(other);
           });
  };
  const auto covered = [&](const Use& u) {
    return std::any_of(uses.begin(), uses.end(), [&](const Use& other) {
      return other.local.is_any() && other.listeners > 0 && other.covers(u);
    });
  };
  for (std::size_t i = 0; i < uses.size();) {
    const Use u = uses[i];
    if (used(u)) {
      ++i;
      continue;
    }
    const bool told = u.listened || !covered(u);
    uses[i] = uses.back();
    uses.pop_back();
    if (told) world_.release_port(u.local, port);
  }
  if (uses.empty()) ports_.erase(entry);
}

}  // namespace toe::control
