#include "engine/listeners.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "engine/log.h"
#include "engine/net/sock_diag.h"

namespace toe::engine {
namespace {

/// A port that the kernel chose is given up when listening ends; binds it again at once.
void keep_bound(int socket, const IpAddr& local, std::uint16_t port, bool v4) {
  sockaddr_in6 name{};
  socklen_t length = sizeof name;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&name), &length) != 0) return;
  if (name.sin6_port != 0) return;  // the same place in sockaddr_in
  if (v4) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    std::memcpy(&four.sin_addr, local.v4_bytes(), 4);
    std::memcpy(&name, &four, sizeof four);
    length = sizeof four;
  } else {
    name = {};
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(port);
    std::memcpy(&name.sin6_addr, local.bytes.data(), 16);
    length = sizeof name;
  }
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&name), length) != 0) {
    spdlog::warn("port {} was taken by another socket: {}", port, std::strerror(errno));
  }
}

}  // namespace

Listeners::Listeners(port::Steering& steering, std::span<const IpAddr> local)
    : steering_(steering) {
  for (const IpAddr& address : local) add_address(address);
}

bool Listeners::covers(const Entry& entry, const IpAddr& address) {
  if (!entry.local.is_any()) return entry.local == address;
  if (entry.local.is_v4()) return address.is_v4();
  return !address.is_v4() || !entry.v6_only;
}

bool Listeners::served(const IpAddr& address, std::uint16_t port) const {
  return held_.contains({address, port}) ||
         std::any_of(entries_.begin(), entries_.end(), [&](const auto& element) {
           const Entry& entry = element.second;
           return entry.marked && entry.port == port && covers(entry, address);
         });
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
}

void Listeners::answered(std::uint64_t cookie, bool accepted) {
  const auto found = entries_.find(cookie);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  if (entry.offers > 0) --entry.offers;
  entry.accepted |= accepted;
  if (!entry.accepted && entry.offers == 0) entries_.erase(found);
}

int Listeners::mark(std::uint64_t cookie) {
  const auto found = entries_.find(cookie);
  if (found == entries_.end()) return ESTALE;
  Entry& entry = found->second;
  // First only its SYNs are taken, and wait: then no connection can be begun at the kernel between
  // the listing and the moment when everything else is taken too.
  for (const IpAddr& address : local_) {
    const auto index = steering_.address_index(address);
    if (index && covers(entry, address)) steering_.mark(*index, entry.port, port::kSynOnly);
  }
  Result<std::vector<port::FourTuple>> kernel_has = net::kernel_connections(entry.port);
  int error = kernel_has.ok() ? 0 : kernel_has.error().code;
  for (const IpAddr& address : local_) {
    if (!covers(entry, address)) continue;
    if (error == 0) error = own(entry, address, kernel_has.value());
    const auto index = steering_.address_index(address);
    if (index) steering_.unmark(*index, entry.port, port::kSynOnly);
  }
  entry.marked = error == 0;
  return error;
}

std::uint16_t Listeners::port_of(std::uint64_t cookie) const {
  const auto found = entries_.find(cookie);
  return found == entries_.end() ? std::uint16_t{0} : found->second.port;
}

int Listeners::own(const Entry& entry, const IpAddr& address,
                   const std::vector<port::FourTuple>& kernel_has) {
  const auto index = steering_.address_index(address);
  if (!index) return 0;
  if ((steering_.state(*index, entry.port) & port::kOwned) != 0) return 0;
  steering_.clear_exceptions(address, entry.port);
  bool any = false;
  for (const port::FourTuple& tuple : kernel_has) {
    if (tuple.local != address) continue;
    const Status status = steering_.add_exception(tuple, port::Keeper::kKernel);
    if (!status.ok()) return status.error().code;
    kernels_[entry.port].push_back(tuple);
    any = true;
  }
  if (any) steering_.mark(*index, entry.port, port::kExcept);
  steering_.mark(*index, entry.port, port::kOwned);
  if (!any) steering_.unmark(*index, entry.port, port::kExcept);
  return 0;
}

