#include "engine/listeners.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <optional>
#include <set>

#include "engine/log.h"

namespace toe::engine {
namespace {

/// A port that the kernel chose is given up when listening ends; binds it again at once. A socket
/// that has its port still is not bound twice; getsockname() names a port that was given up, too.
void keep_bound(int socket, const IpAddr& local, std::uint16_t port, bool v4) {
  sockaddr_in6 name{};
  socklen_t length = sizeof name;
  if (v4) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    std::memcpy(&four.sin_addr, local.v4_bytes(), 4);
    std::memcpy(&name, &four, sizeof four);
    length = sizeof four;
  } else {
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(port);
    std::memcpy(&name.sin6_addr, local.bytes.data(), 16);
    length = sizeof name;
  }
  const int result = ::bind(socket, reinterpret_cast<const sockaddr*>(&name), length);
  if (result != 0 && errno == EADDRINUSE) {
    spdlog::warn("port {} was taken by another socket: {}", port, std::strerror(errno));
  }
}

}  // namespace

Listeners::Listeners(port::Steering& steering, std::span<const IpAddr> local,
                     Listing kernel_connections)
    : steering_(steering), kernel_connections_(std::move(kernel_connections)) {
  for (const IpAddr& address : local) add_address(address);
}

// How well a socket bound to `local` fits a SYN to `address`, as Linux ranks it; 0: not at all.
int Listeners::rank(const IpAddr& local, bool v6_only, const IpAddr& address) {
  if (!local.is_any()) return local == address ? 3 : 0;
  if (local.is_v4() == address.is_v4()) return 2;
  return local.is_v4() || v6_only ? 0 : 1;
}

bool Listeners::serves(const Entry& entry, const IpAddr& address) {
  return covers(entry, address) &&
         std::find(entry.left.begin(), entry.left.end(), address) == entry.left.end();
}

bool Listeners::served(const IpAddr& address, std::uint16_t port) const {
  return held_.contains({address, port}) ||
         std::any_of(entries_.begin(), entries_.end(), [&](const auto& element) {
           const Entry& entry = element.second;
           return entry.marked && entry.port == port && serves(entry, address);
         });
}

bool Listeners::owned(const IpAddr& address, std::uint16_t port) const {
  const auto index = steering_.address_index(address);
  return index && (steering_.state(*index, port) & port::kOwned) != 0;
}

void Listeners::offer(const net::ListenerProof& proof, UniqueFd socket) {
  Entry& entry = entries_[proof.cookie];
  ++entry.offers;
  if (entry.socket.valid()) return;
  entry.socket = std::move(socket);
  entry.local = proof.address;
  entry.port = proof.port;
  entry.v4 = proof.family == AF_INET;
  entry.v6_only = proof.v6_only;
  entry.reuse_port = proof.reuse_port;
}

void Listeners::answered(std::uint64_t cookie, bool accepted) {
  const auto found = entries_.find(cookie);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  if (entry.offers > 0) --entry.offers;
  entry.accepted |= accepted;
  if (!entry.accepted && entry.offers == 0) entries_.erase(found);
}

void Listeners::leave_to_others(Entry& entry,
                                const std::vector<net::KernelListener>& listeners) const {
  entry.left.clear();
  const int device = static_cast<int>(steering_.device().ifindex);
  for (const IpAddr& address : local_) {
    const int ours = rank(entry.local, entry.v6_only, address);
    const bool other =
        std::any_of(listeners.begin(), listeners.end(), [&](const net::KernelListener& listener) {
          return !entries_.contains(listener.cookie) &&
                 (listener.ifindex == 0 || listener.ifindex == device) &&
                 rank(listener.local, listener.v6_only, address) >= ours;
        });
    if (ours > 0 && other) entry.left.push_back(address);
  }
}

// Which addresses the entries of the port may have.
int Listeners::look_around(std::uint16_t port) {
  Result<std::vector<net::KernelListener>> listeners = net::kernel_listeners(port);
  if (!listeners.ok()) return listeners.error().code;
  for (auto& [cookie, entry] : entries_) {
    if (entry.port == port) leave_to_others(entry, listeners.value());
  }
  return 0;
}

