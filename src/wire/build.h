// From header fields to the bytes of a frame: a general builder for everything rare (SYN, RST,
// control), and a template per flow for the data path.
//
// Pure functions, no allocation. Payload is never touched: callers bring its length and partial
// sum (wire/checksum.h). Packets carry DF, IP id 0 (RFC 6864: atomic) and TTL 64.
#ifndef TOE_WIRE_BUILD_H_
#define TOE_WIRE_BUILD_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "wire/segment.h"

namespace toe::wire {

inline constexpr std::uint8_t kHopLimit = 64;

/// What the headers need to know of the payload.
struct PayloadSummary {
  std::uint16_t length = 0;
  std::uint32_t sum = 0;  ///< partial sum of the payload's bytes
};

/// Bytes of TCP options that `header` takes, padding included (0..40).
std::size_t tcp_options_length(const TcpSegmentHeader& header);

/// Bytes of all headers, Ethernet to TCP options.
std::size_t header_length(const TcpSegmentHeader& header);

/// Writes all headers with correct checksums and returns their length: the payload belongs right
/// behind. Returns 0 and writes nothing if `out` is too short (kMaxHeaderBytes always suffice).
/// Options in Linux's order: SYN: MSS, SACK-permitted, timestamps, NOP, window scale; others:
/// NOP, NOP, timestamps, NOP, NOP, SACK (as many blocks as fit).
/// REQUIRES: both addresses of one family; the packet fits 65,535 bytes.
std::size_t build_headers(const TcpSegmentHeader& header, const PayloadSummary& payload,
                          std::span<std::uint8_t> out);

/// Writes a whole frame and returns its length, or 0 if `out` is too short.
std::size_t build_segment(const TcpSegmentHeader& header, std::span<const std::uint8_t> payload,
                          std::span<std::uint8_t> out);

/// Headers of an answer to `received`: Ethernet, VLAN, IP and ports turned round, all else zero.
TcpSegmentHeader reply_header(const TcpSegmentHeader& received);

/// The headers of one flow with everything in place that never changes, and the sums over it.
/// Made once per flow by make_template; a value, may be copied.
struct HeaderTemplate {
  static constexpr std::size_t kBytes = 96;

  std::uint8_t bytes[kBytes] = {};
  std::uint8_t l3_offset = 0;
  std::uint8_t l4_offset = 0;
  std::uint8_t length = 0;  ///< of all headers; 0 = not made yet
  bool ipv6 = false;
  bool timestamps = false;
  bool mute = false;          ///< no frame may leave with it at present
  std::uint32_t ip_sum = 0;   ///< IPv4 header without total length and ECN bits
  std::uint32_t tcp_sum = 0;  ///< pseudo-header and TCP header without the fields of SegmentFields

  /// Bytes of the TCP header, options included.
  std::uint16_t tcp_length() const { return static_cast<std::uint16_t>(length - l4_offset); }
};
static_assert(std::is_trivially_copyable_v<HeaderTemplate>);

/// Uses addresses, VLAN tags, ports and options.has_timestamp of `header`; nothing else.
HeaderTemplate make_template(const TcpSegmentHeader& header);

/// What differs from segment to segment of one flow.
struct SegmentFields {
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint32_t tsval = 0;  ///< used if the template has timestamps
  std::uint32_t tsecr = 0;
  std::uint16_t window = 0;  ///< as it stands in the header
  std::uint16_t urgent = 0;  ///< used with kUrg
  std::uint8_t flags = 0;
  std::uint8_t ecn = 0;
  PayloadSummary payload;
};

/// Writes the template's headers with `fields` and correct checksums to out[0, length).
/// REQUIRES: a template from make_template; out has template.length bytes.
void write_headers(const HeaderTemplate& header, const SegmentFields& fields, std::uint8_t* out);

}  // namespace toe::wire

#endif  // TOE_WIRE_BUILD_H_
