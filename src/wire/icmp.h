// ICMP (RFC 792, RFC 1191) and ICMPv6 (RFC 4443) messages about TCP segments sent from here.
//
// Anybody can forge them: what comes out is a claim that the receiver of this structure has to
// check against the connection (RFC 5927). Pure functions; the message is hostile until parsed.
#ifndef TOE_WIRE_ICMP_H_
#define TOE_WIRE_ICMP_H_

#include <cstdint>
#include <span>

#include "base/addr.h"

namespace toe::wire {

struct IcmpReport {
  enum class Kind : std::uint8_t {
    kTooBig,       ///< a packet was longer than `mtu`
    kUnreachable,  ///< it could not be delivered; `error` says why
  };
  Kind kind = Kind::kUnreachable;
  std::uint16_t mtu = 0;     ///< kTooBig: IP bytes; 0 = an old router that does not say
  std::uint16_t length = 0;  ///< IP bytes of the quoted packet
  int error = 0;             ///< kUnreachable: errno, as Linux converts it
  IpAddr src, dst;           ///< of the quoted packet: src is an address of this host
  std::uint16_t src_port = 0, dst_port = 0;
  std::uint32_t seq = 0;  ///< of the quoted segment
};

/// `message` begins with the IPv4 header, as a raw socket delivers it. False: it is damaged, of
/// another kind, or does not quote the beginning of a TCP segment.
bool parse_icmp4(std::span<const std::uint8_t> message, IcmpReport& out);
/// `message` begins with the ICMPv6 header; its checksum was verified by the kernel.
bool parse_icmp6(std::span<const std::uint8_t> message, IcmpReport& out);

}  // namespace toe::wire

#endif  // TOE_WIRE_ICMP_H_
