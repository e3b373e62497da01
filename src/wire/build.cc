#include "wire/build.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "wire/format.h"

namespace toe::wire {
namespace {

constexpr std::size_t kMaxOptionBytes = 40;

/// SACK blocks that fit beside the other options (RFC 2018 section 3).
std::size_t sack_blocks(const TcpSegmentHeader& header) {
  if ((header.flags & kSyn) != 0 || header.options.sack_count == 0) return 0;
  const std::size_t room =
      kMaxOptionBytes - (header.options.has_timestamp ? kAlignedTimestampBytes : 0);
  return std::min<std::size_t>({header.options.sack_count, kMaxSackBlocks, (room - 4) / 8});
}

std::size_t l3_offset(const TcpSegmentHeader& header) {
  return kEthernetBytes + kVlanTagBytes * header.vlan.count;
}

std::size_t ip_length(const TcpSegmentHeader& header) {
  return header.src.is_v4() ? kIpv4Bytes : kIpv6Bytes;
}

std::uint8_t* write_ethernet(const TcpSegmentHeader& header, std::uint8_t* at) {
  std::memcpy(at, header.eth_dst.bytes.data(), 6);
  std::memcpy(at + 6, header.eth_src.bytes.data(), 6);
  at += 12;
  for (std::size_t i = 0; i < header.vlan.count; ++i) {
    store16(at, header.vlan.tag[i].tpid);
    store16(at + 2, header.vlan.tag[i].tci);
    at += kVlanTagBytes;
  }
  store16(at, header.src.is_v4() ? kEtherIpv4 : kEtherIpv6);
  return at + 2;
}

void write_ipv4(const TcpSegmentHeader& header, std::size_t tcp_bytes, std::uint8_t* at) {
  std::memset(at, 0, kIpv4Bytes);
  at[0] = 0x45;
  at[1] = header.ecn & 3u;
  store16(at + 2, static_cast<std::uint16_t>(kIpv4Bytes + tcp_bytes));
  store16(at + 6, kIpDontFragment);
  at[8] = kHopLimit;
  at[9] = kProtoTcp;
  std::memcpy(at + 12, header.src.v4_bytes(), 4);
  std::memcpy(at + 16, header.dst.v4_bytes(), 4);
  store_raw(at + 10, checksum_finish(checksum_partial(at, kIpv4Bytes)));
}

void write_ipv6(const TcpSegmentHeader& header, std::size_t tcp_bytes, std::uint8_t* at) {
  store32(at, 0x60000000u | static_cast<std::uint32_t>((header.ecn & 3u) << 20));
  store16(at + 4, static_cast<std::uint16_t>(tcp_bytes));
  at[6] = kProtoTcp;
  at[7] = kHopLimit;
  std::memcpy(at + 8, header.src.bytes.data(), 16);
  std::memcpy(at + 24, header.dst.bytes.data(), 16);
}

std::uint8_t* write_timestamp(const TcpOptions& options, std::uint8_t* at) {
  at[0] = kOptTimestamp;
  at[1] = 10;
  store32(at + 2, options.tsval);
  store32(at + 6, options.tsecr);
  return at + 10;
}

std::uint8_t* write_nops(std::uint8_t* at, int n) {
  std::memset(at, kOptNop, static_cast<std::size_t>(n));
  return at + n;
}

void write_syn_options(const TcpOptions& options, std::uint8_t* at) {
  if (options.mss != 0) {
    at[0] = kOptMss;
    at[1] = 4;
    store16(at + 2, options.mss);
    at += 4;
  }
  // SACK-permitted takes the place of the two NOPs that align the timestamps, if both are there.
  if (options.sack_permitted) {
    if (!options.has_timestamp) at = write_nops(at, 2);
    at[0] = kOptSackPermitted;
    at[1] = 2;
    at += 2;
  } else if (options.has_timestamp) {
    at = write_nops(at, 2);
  }
  if (options.has_timestamp) at = write_timestamp(options, at);
  if (options.has_wscale) {
    at = write_nops(at, 1);
    at[0] = kOptWindowScale;
    at[1] = 3;
    at[2] = options.wscale;
  }
}

void write_options(const TcpSegmentHeader& header, std::uint8_t* at) {
  const TcpOptions& options = header.options;
  if ((header.flags & kSyn) != 0) {
    write_syn_options(options, at);
    return;
  }
  if (options.has_timestamp) at = write_timestamp(options, write_nops(at, 2));
  const std::size_t blocks = sack_blocks(header);
  if (blocks == 0) return;
  at = write_nops(at, 2);
  at[0] = kOptSack;
  at[1] = static_cast<std::uint8_t>(2 + 8 * blocks);
  at += 2;
  for (std::size_t i = 0; i < blocks; ++i, at += 8) {
    store32(at, options.sack[i].start);
    store32(at + 4, options.sack[i].end);
  }
}

/// All but the checksum, which stays zero.
void write_tcp(const TcpSegmentHeader& header, std::size_t tcp_header, std::uint8_t* at) {
  store16(at, header.src_port);
  store16(at + 2, header.dst_port);
  store32(at + 4, header.seq);
  store32(at + 8, header.ack);
  at[12] = static_cast<std::uint8_t>((tcp_header / 4) << 4);
  at[13] = header.flags;
  store16(at + 14, header.window);
  store16(at + 16, 0);
  store16(at + 18, header.urgent);
  write_options(header, at + kTcpBytes);
}

/// Copies `n` bytes, 32 <= n <= 96, by overlapping blocks of fixed size.
void copy_headers(std::uint8_t* dst, const std::uint8_t* src, std::size_t n) {
  if (n > 64) {
    std::memcpy(dst, src, 64);
  } else {
    std::memcpy(dst, src, 32);
  }
  std::memcpy(dst + n - 32, src + n - 32, 32);
}

}  // namespace

std::size_t tcp_options_length(const TcpSegmentHeader& header) {
  const TcpOptions& options = header.options;
  const std::size_t timestamp = options.has_timestamp ? kAlignedTimestampBytes : 0;
  if ((header.flags & kSyn) == 0) {
    const std::size_t blocks = sack_blocks(header);
    return timestamp + (blocks != 0 ? 4 + 8 * blocks : 0);
  }
  const bool lone_sack = options.sack_permitted && !options.has_timestamp;
  return (options.mss != 0 ? 4u : 0u) + timestamp + (lone_sack ? 4u : 0u) +
         (options.has_wscale ? 4u : 0u);
}

std::size_t header_length(const TcpSegmentHeader& header) {
  return l3_offset(header) + ip_length(header) + kTcpBytes + tcp_options_length(header);
}

std::size_t build_headers(const TcpSegmentHeader& header, const PayloadSummary& payload,
                          std::span<std::uint8_t> out) {
  TOE_DCHECK(header.src.is_v4() == header.dst.is_v4());
  TOE_DCHECK(header.vlan.count <= kMaxVlanTags);
  const std::size_t length = header_length(header);
  if (length > out.size()) return 0;
  const std::size_t tcp_header = kTcpBytes + tcp_options_length(header);
  const std::size_t tcp_bytes = tcp_header + payload.length;

  std::uint8_t* const ip = write_ethernet(header, out.data());
  std::uint8_t* const tcp = ip + ip_length(header);
  if (header.src.is_v4()) {
    write_ipv4(header, tcp_bytes, ip);
  } else {
    write_ipv6(header, tcp_bytes, ip);
  }
  write_tcp(header, tcp_header, tcp);
  const std::uint64_t sum = pseudo_address_sum(header.src, header.dst) +
                            pseudo_length_sum(tcp_bytes) + checksum_partial(tcp, tcp_header) +
                            payload.sum;
  store_raw(tcp + 16, checksum_finish(sum));
  return length;
}

std::size_t build_segment(const TcpSegmentHeader& header, std::span<const std::uint8_t> payload,
                          std::span<std::uint8_t> out) {
  const std::size_t headers = header_length(header);
  if (payload.size() > 0xffff || headers + payload.size() > out.size()) return 0;
  const std::uint32_t sum = copy_and_checksum(out.data() + headers, payload.data(), payload.size());
  build_headers(header, {static_cast<std::uint16_t>(payload.size()), sum}, out);
  return headers + payload.size();
}

TcpSegmentHeader reply_header(const TcpSegmentHeader& received) {
  TcpSegmentHeader reply;
  reply.eth_src = received.eth_dst;
  reply.eth_dst = received.eth_src;
  reply.vlan = received.vlan;
  reply.src = received.dst;
  reply.dst = received.src;
  reply.src_port = received.dst_port;
  reply.dst_port = received.src_port;
  return reply;
}

HeaderTemplate make_template(const TcpSegmentHeader& header) {
  TcpSegmentHeader fixed = reply_header(reply_header(header));  // drops all that changes
  fixed.options.has_timestamp = header.options.has_timestamp;

  HeaderTemplate t;
  build_headers(fixed, {}, t.bytes);
  t.l3_offset = static_cast<std::uint8_t>(l3_offset(fixed));
  t.l4_offset = static_cast<std::uint8_t>(l3_offset(fixed) + ip_length(fixed));
  t.length = static_cast<std::uint8_t>(header_length(fixed));
  t.ipv6 = !fixed.src.is_v4();
  t.timestamps = fixed.options.has_timestamp;

  // What write_headers fills in is zero in the template, so that the sums leave it out.
  std::uint8_t* const ip = t.bytes + t.l3_offset;
  std::uint8_t* const tcp = t.bytes + t.l4_offset;
  if (!t.ipv6) {
    store16(ip + 2, 0);
    store16(ip + 10, 0);
    t.ip_sum = checksum_partial(ip, kIpv4Bytes);
  }
  store16(tcp + 16, 0);
  t.tcp_sum = checksum_fold(pseudo_address_sum(fixed.src, fixed.dst) +
                            checksum_partial(tcp, t.tcp_length()));
  return t;
}

void write_headers(const HeaderTemplate& header, const SegmentFields& fields, std::uint8_t* out) {
  TOE_DCHECK(header.length >= 54 && header.length <= HeaderTemplate::kBytes);
  copy_headers(out, header.bytes, header.length);
  std::uint8_t* const ip = out + header.l3_offset;
  std::uint8_t* const tcp = out + header.l4_offset;
  const auto tcp_bytes = static_cast<std::uint16_t>(header.tcp_length() + fields.payload.length);

  if (header.ipv6) {
    ip[1] = static_cast<std::uint8_t>(fields.ecn << 4);
    store16(ip + 4, tcp_bytes);
  } else {
    const std::uint16_t total = swap16(static_cast<std::uint16_t>(kIpv4Bytes + tcp_bytes));
    ip[1] = fields.ecn;
    store_raw(ip + 2, total);
    store_raw(ip + 10, checksum_finish(header.ip_sum + total +
                                       (static_cast<std::uint32_t>(fields.ecn) << 8)));
  }

  const std::uint32_t seq = swap32(fields.seq);
  const std::uint32_t ack = swap32(fields.ack);
  const std::uint16_t window = swap16(fields.window);
  store_raw(tcp + 4, seq);
  store_raw(tcp + 8, ack);
  tcp[13] = fields.flags;
  store_raw(tcp + 14, window);
  std::uint64_t sum = header.tcp_sum + pseudo_length_sum(tcp_bytes) + fields.payload.sum;
  sum += std::uint64_t{seq} + ack + window + (static_cast<std::uint32_t>(fields.flags) << 8);
  if (header.timestamps) {
    const std::uint32_t tsval = swap32(fields.tsval);
    const std::uint32_t tsecr = swap32(fields.tsecr);
    store_raw(tcp + kTcpBytes + 4, tsval);
    store_raw(tcp + kTcpBytes + 8, tsecr);
    sum += std::uint64_t{tsval} + tsecr;
  }
  if ((fields.flags & kUrg) != 0) {
    const std::uint16_t urgent = swap16(fields.urgent);
    store_raw(tcp + 18, urgent);
    sum += urgent;
  }
  store_raw(tcp + 16, checksum_finish(sum));
}

}  // namespace toe::wire
