// IPv4/TCP packets as values, read and written here without the engine's own parser: a mistake in
// that one must not hide itself.
#ifndef TOE_CONFORMANCE_SEGMENT_H_
#define TOE_CONFORMANCE_SEGMENT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace toe::conformance {

/// The ECN field of IP.
enum Ecn : std::uint8_t { kNotEct = 0, kEct1 = 1, kEct0 = 2, kCe = 3 };

enum Flag : std::uint8_t {
  kFin = 0x01,
  kSyn = 0x02,
  kRst = 0x04,
  kPsh = 0x08,
  kAck = 0x10,
  kUrg = 0x20,
  kEce = 0x40,
  kCwr = 0x80,
};

struct Block {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

struct Stamps {
  std::uint32_t value = 0;
  std::uint32_t echo = 0;
};

struct Options {
  std::optional<std::uint16_t> mss;
  std::optional<std::uint8_t> wscale;
  bool sack_ok = false;
  std::optional<Stamps> stamps;
  std::vector<Block> sacks;
  std::vector<std::uint8_t> raw;  ///< written behind the others as they are; read: kinds not known
};

struct Segment {
  std::uint8_t flags = 0;
  std::uint16_t source = 0;
  std::uint16_t destination = 0;
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint16_t window = 0;
  std::uint16_t urgent = 0;
  std::uint8_t ecn = 0;  ///< of the IP header
  Options options;
  std::vector<std::uint8_t> payload;
  std::int64_t at_ns = 0;  ///< when it left the subject

  /// Sequence numbers that it takes.
  std::uint32_t length() const;
};

/// Addresses of the wire: the subject and its peer.
inline constexpr std::uint32_t kSubjectAddress = 0x0a000001;
inline constexpr std::uint32_t kPeerAddress = 0x0a000002;

/// The packet from the peer to the subject.
std::vector<std::uint8_t> encode(const Segment& segment);
/// False: not a whole TCP segment of IPv4 with right checksums.
bool decode(std::span<const std::uint8_t> packet, Segment& out);

/// "S." and its kin.
std::string flags_text(std::uint8_t flags);

}  // namespace toe::conformance

#endif  // TOE_CONFORMANCE_SEGMENT_H_