void Listeners::disown(const IpAddr& address, std::uint16_t port) {
  const auto index = steering_.address_index(address);
  if (!index) return;
  steering_.unmark(*index, port, port::kOwned | port::kSynOnly | port::kExcept);
  steering_.clear_exceptions(address, port);
  const auto kept = kernels_.find(port);
  if (kept == kernels_.end()) return;
  std::erase_if(kept->second, [&](const port::FourTuple& t) { return t.local == address; });
}

void Listeners::tidy() {
  for (auto port = kernels_.begin(); port != kernels_.end();) {
    Result<std::vector<port::FourTuple>> now = net::kernel_connections(port->first);
    if (!now.ok()) return;
    std::sort(now.value().begin(), now.value().end());
    std::erase_if(port->second, [&](const port::FourTuple& tuple) {
      if (std::binary_search(now.value().begin(), now.value().end(), tuple)) return false;
      steering_.remove_exception(tuple);
      return true;
    });
    port = port->second.empty() ? kernels_.erase(port) : std::next(port);
  }
}

std::pair<IpAddr, std::uint16_t> Listeners::close(std::uint64_t cookie) {
  const auto found = entries_.find(cookie);
  if (found == entries_.end()) return {};
  Entry entry = std::move(found->second);
  entries_.erase(found);
  entry.marked = false;
  ::shutdown(entry.socket.get(), SHUT_RD);
  keep_bound(entry.socket.get(), entry.local, entry.port, entry.v4);
  const std::pair<IpAddr, std::uint16_t> bound{entry.local, entry.port};
  const bool bound_already = std::any_of(closed_.begin(), closed_.end(), [&](const Entry& other) {
    return other.local == entry.local && other.port == entry.port && other.v6_only == entry.v6_only;
  });
  if (!bound_already) closed_.push_back(std::move(entry));
  return bound;
}

void Listeners::drain(const IpAddr& local, std::uint16_t port,
                      std::span<const port::FourTuple> ours) {
  for (const IpAddr& address : local_) {
    const auto index = steering_.address_index(address);
    const bool closed = std::any_of(closed_.begin(), closed_.end(), [&](const Entry& entry) {
      return entry.local == local && entry.port == port && covers(entry, address);
    });
    if (!index || !closed || served(address, port)) continue;
    bool complete = true;
    for (const port::FourTuple& tuple : ours) {
      if (tuple.local != address || tuple.local_port != port) continue;
      complete &= steering_.add_exception(tuple, port::Keeper::kEngine).ok();
    }
    if (!complete) continue;  // no room: the port stays ours until its last connection ends
    steering_.mark(*index, port, port::kExcept);
    steering_.unmark(*index, port, port::kOwned);
  }
}

void Listeners::release(const IpAddr& local, std::uint16_t port) {
  if (held_.erase({local, port}) != 0) {
    if (!served(local, port)) disown(local, port);
    return;
  }
  for (const IpAddr& address : local_) {
    const bool named =
        local.is_any() ? local.is_v4() == address.is_v4() || !local.is_v4() : local == address;
    if (named && !served(address, port)) disown(address, port);
  }
  std::erase_if(closed_,
                [&](const Entry& entry) { return entry.port == port && entry.local == local; });
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

void Listeners::add_address(const IpAddr& address) {
  if (std::find(local_.begin(), local_.end(), address) != local_.end()) return;
  const auto index = steering_.add_local_address(address);
  if (!index.ok()) {
    spdlog::warn("address not served: {}", index.error().text);
    return;
  }
  local_.push_back(address);
  for (auto& [cookie, entry] : entries_) {
    if (entry.marked && covers(entry, address)) (void)mark(cookie);
  }
}

void Listeners::remove_address(const IpAddr& address) {
  if (std::erase(local_, address) == 0) return;
  steering_.remove_local_address(address);
}

}  // namespace toe::engine
