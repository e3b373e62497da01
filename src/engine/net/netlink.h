// Requests to the kernel by netlink: one at a time, answered at once.
#ifndef TOE_ENGINE_NET_NETLINK_H_
#define TOE_ENGINE_NET_NETLINK_H_

#include <libmnl/libmnl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/addr.h"
#include "base/result.h"

namespace toe::engine::net {

/// Attributes of one message by type; unknown and malformed ones are absent.
class Attributes {
 public:
  static constexpr std::uint16_t kMaxType = 64;

  /// Of a message whose family header has `header_bytes`. The message must outlive this.
  Attributes(const nlmsghdr& message, std::size_t header_bytes);
  /// Of a nested attribute.
  explicit Attributes(const nlattr& nest);

  const nlattr* find(std::uint16_t type) const;
  std::optional<std::uint8_t> u8(std::uint16_t type) const;
  std::optional<std::uint32_t> u32(std::uint16_t type) const;
  /// A string without its terminating zero; empty if absent.
  std::string text(std::uint16_t type) const;
  /// 4 bytes are an IPv4 address, 16 an IPv6 address.
  std::optional<IpAddr> address(std::uint16_t type) const;
  std::optional<MacAddr> mac(std::uint16_t type) const;

 private:
  void keep_all(const void* begin, const void* end);

  std::array<const nlattr*, kMaxType> found_{};
};

/// Appends an address as 4 or 16 bytes.
void put_address(nlmsghdr& message, std::uint16_t type, const IpAddr& address);
/// AF_INET or AF_INET6.
std::uint8_t family_of(const IpAddr& address);

/// A buffer with a request under construction. Neither copied nor moved.
class Request {
 public:
  /// `flags` are added to NLM_F_REQUEST.
  Request(std::uint16_t type, std::uint16_t flags);
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  /// Appends a zeroed family header; call once, before attributes.
  template <typename Header>
  Header& header() {
    return *static_cast<Header*>(mnl_nlmsg_put_extra_header(message_, sizeof(Header)));
  }
  nlmsghdr& message() { return *message_; }

 private:
  alignas(nlmsghdr) std::array<char, 4096> buffer_{};
  nlmsghdr* message_;
};

/// One netlink socket. Move-only. Thread: one at a time.
class Netlink {
 public:
  /// `protocol` such as NETLINK_ROUTE; `groups` (RTNLGRP_...) are joined.
  static Result<Netlink> open(int protocol, std::initializer_list<unsigned> groups = {});

  /// Sends `request` and hands every answer to `each`; returns 0 or the errno of the kernel's
  /// answer. Waits at most one second for it (ETIMEDOUT).
  int exchange(Request& request, const std::function<void(const nlmsghdr&)>& each = {});

  /// Hands at most `most` datagrams that wait already to `each`, for sockets with groups. Returns 0
  /// or an errno; EAGAIN: no more wait; ENOBUFS: messages were lost, and what waits is older.
  int drain(unsigned most, const std::function<void(const nlmsghdr&)>& each);

  int fd() const { return mnl_socket_get_fd(socket_.get()); }

 private:
  struct Closer {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
  };
  static constexpr std::size_t kBufferBytes = 32768;  // the kernel's largest dump datagram

  Netlink() = default;

  std::unique_ptr<mnl_socket, Closer> socket_;
  std::unique_ptr<char[]> buffer_;
  std::uint32_t sequence_ = 0;
};

}  // namespace toe::engine::net

#endif  // TOE_ENGINE_NET_NETLINK_H_
