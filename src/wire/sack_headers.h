// Headers of a flow's segment that reports SACK blocks. Rare, so apart from write_headers: the
// template stands, the blocks are appended, and the sums are taken anew.
#ifndef TOE_WIRE_SACK_HEADERS_H_
#define TOE_WIRE_SACK_HEADERS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/build.h"
#include "wire/segment.h"

namespace toe::wire {

/// Blocks that fit beside timestamps, and without (RFC 2018 section 3).
inline constexpr std::size_t kSackBlocksWithTimestamps = 3;

/// Bytes of the SACK option with `blocks` blocks and the two NOPs before it; 0 for none.
constexpr std::size_t sack_option_bytes(std::size_t blocks) {
  return blocks == 0 ? 0 : 4 + 8 * blocks;
}

/// As write_headers, with `blocks` in a SACK option behind the template's options. Returns the
/// length of all headers.
/// REQUIRES: 1 to 4 blocks, with timestamps at most 3; out has kMaxHeaderBytes.
std::size_t write_sack_headers(const HeaderTemplate& header, const SegmentFields& fields,
                               std::span<const SackBlock> blocks, std::uint8_t* out);

}  // namespace toe::wire

#endif  // TOE_WIRE_SACK_HEADERS_H_
