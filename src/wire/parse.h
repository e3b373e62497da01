// From a received frame to a TcpSegment, or to the reason why it is refused.
//
// The frame is hostile: everything is bounds-checked here, so that a TcpSegment that came out
// with ParseVerdict::kOk lies within its frame. Pure functions, no allocation.
#ifndef TOE_WIRE_PARSE_H_
#define TOE_WIRE_PARSE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/frame.h"
#include "wire/segment.h"

namespace toe::wire {

/// IPv6 extension headers walked before TCP.
inline constexpr int kMaxExtensionHeaders = 8;

enum class RxChecksum : std::uint8_t {
  kVerify,         ///< the TCP checksum must be right
  kAcceptPartial,  ///< or be the folded pseudo-header sum that a local sender leaves on a veth
  kTrust,          ///< not looked at (the device has checked it)
};

struct ParseOptions {
  RxChecksum checksum = RxChecksum::kVerify;
};

enum class ParseVerdict : std::uint8_t {
  kOk,
#define TOE_DROP_REASON(enumerator, name, sentence) enumerator,
#include "wire/drop_reason.def"
#undef TOE_DROP_REASON
};

/// How many verdicts there are, kOk included: the size of an array of counters.
inline constexpr std::size_t kParseVerdicts = 1
#define TOE_DROP_REASON(enumerator, name, sentence) +1
#include "wire/drop_reason.def"
#undef TOE_DROP_REASON
    ;

/// Reads one frame, Ethernet to TCP options. `out` is complete if kOk is returned, and
/// unspecified otherwise.
/// Walks two VLAN tags, IPv4 options and IPv6 extension headers; ignores bytes after the IP
/// length (Ethernet padding). An IPv6 fragment header of an unfragmented packet is skipped
/// (RFC 6946). Option kinds that are unknown, or known with another length than theirs, are
/// skipped.
ParseVerdict parse_frame(std::span<const std::uint8_t> frame, const ParseOptions& options,
                         TcpSegment& out);

/// The same for a frame in several buffers. The headers must end in `first`.
ParseVerdict parse_frame(std::span<const std::uint8_t> first,
                         std::span<const std::span<const std::uint8_t>> rest,
                         const ParseOptions& options, TcpSegment& out);

/// The same for a frame of the pool, in however many chunks.
[[gnu::cold, gnu::noinline]] ParseVerdict parse_parts(const FramePool& pool, const Frame& frame,
                                                      const ParseOptions& options, TcpSegment& out);
inline ParseVerdict parse_frame(const FramePool& pool, const Frame& frame,
                                const ParseOptions& options, TcpSegment& out) {
  if (frame.next != kNoChunk) [[unlikely]] {
    return parse_parts(pool, frame, options, out);
  }
  return parse_frame(pool.bytes(frame), options, out);
}

/// Name used in statistics ("ok" or as in drop_reason.def), and a sentence for a person.
const char* verdict_name(ParseVerdict verdict);
const char* verdict_sentence(ParseVerdict verdict);

}  // namespace toe::wire

#endif  // TOE_WIRE_PARSE_H_
