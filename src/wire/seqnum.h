// Sequence numbers: 32-bit values that wrap (RFC 9293 section 3.4).
#ifndef TOE_WIRE_SEQNUM_H_
#define TOE_WIRE_SEQNUM_H_

#include <cstdint>

namespace toe::wire {

/// A sequence number as it stands in a header. Order is defined between values less than 2^31
/// apart; it is not a total order, so there is no operator<=> and no use as a map key.
struct SeqNum {
  std::uint32_t value = 0;

  constexpr bool operator==(const SeqNum&) const = default;
  constexpr SeqNum operator+(std::uint32_t n) const { return {value + n}; }
  constexpr SeqNum operator-(std::uint32_t n) const { return {value - n}; }
  constexpr SeqNum& operator+=(std::uint32_t n) {
    value += n;
    return *this;
  }
  /// Signed distance from `other` to this: positive if this is later.
  constexpr std::int32_t operator-(SeqNum other) const {
    return static_cast<std::int32_t>(value - other.value);
  }

  constexpr bool operator<(SeqNum other) const { return *this - other < 0; }
  constexpr bool operator<=(SeqNum other) const { return *this - other <= 0; }
  constexpr bool operator>(SeqNum other) const { return other < *this; }
  constexpr bool operator>=(SeqNum other) const { return other <= *this; }

  /// start <= this < start + size, for any size up to 2^32 - 1.
  constexpr bool in_window(SeqNum start, std::uint32_t size) const {
    return value - start.value < size;
  }
};

/// The 64-bit position nearest to `reference` whose low 32 bits are those of `seq - base`, where
/// `base` is the sequence number of position 0. Signed: a sequence number before `base` gives a
/// negative position.
constexpr std::int64_t unwrap(SeqNum seq, SeqNum base, std::uint64_t reference) {
  const std::uint32_t low = seq.value - base.value;
  const auto distance = static_cast<std::int32_t>(low - static_cast<std::uint32_t>(reference));
  return static_cast<std::int64_t>(reference) + distance;
}

}  // namespace toe::wire

#endif  // TOE_WIRE_SEQNUM_H_
