// Numbers of the header formats that parser and builder share.
#ifndef TOE_WIRE_FORMAT_H_
#define TOE_WIRE_FORMAT_H_

#include <cstddef>
#include <cstdint>

#include "base/addr.h"
#include "wire/bytes.h"
#include "wire/checksum.h"

namespace toe::wire {

inline constexpr std::size_t kEthernetBytes = 14;
inline constexpr std::size_t kVlanTagBytes = 4;
inline constexpr std::size_t kIpv4Bytes = 20;
inline constexpr std::size_t kIpv6Bytes = 40;
inline constexpr std::size_t kTcpBytes = 20;

inline constexpr std::uint16_t kEtherIpv4 = 0x0800;
inline constexpr std::uint16_t kEtherIpv6 = 0x86dd;
inline constexpr std::uint16_t kIpDontFragment = 0x4000;
inline constexpr std::uint16_t kIpMoreFragments = 0x2000;
inline constexpr std::uint16_t kIpFragmentOffset = 0x1fff;

inline constexpr std::uint8_t kProtoHopByHop = 0;
inline constexpr std::uint8_t kProtoTcp = 6;
inline constexpr std::uint8_t kProtoRouting = 43;
inline constexpr std::uint8_t kProtoFragment = 44;
inline constexpr std::uint8_t kProtoDestination = 60;

inline constexpr std::uint8_t kOptEnd = 0;
inline constexpr std::uint8_t kOptNop = 1;
inline constexpr std::uint8_t kOptMss = 2;
inline constexpr std::uint8_t kOptWindowScale = 3;
inline constexpr std::uint8_t kOptSackPermitted = 4;
inline constexpr std::uint8_t kOptSack = 5;
inline constexpr std::uint8_t kOptTimestamp = 8;
/// NOP, NOP, timestamp kind, its length: how timestamps stand in all segments but SYNs.
inline constexpr std::uint32_t kAlignedTimestamp = 0x0101080a;
inline constexpr std::size_t kAlignedTimestampBytes = 12;

/// Sum of the pseudo-header without the TCP length (RFC 9293 section 3.1; RFC 8200 section 8.1).
inline std::uint64_t pseudo_address_sum(const IpAddr& src, const IpAddr& dst) {
  std::uint64_t sum = swap16(kProtoTcp);
  for (std::size_t i = src.is_v4() ? 12 : 0; i < 16; i += 4) {
    sum += load_raw<std::uint32_t>(&src.bytes[i]);
    sum += load_raw<std::uint32_t>(&dst.bytes[i]);
  }
  return sum;
}

/// The TCP length's share of the pseudo-header's sum.
inline std::uint64_t pseudo_length_sum(std::size_t tcp_bytes) {
  return swap16(static_cast<std::uint16_t>(tcp_bytes));
}

}  // namespace toe::wire

#endif  // TOE_WIRE_FORMAT_H_
