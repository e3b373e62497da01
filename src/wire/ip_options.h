// Options of IP headers: what a host must not let pass although it uses none of them itself.
#ifndef TOE_WIRE_IP_OPTIONS_H_
#define TOE_WIRE_IP_OPTIONS_H_

#include <cstdint>
#include <span>

#include "wire/parse.h"

namespace toe::wire {

/// The options of an IPv4 header. Source routes are refused, as by a Linux host (RFC 7126 sections
/// 4.3.5 and 4.4.5); the others are passed over (RFC 1122 section 3.2.1.8).
ParseVerdict check_ipv4_options(std::span<const std::uint8_t> options);

/// The options of an IPv6 hop-by-hop or destination options header, behind its first two bytes:
/// unknown ones say themselves whether the packet is to be dropped (RFC 8200 section 4.2).
ParseVerdict check_ipv6_options(std::span<const std::uint8_t> options);

}  // namespace toe::wire

#endif  // TOE_WIRE_IP_OPTIONS_H_
