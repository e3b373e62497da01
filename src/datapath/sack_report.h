// The receiver's side of SACK: which blocks an acknowledgement reports (RFC 2018 section 4,
// RFC 2883). Pure functions on the out-of-order ranges of one flow.
#ifndef TOE_DATAPATH_SACK_REPORT_H_
#define TOE_DATAPATH_SACK_REPORT_H_

#include <array>
#include <cstdint>

#include "flow/reassembly.h"
#include "wire/segment.h"

namespace toe::datapath {

/// Out-of-order data of one flow: where it is, and in which order it came.
struct ReceiveRanges {
  flow::Reassembly ranges;
  /// A position in each of the ranges that changed last, latest first.
  std::array<std::uint64_t, wire::kMaxSackBlocks> recent{};
  std::uint8_t recent_count = 0;
};

/// Data beginning at `begin` has just arrived. REQUIRES: it lies in one of the ranges.
void note_arrival(ReceiveRanges& r, std::uint64_t begin);

/// The blocks of one acknowledgement; sequence numbers relative to position 0.
struct SackReport {
  std::array<wire::SackBlock, wire::kMaxSackBlocks> block;  ///< the first `count` mean something
  std::uint8_t count = 0;

  SackReport() {}  // clearing the blocks for every segment would cost more than a twentieth

  void add(const flow::Range& r) {
    block[count++] = {static_cast<std::uint32_t>(r.begin), static_cast<std::uint32_t>(r.end)};
  }
};

/// First `duplicate` if it is not empty (D-SACK), then the range that changed last, then those
/// before it: at most `most` blocks. `r` may be null: nothing is out of order.
SackReport report_sack(const ReceiveRanges* r, const flow::Range& duplicate, std::uint32_t most);

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_SACK_REPORT_H_
