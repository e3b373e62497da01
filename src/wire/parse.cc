#include "wire/parse.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/limits.h"
#include "wire/format.h"
#include "wire/ip_options.h"

namespace toe::wire {
namespace {

using Bytes = std::span<const std::uint8_t>;
using Verdict = ParseVerdict;

/// What one layer leaves for the next: the bytes that belong to it and what they are.
struct Upper {
  Bytes bytes;
  std::uint16_t protocol = 0;  ///< Ethernet type or IP protocol
};

// Where the bytes behind the parsed buffer are. The parser is compiled for each of the two, so that
// a frame in one buffer, the common case, pays nothing for the other.

/// Nowhere: the frame is in one buffer.
struct OneBuffer {
  static constexpr std::size_t beyond = 0;
  /// Whether the frame has `length` bytes from the front of `packet` on; `here`: of these, so many
  /// lie in the parsed buffer, the others `beyond`.
  static bool covers(Bytes packet, std::size_t length, std::size_t& here) {
    here = length;
    return length <= packet.size();
  }
  /// Sum of `bytes` and of those beyond.
  static std::uint32_t sum(Bytes bytes) { return checksum_partial(bytes.data(), bytes.size()); }
  /// The verdict on a header that does not end in the parsed buffer.
  static Verdict cut(Verdict verdict) { return verdict; }
};

/// In the buffers `rest`.
struct SeveralBuffers {
  std::span<const Bytes> rest;
  std::size_t rest_bytes = 0;
  std::size_t beyond = 0;  ///< bytes of the packet in `rest`

