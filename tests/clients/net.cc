#include "net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <sstream>
#include <stdexcept>
#include <system_error>

namespace toe::clients {

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void fail_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void Endpoint::set_port(std::uint16_t port) {
  if (address.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&address)->sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in*>(&address)->sin_port = htons(port);
  }
}

std::string Endpoint::text() const {
  char host[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET6) {
    const auto* six = reinterpret_cast<const sockaddr_in6*>(&address);
    ::inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
    return "[" + std::string(host) + "]:" + std::to_string(ntohs(six->sin6_port));
  }
  const auto* four = reinterpret_cast<const sockaddr_in*>(&address);
  ::inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
  return std::string(host) + ":" + std::to_string(ntohs(four->sin_port));
}

Endpoint parse_endpoint(const std::string& text) {
  std::string host = text;
  unsigned long port = 0;
  const auto colon = text.rfind(':');
  const bool bracketed = text.starts_with('[');
  if (colon != std::string::npos && (bracketed || text.find(':') == colon)) {
    host = text.substr(0, colon);
    port = std::stoul(text.substr(colon + 1));
  }
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (port > 65535) throw std::invalid_argument("bad port in " + text);

  Endpoint endpoint;
  auto* four = reinterpret_cast<sockaddr_in*>(&endpoint.address);
  auto* six = reinterpret_cast<sockaddr_in6*>(&endpoint.address);
  if (::inet_pton(AF_INET, host.c_str(), &four->sin_addr) == 1) {
    endpoint.address.ss_family = AF_INET;
    endpoint.length = sizeof(sockaddr_in);
  } else if (::inet_pton(AF_INET6, host.c_str(), &six->sin6_addr) == 1) {
    endpoint.address.ss_family = AF_INET6;
    endpoint.length = sizeof(sockaddr_in6);
  } else {
    throw std::invalid_argument("not an address: " + text);
  }
  endpoint.set_port(static_cast<std::uint16_t>(port));
  return endpoint;
}

std::vector<Endpoint> parse_sources(const std::string& text) {
  std::vector<Endpoint> sources;
  std::stringstream list(text);
  for (std::string item; std::getline(list, item, ',');) {
    const auto dash = item.find('-');
    Endpoint first = parse_endpoint(item.substr(0, dash));
    sources.push_back(first);
    if (dash == std::string::npos) continue;
    const Endpoint last = parse_endpoint(item.substr(dash + 1));
    if (first.address.ss_family != AF_INET || last.address.ss_family != AF_INET) {
      throw std::invalid_argument("a range needs IPv4 addresses: " + item);
    }
    auto& number = reinterpret_cast<sockaddr_in*>(&first.address)->sin_addr.s_addr;
    const std::uint32_t end =
        ntohl(reinterpret_cast<const sockaddr_in*>(&last.address)->sin_addr.s_addr);
    while (ntohl(number) < end && sources.size() < 4096) {
      number = htonl(ntohl(number) + 1);
      sources.push_back(first);
    }
  }
  return sources;
}

void set_nodelay(int fd) {
  const int one = 1;
  if (::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) fail_errno("TCP_NODELAY");
}

Fd connect_to(const Endpoint& server, const Endpoint* source, int wait_ms) {
  Fd fd(::socket(server.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) fail_errno("socket");
  const int one = 1;
  if (source != nullptr) {
    (void)::setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (::bind(fd.get(), source->get(), source->length) != 0) fail_errno("bind " + source->text());
  }
  set_nodelay(fd.get());
  if (::connect(fd.get(), server.get(), server.length) == 0) return fd;
  if (errno != EINPROGRESS) fail_errno("connect " + server.text());
  pollfd wait{fd.get(), POLLOUT, 0};
  if (::poll(&wait, 1, wait_ms) != 1) {
    errno = ETIMEDOUT;
    fail_errno("connect " + server.text());
  }
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0) {
    errno = error;
    fail_errno("connect " + server.text());
  }
  return fd;
}

Fd listen_on(const Endpoint& address, int backlog, bool nonblocking) {
  Fd fd(::socket(address.address.ss_family,
                 SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0));
  if (!fd.valid()) fail_errno("socket");
  const int one = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) {
    fail_errno("SO_REUSEADDR");
  }
  if (::bind(fd.get(), address.get(), address.length) != 0) fail_errno("bind " + address.text());
  if (::listen(fd.get(), backlog) != 0) fail_errno("listen " + address.text());
  return fd;
}

Endpoint local_of(int fd) {
  Endpoint endpoint;
  endpoint.length = sizeof endpoint.address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&endpoint.address), &endpoint.length) != 0) {
    fail_errno("getsockname");
  }
  return endpoint;
}

void raise_fd_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace toe::clients
