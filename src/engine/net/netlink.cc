#include "engine/net/netlink.h"

#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace toe::engine::net {
namespace {

using Each = std::function<void(const nlmsghdr&)>;

// The kernel's last word on a request: 0 or an errno; nothing if `message` is not one.
std::optional<int> final_word(const nlmsghdr& message) {
  if (message.nlmsg_type == NLMSG_DONE) return 0;
  if (message.nlmsg_type != NLMSG_ERROR) return std::nullopt;
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr))) return EBADMSG;
  return -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(&message))->error;
}

/// Calls `each(message)` for the messages of a datagram until it returns true.
template <typename F>
bool walk(const char* datagram, std::size_t bytes, F each) {
  int left = static_cast<int>(bytes);
  const auto* message = reinterpret_cast<const nlmsghdr*>(datagram);
  for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
    if (each(*message)) return true;
  }
  return false;
}

}  // namespace

Attributes::Attributes(const nlmsghdr& message, std::size_t header_bytes) {
  if (mnl_nlmsg_get_payload_len(&message) < MNL_ALIGN(header_bytes)) return;
  keep_all(mnl_nlmsg_get_payload_offset(&message, header_bytes),
           mnl_nlmsg_get_payload_tail(&message));
}

Attributes::Attributes(const nlattr& nest) {
  const auto* begin = static_cast<const char*>(mnl_attr_get_payload(&nest));
  keep_all(begin, begin + mnl_attr_get_payload_len(&nest));
}

void Attributes::keep_all(const void* begin, const void* end) {
  const auto* attribute = static_cast<const nlattr*>(begin);
  const auto left = [&] {
    return static_cast<int>(static_cast<const char*>(end) -
                            reinterpret_cast<const char*>(attribute));
  };
  for (; mnl_attr_ok(attribute, left()); attribute = mnl_attr_next(attribute)) {
    const std::uint16_t type = mnl_attr_get_type(attribute);
    if (type < kMaxType) found_[type] = attribute;
  }
}

const nlattr* Attributes::find(std::uint16_t type) const {
  return type < kMaxType ? found_[type] : nullptr;
}

std::optional<std::uint8_t> Attributes::u8(std::uint16_t type) const {
  const nlattr* attribute = find(type);
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) < 1) return std::nullopt;
  return mnl_attr_get_u8(attribute);
}

std::optional<std::uint32_t> Attributes::u32(std::uint16_t type) const {
  const nlattr* attribute = find(type);
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) < 4) return std::nullopt;
  return mnl_attr_get_u32(attribute);
}

std::string Attributes::text(std::uint16_t type) const {
  const nlattr* attribute = find(type);
  if (attribute == nullptr) return {};
  const char* bytes = mnl_attr_get_str(attribute);
  return {bytes, ::strnlen(bytes, mnl_attr_get_payload_len(attribute))};
}

std::optional<IpAddr> Attributes::address(std::uint16_t type) const {
  const nlattr* attribute = find(type);
  if (attribute == nullptr) return std::nullopt;
  const void* bytes = mnl_attr_get_payload(attribute);
  switch (mnl_attr_get_payload_len(attribute)) {
    case 4:
      return IpAddr::v4(bytes);
    case 16:
      return IpAddr::v6(bytes);
    default:
      return std::nullopt;
  }
}

std::optional<MacAddr> Attributes::mac(std::uint16_t type) const {
  const nlattr* attribute = find(type);
  MacAddr mac;
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != mac.bytes.size()) {
    return std::nullopt;
  }
  std::memcpy(mac.bytes.data(), mnl_attr_get_payload(attribute), mac.bytes.size());
  return mac;
}

void put_address(nlmsghdr& message, std::uint16_t type, const IpAddr& address) {
  if (address.is_v4()) {
    mnl_attr_put(&message, type, 4, address.v4_bytes());
  } else {
    mnl_attr_put(&message, type, 16, address.bytes.data());
  }
}

std::uint8_t family_of(const IpAddr& address) { return address.is_v4() ? AF_INET : AF_INET6; }

Request::Request(std::uint16_t type, std::uint16_t flags)
    : message_(mnl_nlmsg_put_header(buffer_.data())) {
  message_->nlmsg_type = type;
  message_->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
}

Result<Netlink> Netlink::open(int protocol, std::initializer_list<unsigned> groups) {
  Netlink netlink;
  netlink.socket_.reset(mnl_socket_open2(protocol, SOCK_CLOEXEC));
  if (!netlink.socket_ || mnl_socket_bind(netlink.socket_.get(), 0, MNL_SOCKET_AUTOPID) != 0) {
    return Error{errno, std::string("no netlink socket: ") + strerror(errno)};
  }
  for (unsigned group : groups) {
    if (mnl_socket_setsockopt(netlink.socket_.get(), NETLINK_ADD_MEMBERSHIP, &group,
                              sizeof(group)) != 0) {
      return Error{errno, std::string("no netlink events: ") + strerror(errno)};
    }
  }
  const timeval patience{1, 0};
  ::setsockopt(netlink.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  netlink.buffer_ = std::make_unique<char[]>(kBufferBytes);
  return netlink;
}

int Netlink::exchange(Request& request, const Each& each) {
  nlmsghdr& message = request.message();
  if ((message.nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) message.nlmsg_flags |= NLM_F_ACK;
  message.nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), &message, message.nlmsg_len) < 0) return errno;
  for (;;) {
    const ssize_t length = mnl_socket_recvfrom(socket_.get(), buffer_.get(), kBufferBytes);
    if (length < 0) return errno == EAGAIN ? ETIMEDOUT : errno;
    // A table that changes during a dump is marked by the kernel; that is no fault for us, since
    // every change is also an event.
    std::optional<int> end;
    walk(buffer_.get(), static_cast<std::size_t>(length), [&](const nlmsghdr& answer) {
      if (answer.nlmsg_seq != sequence_) return false;  // late, to an earlier request
      end = final_word(answer);
      if (!end && each) each(answer);
      return end.has_value();
    });
    if (end) return *end;
  }
}

int Netlink::drain(unsigned most, const Each& each) {
  for (unsigned i = 0; i < most; ++i) {
    const ssize_t length = ::recv(fd(), buffer_.get(), kBufferBytes, MSG_DONTWAIT);
    if (length < 0) return errno;
    walk(buffer_.get(), static_cast<std::size_t>(length), [&](const nlmsghdr& message) {
      each(message);
      return false;
    });
  }
  return 0;
}

}  // namespace toe::engine::net