bool Listeners::claimed(const IpAddr& address, std::uint16_t port) const {
  const auto index = steering_.address_index(address);
  return index && (steering_.state(*index, port) & (port::kOwned | port::kSynOnly)) != 0;
}

int Listeners::take(Entry& entry) {
  std::vector<IpAddr> wanted;
  for (const IpAddr& address : local_) {
    if (serves(entry, address) && !owned(address, entry.port)) wanted.push_back(address);
  }
  return wanted.empty() ? 0 : take_all(wanted, entry.port);
}

// First only SYNs are taken: then no connection can be begun at the kernel while what it has is
// listed. One that it has answered by a SYN cookie it does not have yet: such may come until the
// port is owned, so a second list follows. The SYNs wait at the engine for the listener to be
// marked. One that is marked already would answer, so for it they are nobody's meanwhile.
int Listeners::take_all(const std::vector<IpAddr>& addresses, std::uint16_t port) {
  const auto for_all = [&](void (port::Steering::*change)(std::uint32_t, std::uint16_t, unsigned),
                           unsigned bits) {
    for (const IpAddr& address : addresses) {
      (steering_.*change)(*steering_.address_index(address), port, bits);
    }
  };
  const unsigned taking =
      would_answer(addresses, port) ? port::kSynOnly | port::kChanging : unsigned{port::kSynOnly};
  for_all(&port::Steering::mark, taking);
  int error = leave_to_kernel(port);
  if (error == 0) {
    for_all(&port::Steering::mark, port::kOwned);
    error = leave_to_kernel(port);
  }
  for_all(&port::Steering::unmark, error == 0 ? taking : taking | port::kOwned);
  if (error != 0) return error;
  for (const IpAddr& address : addresses) end_drain(address, port);
  return 0;
}

bool Listeners::would_answer(const std::vector<IpAddr>& addresses, std::uint16_t port) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const auto& element) {
    const Entry& entry = element.second;
    return entry.marked && entry.port == port &&
           std::any_of(addresses.begin(), addresses.end(),
                       [&](const IpAddr& address) { return covers(entry, address); });
  });
}

int Listeners::leave_to_kernel(std::uint16_t port) {
  Result<std::vector<port::FourTuple>> now = kernel_connections_(port);
  return now.ok() ? except(now.value(), port) : now.error().code;
}

// An exception says itself whose its connection is. So those of the kernel come before the port is
// owned, those of a drained port go afterwards, and no segment goes to the wrong side.
int Listeners::except(const std::vector<port::FourTuple>& tuples, std::uint16_t port) {
  for (const port::FourTuple& tuple : tuples) {
    if (!claimed(tuple.local, port) || kernels_[port].contains(tuple)) continue;
    const Status status = steering_.add_exception(tuple, port::Keeper::kKernel);
    if (!status.ok()) return status.error().code;
    kernels_[port].insert(tuple);
    steering_.mark(*steering_.address_index(tuple.local), port, port::kExcept);
  }
  return 0;
}

// The port is owned again: connections of the engine need no exceptions.
void Listeners::end_drain(const IpAddr& address, std::uint16_t port) {
  const auto is_here = [&](const port::FourTuple& tuple) { return tuple.local == address; };
  if (const auto drained = drained_.find(port); drained != drained_.end()) {
    steering_.clear_exceptions(address, port, port::Keeper::kEngine);
    std::erase_if(drained->second, is_here);
    if (drained->second.empty()) drained_.erase(drained);
  }
  const auto kept = kernels_.find(port);
  if (kept != kernels_.end() && std::any_of(kept->second.begin(), kept->second.end(), is_here)) {
    return;
  }
  steering_.unmark(*steering_.address_index(address), port, port::kExcept);
}

int Listeners::mark(std::uint64_t cookie) {
  const auto found = entries_.find(cookie);
  if (found == entries_.end()) return ESTALE;
  Entry& entry = found->second;
  int error = look_around(entry.port);
  if (error == 0) error = take(entry);
  entry.marked = error == 0;
  // Another of its group may have waited for this one to be shown.
  for (auto& [other, member] : entries_) {
    if (member.marked && member.port == entry.port && other != cookie) (void)take(member);
  }
  return error;
}

