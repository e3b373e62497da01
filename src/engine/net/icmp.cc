#include "engine/net/icmp.h"

#include <linux/icmp.h>
#include <linux/sock_diag.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

namespace toe::engine::net {
namespace {

constexpr std::size_t kLargest = 1500;  // more than any router quotes; the rest is cut off
constexpr int kRaw = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;

Error failure(const char* what) { return {errno, std::string(what) + ": " + std::strerror(errno)}; }

// Without CAP_NET_ADMIN the kernel's default stays; the messages are a best effort anyhow.
void enlarge_buffer(int fd) {
  const int bytes = IcmpSockets::kReceiveBufferBytes;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
}

}  // namespace

Result<IcmpSockets> IcmpSockets::open() {
  IcmpSockets sockets;
  sockets.v4_.reset(::socket(AF_INET, kRaw, IPPROTO_ICMP));
  if (!sockets.v4_.valid()) return failure("cannot open a raw socket for ICMP");
  icmp_filter four{~(1u << ICMP_DEST_UNREACH)};
  if (::setsockopt(sockets.v4_.get(), SOL_RAW, ICMP_FILTER, &four, sizeof four) != 0) {
    return failure("cannot filter ICMP");
  }
  enlarge_buffer(sockets.v4_.get());
  sockets.v6_.reset(::socket(AF_INET6, kRaw, IPPROTO_ICMPV6));
  if (!sockets.v6_.valid()) return sockets;
  icmp6_filter six;
  ICMP6_FILTER_SETBLOCKALL(&six);
  ICMP6_FILTER_SETPASS(ICMP6_DST_UNREACH, &six);
  ICMP6_FILTER_SETPASS(ICMP6_PACKET_TOO_BIG, &six);
  if (::setsockopt(sockets.v6_.get(), IPPROTO_ICMPV6, ICMP6_FILTER, &six, sizeof six) != 0) {
    return failure("cannot filter ICMPv6");
  }
  enlarge_buffer(sockets.v6_.get());
  return sockets;
}

std::uint32_t IcmpSockets::poll(const std::function<void(const wire::IcmpReport&)>& report) {
  std::array<std::uint8_t, kLargest> bytes;
  std::uint32_t read = 0;
  for (const int fd : {v4_.get(), v6_.get()}) {
    for (int i = 0; fd >= 0 && i < kPerPoll; ++i) {
      const ssize_t n = ::recv(fd, bytes.data(), bytes.size(), 0);
      if (n < 0) break;
      ++read;
      const std::span message(bytes.data(), static_cast<std::size_t>(n));
      wire::IcmpReport found;
      if (fd == v4_.get() ? wire::parse_icmp4(message, found) : wire::parse_icmp6(message, found)) {
        report(found);
      }
    }
  }
  return read;
}

std::uint64_t IcmpSockets::dropped() const {
  std::uint64_t sum = 0;
  for (const int fd : {v4_.get(), v6_.get()}) {
    std::array<std::uint32_t, SK_MEMINFO_VARS> info{};
    socklen_t bytes = sizeof info;
    if (::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info.data(), &bytes) == 0) {
      sum += info[SK_MEMINFO_DROPS];
    }
  }
  return sum;
}

}  // namespace toe::engine::net
