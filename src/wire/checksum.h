// The Internet checksum (RFC 1071).
//
// A partial sum is the ones' complement sum of 16-bit words in memory order, folded to 16 bits
// (0..0xffff). So up to 65,537 partial sums may be added in a uint32_t before a fold.
// All functions are pure; none allocates; lengths may be odd, pointers unaligned.
#ifndef TOE_WIRE_CHECKSUM_H_
#define TOE_WIRE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>

namespace toe::wire {

/// Partial sum of `n` bytes; an odd last byte counts as if a zero byte followed.
std::uint32_t checksum_partial(const std::uint8_t* data, std::size_t n);

/// Copies `n` bytes and returns their partial sum. REQUIRES: the ranges do not overlap.
std::uint32_t copy_and_checksum(std::uint8_t* dst, const std::uint8_t* src, std::size_t n);

/// Folds a sum of partial sums to 16 bits.
constexpr std::uint32_t checksum_fold(std::uint64_t sum) {
  sum = (sum & 0xffffffffu) + (sum >> 32);
  sum = (sum & 0xffffffffu) + (sum >> 32);
  auto low = static_cast<std::uint32_t>(sum);
  low = (low & 0xffffu) + (low >> 16);
  return (low & 0xffffu) + (low >> 16);
}

/// The sum that the same bytes have when they start at an odd offset of the message.
constexpr std::uint32_t checksum_swap(std::uint32_t partial) {
  return ((partial & 0xffu) << 8) | ((partial >> 8) & 0xffu);
}

/// Sum of a message whose first `length` bytes have the sum `first` and whose rest has the sum
/// `rest` (taken as if it started at an even offset).
constexpr std::uint32_t checksum_append(std::uint32_t first, std::size_t length,
                                        std::uint32_t rest) {
  return checksum_fold(first + ((length & 1) != 0 ? checksum_swap(rest) : rest));
}

/// The value of a checksum field, to be stored as it is in memory (no byte swap).
constexpr std::uint16_t checksum_finish(std::uint64_t sum) {
  return static_cast<std::uint16_t>(~checksum_fold(sum) & 0xffffu);
}

}  // namespace toe::wire

#endif  // TOE_WIRE_CHECKSUM_H_
