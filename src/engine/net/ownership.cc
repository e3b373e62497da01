#include "engine/net/ownership.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

#ifndef SO_BINDTOIFINDEX  // Linux 5.0
#define SO_BINDTOIFINDEX 62
#endif
#ifndef SO_NETNS_COOKIE  // Linux 5.14
#define SO_NETNS_COOKIE 71
#endif

namespace toe::engine::net {
namespace {

template <typename T>
std::optional<T> option(int fd, int level, int name) {
  T value{};
  socklen_t length = sizeof(value);
  if (::getsockopt(fd, level, name, &value, &length) != 0 || length != sizeof(value)) {
    return std::nullopt;
  }
  return value;
}

bool flag(int fd, int level, int name) { return option<int>(fd, level, name).value_or(0) != 0; }

Error refusal(int code, const char* text) { return {code, text}; }

union AnyAddress {
  sockaddr generic;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

socklen_t to_socket_address(const IpAddr& address, std::uint16_t port, AnyAddress& out) {
  std::memset(&out, 0, sizeof(out));
  if (address.is_v4()) {
    out.v4.sin_family = AF_INET;
    out.v4.sin_port = htons(port);
    std::memcpy(&out.v4.sin_addr, address.v4_bytes(), 4);
    return sizeof(out.v4);
  }
  out.v6.sin6_family = AF_INET6;
  out.v6.sin6_port = htons(port);
  std::memcpy(&out.v6.sin6_addr, address.bytes.data(), 16);
  return sizeof(out.v6);
}

bool read_local(int fd, IpAddr& address, std::uint16_t& port) {
  AnyAddress name{};
  socklen_t length = sizeof(name);
  if (::getsockname(fd, &name.generic, &length) != 0) return false;
  if (name.generic.sa_family == AF_INET && length == sizeof(name.v4)) {
    address = IpAddr::v4(&name.v4.sin_addr);
    port = ntohs(name.v4.sin_port);
    return true;
  }
  if (name.generic.sa_family == AF_INET6 && length == sizeof(name.v6)) {
    address = IpAddr::v6(&name.v6.sin6_addr);
    port = ntohs(name.v6.sin6_port);
    return true;
  }
  return false;
}

bool is_here(const IpAddr& address, std::span<const IpAddr> local) {
  return address.is_any() || std::find(local.begin(), local.end(), address) != local.end();
}

Error not_here() { return refusal(EADDRNOTAVAIL, "the address is not one of the engine's device"); }

}  // namespace

Result<std::uint64_t> own_netns_cookie() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error{errno, std::string("no socket: ") + strerror(errno)};
  const auto cookie = option<std::uint64_t>(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE);
  if (!cookie)
    return Error{errno, "the kernel has no SO_NETNS_COOKIE (Linux 5.14 or newer needed)"};
  return *cookie;
}

Result<SocketFacts> check_socket(int fd, std::uint64_t netns_cookie) {
  const auto family = option<int>(fd, SOL_SOCKET, SO_DOMAIN);
  if (!family) return refusal(ENOTSOCK, "not a socket");
  if (*family != AF_INET && *family != AF_INET6) return refusal(EAFNOSUPPORT, "not an IP socket");
  if (option<int>(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM) {
    return refusal(EPROTOTYPE, "not a stream socket");
  }
  if (option<int>(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP) {
    return refusal(EPROTONOSUPPORT, "not a TCP socket");  // MPTCP, SCTP
  }
  if (option<std::uint64_t>(fd, SOL_SOCKET, SO_NETNS_COOKIE) != netns_cookie) {
    return refusal(EXDEV, "the socket belongs to another network namespace");
  }
  SocketFacts facts;
  const auto cookie = option<std::uint64_t>(fd, SOL_SOCKET, SO_COOKIE);
  if (!cookie || !read_local(fd, facts.address, facts.port)) {
    return refusal(EINVAL, "the socket does not tell its identity");
  }
  facts.cookie = *cookie;
  facts.family = *family;
  facts.v6_only = *family == AF_INET6 && flag(fd, IPPROTO_IPV6, IPV6_V6ONLY);
  facts.reuse_address = flag(fd, SOL_SOCKET, SO_REUSEADDR);
  facts.reuse_port = flag(fd, SOL_SOCKET, SO_REUSEPORT);
  return facts;
}

Result<ListenerProof> check_listener(int fd, std::uint64_t netns_cookie,
                                     std::span<const IpAddr> local) {
  auto checked = check_socket(fd, netns_cookie);
  if (!checked.ok()) return checked.error();
  const SocketFacts& facts = checked.value();
  if (!flag(fd, SOL_SOCKET, SO_ACCEPTCONN)) return refusal(EINVAL, "the socket does not listen");
  if (flag(fd, SOL_SOCKET, SO_BINDTOIFINDEX)) {
    return refusal(ENODEV, "the socket is bound to an interface, which the kernel respects");
  }
  if (facts.port == 0) return refusal(EINVAL, "the socket has no port");
  if (!is_here(facts.address, local)) return not_here();
  return ListenerProof{facts};
}

Result<SocketFacts> check_connector(int fd, std::uint64_t netns_cookie,
                                    std::span<const IpAddr> local) {
  auto checked = check_socket(fd, netns_cookie);
  if (checked.ok() && !is_here(checked.value().address, local)) return not_here();
  return checked;
}

Result<HeldPort> hold_port(const IpAddr& local, std::uint16_t port) {
  HeldPort held;
  const int family = local.is_v4() ? AF_INET : AF_INET6;
  held.fd.reset(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!held.fd.valid()) return Error{errno, std::string("no socket: ") + strerror(errno)};
  if (!local.is_v4() && local.is_any()) {
    const int off = 0;
    ::setsockopt(held.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  AnyAddress address;
  const socklen_t length = to_socket_address(local, port, address);
  if (::bind(held.fd.get(), &address.generic, length) != 0) {
    return Error{errno, std::string("no local port: ") + strerror(errno)};
  }
  IpAddr bound;
  if (!read_local(held.fd.get(), bound, held.port)) return refusal(EINVAL, "no local port");
  return held;
}

}  // namespace toe::engine::net
