#include "wire/sack_headers.h"

#include "base/check.h"
#include "wire/format.h"

namespace toe::wire {
namespace {

void append_blocks(std::span<const SackBlock> blocks, std::uint8_t* at) {
  at[0] = at[1] = kOptNop;
  at[2] = kOptSack;
  at[3] = static_cast<std::uint8_t>(2 + 8 * blocks.size());
  at += 4;
  for (const SackBlock& block : blocks) {
    store32(at, block.start);
    store32(at + 4, block.end);
    at += 8;
  }
}

/// The IP header for a packet of `tcp_bytes`; returns the sum of its addresses.
std::uint64_t finish_ip(bool ipv6, std::uint16_t tcp_bytes, std::uint8_t* ip) {
  if (ipv6) {
    store16(ip + 4, tcp_bytes);
    return checksum_partial(ip + 8, 32);
  }
  store16(ip + 2, static_cast<std::uint16_t>(kIpv4Bytes + tcp_bytes));
  store16(ip + 10, 0);
  store_raw(ip + 10, checksum_finish(checksum_partial(ip, kIpv4Bytes)));
  return checksum_partial(ip + 12, 8);
}

}  // namespace

std::size_t write_sack_headers(const HeaderTemplate& header, const SegmentFields& fields,
                               std::span<const SackBlock> blocks, std::uint8_t* out) {
  const std::size_t extra = sack_option_bytes(blocks.size());
  const std::size_t tcp_header = header.tcp_length() + extra;
  TOE_DCHECK(!blocks.empty() && tcp_header <= kTcpBytes + 40);
  write_headers(header, fields, out);
  std::uint8_t* const tcp = out + header.l4_offset;
  append_blocks(blocks, out + header.length);
  tcp[12] = static_cast<std::uint8_t>((tcp_header / 4) << 4);
  const auto tcp_bytes = static_cast<std::uint16_t>(tcp_header + fields.payload.length);
  const std::uint64_t addresses = finish_ip(header.ipv6, tcp_bytes, out + header.l3_offset);
  store16(tcp + 16, 0);
  store_raw(tcp + 16, checksum_finish(addresses + swap16(kProtoTcp) + pseudo_length_sum(tcp_bytes) +
                                      checksum_partial(tcp, tcp_header) + fields.payload.sum));
  return header.length + extra;
}

}  // namespace toe::wire