std::vector<std::uint16_t> Listeners::follow_groups() {
  std::set<std::uint16_t> shared;
  for (const auto& [cookie, entry] : entries_) {
    if (entry.marked && entry.reuse_port) shared.insert(entry.port);
  }
  std::vector<std::uint16_t> lost;
  for (const std::uint16_t port : shared) {
    if (look_around(port) != 0) continue;
    for (auto& [cookie, entry] : entries_) {
      if (entry.marked && entry.port == port) (void)take(entry);
    }
    const bool taken = std::any_of(local_.begin(), local_.end(), [&](const IpAddr& address) {
      return owned(address, port) && !served(address, port);
    });
    if (taken) lost.push_back(port);
  }
  return lost;
}

std::uint16_t Listeners::port_of(std::uint64_t cookie) const {
  const auto found = entries_.find(cookie);
  return found == entries_.end() ? std::uint16_t{0} : found->second.port;
}

void Listeners::disown(const IpAddr& address, std::uint16_t port) {
  const auto index = steering_.address_index(address);
  if (!index) return;
  steering_.unmark(*index, port, port::kOwned | port::kSynOnly | port::kExcept);
  forget(address, port);
}

void Listeners::tidy() {
  std::vector<std::uint16_t> ports;
  for (const auto& [port, tuples] : kernels_) ports.push_back(port);
  for (const std::uint16_t port : ports) {
    if (!tidy_kernels(port)) return;
  }
}

// A peer may use a 4-tuple again while it is being forgotten, and its SYN reach the kernel by the
// exception: those come back. All else that the kernel has by now came to it another way.
bool Listeners::tidy_kernels(std::uint16_t port) {
  Result<std::vector<port::FourTuple>> now = sorted_connections(port);
  if (!now.ok()) return false;
  std::set<port::FourTuple>& kept = kernels_[port];
  std::vector<port::FourTuple> gone, back;
  std::set_difference(kept.begin(), kept.end(), now.value().begin(), now.value().end(),
                      std::back_inserter(gone));
  for (const port::FourTuple& tuple : gone) {
    steering_.remove_exception(tuple);
    kept.erase(tuple);
  }
  if (!gone.empty()) {
    now = sorted_connections(port);
    const std::vector<port::FourTuple>& there = now.ok() ? now.value() : gone;
    std::set_intersection(gone.begin(), gone.end(), there.begin(), there.end(),
                          std::back_inserter(back));
    (void)except(back, port);  // there is room: these were just taken out
  }
  if (kept.empty()) kernels_.erase(port);
  return now.ok();
}

Result<std::vector<port::FourTuple>> Listeners::sorted_connections(std::uint16_t port) const {
  Result<std::vector<port::FourTuple>> now = kernel_connections_(port);
  if (now.ok()) std::sort(now.value().begin(), now.value().end());
  return now;
}

std::uint16_t Listeners::close(std::uint64_t cookie) {
  const auto found = entries_.find(cookie);
  if (found == entries_.end()) return 0;
  if (found->second.offers > 0) {  // another process that has the socket is about to be let in
    found->second.accepted = found->second.marked = false;
    return found->second.port;
  }
  Entry entry = std::move(found->second);
  entries_.erase(found);
  entry.marked = false;
  ::shutdown(entry.socket.get(), SHUT_RD);
  keep_bound(entry.socket.get(), entry.local, entry.port, entry.v4);
  const std::uint16_t port = entry.port;
  const bool bound_already = std::any_of(closed_.begin(), closed_.end(), [&](const Entry& other) {
    return other.local == entry.local && other.port == entry.port && other.v6_only == entry.v6_only;
  });
  if (!bound_already) closed_.push_back(std::move(entry));
  return port;
}