  bool covers(Bytes packet, std::size_t length, std::size_t& here) {
    here = std::min(length, packet.size());
    beyond = length - here;
    return beyond <= rest_bytes;
  }
  std::uint32_t sum(Bytes bytes) const {
    std::uint32_t sum = checksum_partial(bytes.data(), bytes.size());
    std::size_t done = bytes.size();
    std::size_t left = beyond;
    for (const Bytes& part : rest) {
      const std::size_t n = std::min(left, part.size());
      sum = checksum_append(sum, done, checksum_partial(part.data(), n));
      done += n;
      left -= n;
    }
    return sum;
  }
  static Verdict cut(Verdict) { return Verdict::kHeadersSplit; }
};

// Used by both parsers, and still a part of each.
[[gnu::always_inline]] inline Verdict parse_ethernet(Bytes frame, TcpSegment& out, Upper& upper) {
  if (frame.size() < kEthernetBytes) return Verdict::kTooShort;
  const std::uint8_t* at = frame.data();
  std::memcpy(out.eth_dst.bytes.data(), at, 6);
  std::memcpy(out.eth_src.bytes.data(), at + 6, 6);
  // An answer to a group's address would go to all of them.
  if (((at[0] | at[6]) & 1) != 0) {
    return (at[0] & 1) != 0 ? Verdict::kNotUnicast : Verdict::kBadAddress;
  }

  std::uint16_t type = load16(at + 12);
  std::size_t offset = kEthernetBytes;
  out.vlan.count = 0;
  while (type == kTpidVlan || type == kTpidServiceVlan) {
    if (out.vlan.count == kMaxVlanTags) return Verdict::kTooManyVlanTags;
    if (frame.size() < offset + kVlanTagBytes) return Verdict::kTooShort;
    out.vlan.tag[out.vlan.count++] = {type, load16(at + offset)};
    type = load16(at + offset + 2);
    offset += kVlanTagBytes;
  }
  upper = {frame.subspan(offset), type};
  return Verdict::kOk;
}

/// RFC 1122 section 3.2.1.3: never a source; as a destination not one host.
bool v4_source_possible(const IpAddr& a) {
  const std::uint8_t first = a.v4_bytes()[0];
  return first != 0 && first != 127 && first < 224;
}
bool v4_destination_possible(const IpAddr& a) { return v4_source_possible(a); }

/// Neither multicast, unspecified nor loopback; nor v4-mapped, which would pass for IPv4 here.
bool v6_source_possible(const IpAddr& a) {
  static constexpr std::uint8_t zero[15] = {};
  const bool unspecified_or_loopback =
      std::memcmp(a.bytes.data(), zero, 15) == 0 && a.bytes[15] <= 1;
  return a.bytes[0] != 0xff && !unspecified_or_loopback && !a.is_v4();
}

template <typename Where>
Verdict parse_ipv4(Bytes packet, Where& where, TcpSegment& out, Upper& upper) {
  if (packet.size() < kIpv4Bytes) return Verdict::kTooShort;
  const std::uint8_t* at = packet.data();
  if ((at[0] >> 4) != 4) return Verdict::kBadIpVersion;
  const std::size_t header = (at[0] & 0x0fu) * 4u;
  const std::size_t total = load16(at + 2);
  if (header < kIpv4Bytes || header > total) return Verdict::kBadIpHeaderLength;
  std::size_t here = 0;
  if (!where.covers(packet, total, here)) return Verdict::kBadIpTotalLength;
  if (header > here) return where.cut(Verdict::kBadIpHeaderLength);
  if (checksum_partial(at, header) != 0xffff) return Verdict::kBadIpChecksum;

  out.ecn = at[1] & 3u;
  out.src = IpAddr::v4(at + 12);
  out.dst = IpAddr::v4(at + 16);
  if (!v4_destination_possible(out.dst)) return Verdict::kNotUnicast;
  if (!v4_source_possible(out.src)) return Verdict::kBadAddress;

  const std::uint16_t fragment = load16(at + 6);
  if ((fragment & kIpFragmentOffset) != 0) return Verdict::kFragmentLater;
  if ((fragment & kIpMoreFragments) != 0) return Verdict::kFragmentFirst;
  if (header != kIpv4Bytes) [[unlikely]] {
    const Verdict verdict = check_ipv4_options(packet.subspan(kIpv4Bytes, header - kIpv4Bytes));
    if (verdict != Verdict::kOk) return verdict;
  }
  upper = {packet.subspan(header, here - header), at[9]};
  return Verdict::kOk;
}

/// Steps over one extension header at the front of `upper`.
Verdict skip_extension(Upper& upper) {
  const Bytes b = upper.bytes;
  if (b.size() < 8) return Verdict::kBadExtensionHeader;
  std::size_t length = (b[1] + 1u) * 8u;
  if (upper.protocol == kProtoRouting && b[3] != 0) return Verdict::kRoutingPending;
  if (upper.protocol == kProtoFragment) {
    const std::uint16_t fragment = load16(&b[2]);
    if ((fragment & 0xfff8u) != 0) return Verdict::kFragmentLater;
    if ((fragment & 1u) != 0) return Verdict::kFragmentFirst;
    length = 8;
  }
  if (length > b.size()) return Verdict::kBadExtensionHeader;
  if (upper.protocol == kProtoHopByHop || upper.protocol == kProtoDestination) {
    const Verdict verdict = check_ipv6_options(b.subspan(2, length - 2));
    if (verdict != Verdict::kOk) return verdict;
  }
  upper = {b.subspan(length), b[0]};
  return Verdict::kOk;
}

bool is_extension(std::uint16_t protocol) {
  return protocol == kProtoHopByHop || protocol == kProtoRouting || protocol == kProtoFragment ||
         protocol == kProtoDestination;
}

template <typename Where>
Verdict parse_ipv6(Bytes packet, Where& where, TcpSegment& out, Upper& upper) {
  if (packet.size() < kIpv6Bytes) return Verdict::kTooShort;
  const std::uint8_t* at = packet.data();
  if ((at[0] >> 4) != 6) return Verdict::kBadIpVersion;
  const std::size_t length = load16(at + 4);
  std::size_t here = 0;
  if (length == 0 || !where.covers(packet.subspan(kIpv6Bytes), length, here)) {
    return Verdict::kBadIpTotalLength;
  }

  out.ecn = (at[1] >> 4) & 3u;
  out.src = IpAddr::v6(at + 8);
  out.dst = IpAddr::v6(at + 24);
  if (out.dst.bytes[0] == 0xff) return Verdict::kNotUnicast;
  if (!v6_source_possible(out.src) || !v6_source_possible(out.dst)) return Verdict::kBadAddress;

  upper = {packet.subspan(kIpv6Bytes, here), at[6]};
  for (int walked = 0; is_extension(upper.protocol); ++walked) {
    // Hop-by-hop options stand in front or nowhere (RFC 8200 section 4.1).
    const bool misplaced = walked != 0 && upper.protocol == kProtoHopByHop;
    if (walked == kMaxExtensionHeaders || misplaced) return Verdict::kBadExtensionHeader;
    const Verdict verdict = skip_extension(upper);
    if (verdict == Verdict::kBadExtensionHeader) return where.cut(verdict);
    if (verdict != Verdict::kOk) return verdict;
  }
  return Verdict::kOk;
}

/// REQUIRES: length >= 2; `at` has `length` bytes.
void parse_known_option(const std::uint8_t* at, std::size_t length, bool syn, TcpOptions& out) {
  switch (at[0]) {
    case kOptMss:
      if (syn && length == 4) out.mss = load16(at + 2);
      break;
    case kOptWindowScale:
      if (syn && length == 3) {
        out.has_wscale = true;
        out.wscale = std::min(at[2], kMaxWindowShift);  // RFC 7323 section 2.3
      }
      break;
    case kOptSackPermitted:
      if (syn && length == 2) out.sack_permitted = true;
      break;
    case kOptSack:
      if (syn || length < 10 || (length - 2) % 8 != 0) break;
      out.sack_count = static_cast<std::uint8_t>((length - 2) / 8);  // <= 4: options end at 40
      for (std::size_t i = 0; i < out.sack_count; ++i) {
        out.sack[i] = {load32(at + 2 + 8 * i), load32(at + 6 + 8 * i)};
      }
      break;
    case kOptTimestamp:
      if (length != 10) break;
      out.has_timestamp = true;
      out.tsval = load32(at + 2);
      out.tsecr = load32(at + 6);
      break;
    default:
      break;
  }
}

void clear_options(TcpOptions& out) {
  out.mss = 0;
  out.has_wscale = out.sack_permitted = out.has_timestamp = false;
  out.wscale = 0;
  out.sack_count = 0;
  out.tsval = out.tsecr = 0;
}

[[gnu::always_inline]] inline Verdict parse_options(Bytes bytes, bool syn, TcpOptions& out) {
  clear_options(out);
  const std::uint8_t* at = bytes.data();
  const std::uint8_t* const end = at + bytes.size();
  if (bytes.size() == kAlignedTimestampBytes && load32(at) == kAlignedTimestamp) {
    out.has_timestamp = true;
    out.tsval = load32(at + 4);
    out.tsecr = load32(at + 8);
    return Verdict::kOk;
  }
  while (at != end && *at != kOptEnd) {
    if (*at == kOptNop) {
      ++at;
      continue;
    }
    if (end - at < 2 || at[1] < 2 || at[1] > end - at) return Verdict::kBadOption;
    parse_known_option(at, at[1], syn, out);
    at += at[1];
  }
  return Verdict::kOk;
}

template <typename Where>
Verdict check_tcp_checksum(Bytes bytes, const Where& where, const ParseOptions& options,
                           TcpSegment& out) {
  out.partial_checksum = false;
  if (options.checksum == RxChecksum::kTrust) return Verdict::kOk;
  const std::uint64_t pseudo =
      pseudo_address_sum(out.src, out.dst) + pseudo_length_sum(bytes.size() + where.beyond);
  if (options.checksum == RxChecksum::kAcceptPartial &&
      load_raw<std::uint16_t>(&bytes[16]) == checksum_fold(pseudo)) {
    out.partial_checksum = true;
    return Verdict::kOk;
  }
  const std::uint64_t sum = pseudo + where.sum(bytes);
  return checksum_fold(sum) == 0xffff ? Verdict::kOk : Verdict::kBadTcpChecksum;
}

bool flags_possible(std::uint8_t flags) {
  const std::uint8_t control = flags & (kSyn | kFin | kRst | kAck);
  return control != 0 && ((flags & kSyn) == 0 || (flags & (kFin | kRst)) == 0);
}

template <typename Where>
Verdict parse_tcp(Bytes bytes, const Where& where, const ParseOptions& options, TcpSegment& out) {
  if (bytes.size() < kTcpBytes) return Verdict::kTooShort;
  const std::uint8_t* at = bytes.data();
  const std::size_t header = (at[12] >> 4) * 4u;
  if (header < kTcpBytes) return Verdict::kBadDataOffset;
  if (header > bytes.size()) return where.cut(Verdict::kBadDataOffset);
  const Verdict sum = check_tcp_checksum(bytes, where, options, out);
  if (sum != Verdict::kOk) return sum;

  out.src_port = load16(at);
  out.dst_port = load16(at + 2);
  out.seq = load32(at + 4);
  out.ack = load32(at + 8);
  out.flags = at[13];
  out.window = load16(at + 14);
  out.urgent = load16(at + 18);
  out.payload_length = static_cast<std::uint16_t>(bytes.size() + where.beyond - header);
  if (out.src_port == 0 || out.dst_port == 0) return Verdict::kBadPort;
  if (!flags_possible(out.flags)) return Verdict::kBadFlags;
  return parse_options(bytes.subspan(kTcpBytes, header - kTcpBytes), (out.flags & kSyn) != 0,
                       out.options);
}

template <typename Where>
Verdict parse(Bytes frame, Where where, const ParseOptions& options, TcpSegment& out) {
  Upper ip;
  Upper tcp;
  Verdict verdict = parse_ethernet(frame, out, ip);
  if (verdict != Verdict::kOk) return verdict;
  if (ip.protocol == kEtherIpv4) {
    verdict = parse_ipv4(ip.bytes, where, out, tcp);
  } else if (ip.protocol == kEtherIpv6) {
    verdict = parse_ipv6(ip.bytes, where, out, tcp);
  } else {
    return Verdict::kNotIp;
  }
  if (verdict != Verdict::kOk) return verdict;
  if (tcp.protocol != kProtoTcp) return Verdict::kNotTcp;

  verdict = parse_tcp(tcp.bytes, where, options, out);
  if (verdict != Verdict::kOk) return verdict;
  const auto end =
      static_cast<std::size_t>(tcp.bytes.data() - frame.data()) + tcp.bytes.size() + where.beyond;
  if (end > 0xffff) return Verdict::kBadIpTotalLength;  // offsets are 16-bit
  out.payload_offset = static_cast<std::uint16_t>(end - out.payload_length);
  return Verdict::kOk;
}

}  // namespace

ParseVerdict parse_frame(Bytes frame, const ParseOptions& options, TcpSegment& out) {
  return parse(frame, OneBuffer{}, options, out);
}

ParseVerdict parse_frame(Bytes first, std::span<const Bytes> rest, const ParseOptions& options,
                         TcpSegment& out) {
  SeveralBuffers where;
  where.rest = rest;
  for (const Bytes& part : rest) where.rest_bytes += part.size();
  const Verdict verdict = parse(first, where, options, out);
  return verdict == Verdict::kTooShort ? Verdict::kHeadersSplit : verdict;
}

ParseVerdict parse_parts(const FramePool& pool, const Frame& frame, const ParseOptions& options,
                         TcpSegment& out) {
  std::array<Bytes, kMaxFrameChunks - 1> rest;
  std::size_t count = 0;
  for (Frame part = frame; pool.advance(part);) {
    if (count == rest.size()) return Verdict::kTooManyParts;
    rest[count++] = pool.bytes(part);
  }
  return parse_frame(pool.bytes(frame), std::span(rest).first(count), options, out);
}

namespace {

struct Text {
  const char* name;
  const char* sentence;
};

constexpr Text kTexts[] = {
    {"ok", "The frame is a TCP segment"},
#define TOE_DROP_REASON(enumerator, name, sentence) {name, sentence},
#include "wire/drop_reason.def"
#undef TOE_DROP_REASON
};
static_assert(std::size(kTexts) == kParseVerdicts);

const Text& text_of(ParseVerdict verdict) {
  return kTexts[std::min(static_cast<std::size_t>(verdict), kParseVerdicts - 1)];
}

}  // namespace

const char* verdict_name(ParseVerdict verdict) { return text_of(verdict).name; }
const char* verdict_sentence(ParseVerdict verdict) { return text_of(verdict).sentence; }

}  // namespace toe::wire
