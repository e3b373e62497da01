// For tests: kernel TCP sockets in one line.
#ifndef TOE_ENGINE_NET_TEST_SOCKETS_H_
#define TOE_ENGINE_NET_TEST_SOCKETS_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>

#include "base/addr.h"
#include "base/check.h"
#include "base/unique_fd.h"

namespace toe::engine::net {

/// An address from its text form.
inline IpAddr addr(const char* text) {
  std::uint8_t bytes[16];
  if (::inet_pton(AF_INET, text, bytes) == 1) return IpAddr::v4(bytes);
  TOE_CHECK(::inet_pton(AF_INET6, text, bytes) == 1);
  return IpAddr::v6(bytes);
}

/// A socket address of either family.
struct Name {
  sockaddr_storage storage{};
  socklen_t length = 0;

  Name(const IpAddr& address, std::uint16_t port) {
    if (address.is_v4()) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
      v4.sin_family = AF_INET;
      v4.sin_port = htons(port);
      std::memcpy(&v4.sin_addr, address.v4_bytes(), 4);
      length = sizeof(v4);
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(port);
      std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
      length = sizeof(v6);
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

inline UniqueFd tcp_socket(const IpAddr& address) {
  UniqueFd fd(::socket(address.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  return fd;
}

inline UniqueFd bound(const IpAddr& address, std::uint16_t port) {
  UniqueFd fd = tcp_socket(address);
  const Name name(address, port);
  TOE_CHECK(::bind(fd.get(), name.get(), name.length) == 0);
  return fd;
}

inline UniqueFd listening(const IpAddr& address, std::uint16_t port) {
  UniqueFd fd = bound(address, port);
  TOE_CHECK(::listen(fd.get(), 8) == 0);
  return fd;
}

inline UniqueFd connected(const IpAddr& address, std::uint16_t port) {
  UniqueFd fd = tcp_socket(address);
  const Name name(address, port);
  TOE_CHECK(::connect(fd.get(), name.get(), name.length) == 0);
  return fd;
}

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_TEST_SOCKETS_H_