void Listeners::drain(std::uint16_t port, std::span<const port::FourTuple> ours) {
  for (const IpAddr& address : local_) {
    const auto index = steering_.address_index(address);
    if (!index || served(address, port)) continue;
    std::vector<port::FourTuple> kept;
    bool complete = true;
    for (const port::FourTuple& tuple : ours) {
      if (tuple.local != address || tuple.local_port != port) continue;
      complete &= steering_.add_exception(tuple, port::Keeper::kEngine).ok();
      kept.push_back(tuple);
    }
    if (!complete) continue;  // no room: the port stays ours until its last connection ends
    if (kept.empty()) {
      steering_.unmark(*index, port, port::kOwned);
      continue;
    }
    steering_.mark(*index, port, port::kExcept);
    steering_.unmark(*index, port, port::kOwned);
    std::vector<port::FourTuple>& all = drained_[port];
    all.insert(all.end(), kept.begin(), kept.end());
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
  }
}

std::vector<std::uint16_t> Listeners::draining() const {
  std::vector<std::uint16_t> ports;
  for (const auto& [port, tuples] : drained_) ports.push_back(port);
  return ports;
}

void Listeners::tidy_drained(std::uint16_t port, std::span<const port::FourTuple> ours) {
  const auto drained = drained_.find(port);
  if (drained == drained_.end()) return;
  std::vector<port::FourTuple> living(ours.begin(), ours.end());
  std::sort(living.begin(), living.end());
  std::erase_if(drained->second, [&](const port::FourTuple& tuple) {
    if (std::binary_search(living.begin(), living.end(), tuple)) return false;
    steering_.remove_exception(tuple);
    return true;
  });
  if (drained->second.empty()) drained_.erase(drained);
}

void Listeners::release(const IpAddr& local, std::uint16_t port) {
  if (held_.erase({local, port}) != 0) {
    if (!served(local, port)) disown(local, port);
    return;
  }
  const auto is_released = [&](const Entry& entry) {
    return entry.port == port && entry.local == local;
  };
  for (const IpAddr& address : local_) {
    const bool named = std::any_of(closed_.begin(), closed_.end(), [&](const Entry& entry) {
      return is_released(entry) && covers(entry, address);
    });
    if ((named || local == address) && !served(address, port)) disown(address, port);
  }
  std::erase_if(closed_, is_released);
}

Result<std::uint16_t> Listeners::hold(const IpAddr& local) {
  const auto index = steering_.address_index(local);
  if (!index) return Error{EADDRNOTAVAIL, "the address is not one of the device"};
  Result<net::HeldPort> held = net::hold_port(local);
  if (!held.ok()) return held.error();
  const std::uint16_t port = held.value().port;
  steering_.mark(*index, port, port::kOwned);
  held_[{local, port}] = std::move(held.value());
  return port;
}

bool Listeners::add_address(const IpAddr& address) {
  if (std::find(present_.begin(), present_.end(), address) != present_.end()) return false;
  auto index = steering_.add_local_address(address);
  if (!index.ok()) {
    spdlog::warn("address not served: {}", index.error().text);
    return false;
  }
  present_.push_back(address);
  std::erase(local_, address);
  std::erase_if(local_, [&](const IpAddr& known) {
    if (steering_.address_index(known)) return false;
    forget(known, std::nullopt);  // it has gone, and its place was needed
    return true;
  });
  local_.push_back(address);
  for (const auto& [name, port] : held_) {
    if (name.first == address) steering_.mark(index.value(), name.second, port::kOwned);
  }
  for (auto& [cookie, entry] : entries_) {
    if (entry.marked && covers(entry, address)) (void)mark(cookie);
  }
  return true;
}

bool Listeners::remove_address(const IpAddr& address) {
  if (std::erase(present_, address) == 0) return false;
  steering_.remove_local_address(address);
  return true;
}

void Listeners::forget(const IpAddr& address, std::optional<std::uint16_t> port) {
  steering_.clear_exceptions(address, port);
  const auto erase_from = [&](auto& exceptions) {
    for (auto& [number, tuples] : exceptions) {
      if (port && number != *port) continue;
      std::erase_if(tuples, [&](const auto& tuple) { return tuple.local == address; });
    }
    std::erase_if(exceptions, [](const auto& element) { return element.second.empty(); });
  };
  erase_from(kernels_);
  erase_from(drained_);
}

}  // namespace toe::engine
