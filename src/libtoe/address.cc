#include "libtoe/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "libtoe/libc.h"
#include "libtoe/user_memory.h"

namespace toe::libtoe {
namespace {

constexpr std::uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_mapped(const std::uint8_t (&address)[16]) {
  return std::memcmp(address, kMappedPrefix, sizeof(kMappedPrefix)) == 0;
}

}  // namespace

bool to_mapped(const sockaddr* address, socklen_t length, std::uint8_t (&out)[16],
               std::uint16_t& port) {
  if (!may_be_mapped(address) || length < sizeof(sa_family_t)) return false;
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in in;
    std::memcpy(&in, address, sizeof(in));
    std::memcpy(out, kMappedPrefix, sizeof(kMappedPrefix));
    std::memcpy(out + 12, &in.sin_addr, 4);
    port = ntohs(in.sin_port);
    return in.sin_addr.s_addr != 0;
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in;
    std::memcpy(&in, address, sizeof(in));
    std::memcpy(out, &in.sin6_addr, 16);
    port = ntohs(in.sin6_port);
    return !IN6_IS_ADDR_UNSPECIFIED(&in.sin6_addr) && !IN6_IS_ADDR_LINKLOCAL(&in.sin6_addr);
  }
  return false;
}

int from_mapped(const std::uint8_t (&address)[16], std::uint16_t port, int family, AddressOut out) {
  if (!may_be_mapped(out.address) || !may_be_mapped(out.length)) return -EFAULT;
  if (static_cast<int>(*out.length) < 0) return -EINVAL;
  sockaddr_storage name{};
  socklen_t length = 0;
  if (family == AF_INET) {
    auto* in = reinterpret_cast<sockaddr_in*>(&name);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    std::memcpy(&in->sin_addr, address + 12, 4);
    length = sizeof(*in);
  } else {
    auto* in = reinterpret_cast<sockaddr_in6*>(&name);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    std::memcpy(&in->sin6_addr, address, 16);
    length = sizeof(*in);
  }
  std::memcpy(out.address, &name, std::min(length, *out.length));
  *out.length = length;
  return 0;
}

std::uint16_t port_of(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
  }
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
  }
  return 0;
}

bool is_loopback(const std::uint8_t (&address)[16]) {
  if (is_mapped(address)) return address[12] == 127;
  static constexpr std::uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return std::memcmp(address, one, 16) == 0;
}

bool bound_to_loopback(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  if (libc().getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) return false;
  std::uint8_t address[16] = {};
  std::uint16_t port = 0;
  return to_mapped(reinterpret_cast<sockaddr*>(&name), length, address, port) &&
         is_loopback(address);
}

}  // namespace toe::libtoe
