// A TCP segment as a value: every header field that the engine reads or writes, in host order.
#ifndef TOE_WIRE_SEGMENT_H_
#define TOE_WIRE_SEGMENT_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/addr.h"

namespace toe::wire {

// Bits of TcpSegmentHeader::flags (RFC 9293 section 3.1).
inline constexpr std::uint8_t kFin = 0x01;
inline constexpr std::uint8_t kSyn = 0x02;
inline constexpr std::uint8_t kRst = 0x04;
inline constexpr std::uint8_t kPsh = 0x08;
inline constexpr std::uint8_t kAck = 0x10;
inline constexpr std::uint8_t kUrg = 0x20;
inline constexpr std::uint8_t kEce = 0x40;
inline constexpr std::uint8_t kCwr = 0x80;

// Values of TcpSegmentHeader::ecn (RFC 3168 section 5).
inline constexpr std::uint8_t kNotEct = 0;
inline constexpr std::uint8_t kEct1 = 1;
inline constexpr std::uint8_t kEct0 = 2;
inline constexpr std::uint8_t kCe = 3;

inline constexpr std::uint16_t kTpidVlan = 0x8100;
inline constexpr std::uint16_t kTpidServiceVlan = 0x88a8;

inline constexpr std::size_t kMaxVlanTags = 2;
inline constexpr std::size_t kMaxSackBlocks = 4;
inline constexpr std::uint8_t kMaxWindowShift = 14;  ///< RFC 7323 section 2.3
/// Ethernet, two VLAN tags, IPv6, TCP with all its option space.
inline constexpr std::size_t kMaxHeaderBytes = 14 + 8 + 40 + 60;

struct VlanTag {
  std::uint16_t tpid = 0;
  std::uint16_t tci = 0;  ///< priority, drop eligibility and the 12-bit id
  bool operator==(const VlanTag&) const = default;

  std::uint16_t id() const { return tci & 0x0fffu; }
};

/// Outermost tag first; only the first `count` tags mean anything.
struct VlanTags {
  VlanTag tag[kMaxVlanTags];
  std::uint8_t count = 0;
};

struct SackBlock {
  std::uint32_t start;  ///< first sequence number of the block
  std::uint32_t end;    ///< the one after its last
  bool operator==(const SackBlock&) const = default;
};

/// MSS, window scale and SACK-permitted are read and written in SYN segments only.
struct TcpOptions {
  std::uint16_t mss = 0;  ///< 0 = absent
  bool has_wscale = false;
  std::uint8_t wscale = 0;  ///< at most kMaxWindowShift
  bool sack_permitted = false;
  bool has_timestamp = false;
  std::uint8_t sack_count = 0;
  std::uint32_t tsval = 0;
  std::uint32_t tsecr = 0;
  SackBlock sack[kMaxSackBlocks];  ///< the first sack_count
};

/// All but the payload.
struct TcpSegmentHeader {
  MacAddr eth_src;
  MacAddr eth_dst;
  VlanTags vlan;
  IpAddr src;  ///< both addresses are of one family
  IpAddr dst;
  std::uint16_t src_port = 0;
  std::uint16_t dst_port = 0;
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint8_t flags = 0;
  std::uint8_t ecn = 0;      ///< the two ECN bits, whatever the DSCP
  std::uint16_t window = 0;  ///< as it stands in the header, not scaled
  std::uint16_t urgent = 0;
  TcpOptions options;
};
static_assert(std::is_trivially_copyable_v<TcpSegmentHeader>);

/// A received segment; the payload stays in the frame.
struct TcpSegment : TcpSegmentHeader {
  std::uint16_t payload_offset = 0;  ///< within the frame
  std::uint16_t payload_length = 0;
  bool partial_checksum = false;  ///< carried only the pseudo-header's sum (local sender)

  /// Sequence numbers the segment occupies (RFC 9293: SEG.LEN).
  std::uint32_t seq_length() const {
    return payload_length + ((flags & kSyn) != 0 ? 1u : 0u) + ((flags & kFin) != 0 ? 1u : 0u);
  }
};
static_assert(std::is_trivially_copyable_v<TcpSegment>);

}  // namespace toe::wire

#endif  // TOE_WIRE_SEGMENT_H_
