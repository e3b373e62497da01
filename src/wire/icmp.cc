#include "wire/icmp.h"

#include <algorithm>
#include <cerrno>

#include "wire/format.h"

namespace toe::wire {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kIcmpBytes = 8;
constexpr std::size_t kQuotedTcpBytes = 8;  // ports and sequence number
constexpr std::uint8_t kIcmp4Unreachable = 3;
constexpr std::uint8_t kIcmp4FragmentationNeeded = 4;
constexpr std::uint8_t kIcmp6Unreachable = 1;
constexpr std::uint8_t kIcmp6TooBig = 2;

/// errno by code, as Linux converts destination unreachable.
constexpr int kErrors4[] = {ENETUNREACH,  EHOSTUNREACH, ENOPROTOOPT,  ECONNREFUSED,
                            EMSGSIZE,     EOPNOTSUPP,   ENETUNREACH,  EHOSTDOWN,
                            ENONET,       ENETUNREACH,  EHOSTUNREACH, ENETUNREACH,
                            EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH};
constexpr int kErrors6[] = {ENETUNREACH,  EACCES, EHOSTUNREACH, EHOSTUNREACH,
                            ECONNREFUSED, EACCES, EACCES};

bool take_ports(Bytes tcp, IcmpReport& out) {
  if (tcp.size() < kQuotedTcpBytes) return false;
  out.src_port = load16(&tcp[0]);
  out.dst_port = load16(&tcp[2]);
  out.seq = load32(&tcp[4]);
  return true;
}

bool parse_quote4(Bytes quote, IcmpReport& out) {
  if (quote.size() < kIpv4Bytes || (quote[0] >> 4) != 4) return false;
  const std::size_t header = (quote[0] & 0x0fu) * 4u;
  if (header < kIpv4Bytes || header > quote.size() || quote[9] != kProtoTcp) return false;
  if ((load16(&quote[6]) & kIpFragmentOffset) != 0) return false;
  out.length = load16(&quote[2]);
  out.src = IpAddr::v4(&quote[12]);
  out.dst = IpAddr::v4(&quote[16]);
  return take_ports(quote.subspan(header), out);
}

/// What leaves here carries no extension headers.
bool parse_quote6(Bytes quote, IcmpReport& out) {
  if (quote.size() < kIpv6Bytes || (quote[0] >> 4) != 6 || quote[6] != kProtoTcp) return false;
  out.length =
      static_cast<std::uint16_t>(std::min<std::size_t>(load16(&quote[4]) + kIpv6Bytes, UINT16_MAX));
  out.src = IpAddr::v6(&quote[8]);
  out.dst = IpAddr::v6(&quote[24]);
  return !out.src.is_v4() && !out.dst.is_v4() && take_ports(quote.subspan(kIpv6Bytes), out);
}

}  // namespace

bool parse_icmp4(Bytes message, IcmpReport& out) {
  if (message.size() < kIpv4Bytes || (message[0] >> 4) != 4) return false;
  const std::size_t header = (message[0] & 0x0fu) * 4u;
  if (header < kIpv4Bytes || header + kIcmpBytes > message.size()) return false;
  const Bytes icmp = message.subspan(header);
  if (checksum_partial(icmp.data(), icmp.size()) != 0xffff) return false;
  const std::uint8_t code = icmp[1];
  if (icmp[0] != kIcmp4Unreachable || code >= std::size(kErrors4)) return false;
  out = {};
  out.error = kErrors4[code];
  if (code == kIcmp4FragmentationNeeded) {
    out.kind = IcmpReport::Kind::kTooBig;
    out.mtu = load16(&icmp[6]);
  }
  return parse_quote4(icmp.subspan(kIcmpBytes), out);
}

bool parse_icmp6(Bytes message, IcmpReport& out) {
  if (message.size() < kIcmpBytes) return false;
  out = {};
  if (message[0] == kIcmp6TooBig) {
    out.kind = IcmpReport::Kind::kTooBig;
    out.error = EMSGSIZE;
    out.mtu = static_cast<std::uint16_t>(std::min<std::uint32_t>(load32(&message[4]), UINT16_MAX));
  } else if (message[0] == kIcmp6Unreachable && message[1] < std::size(kErrors6)) {
    out.error = kErrors6[message[1]];
  } else {
    return false;
  }
  return parse_quote6(message.subspan(kIcmpBytes), out);
}

}  // namespace toe::wire
