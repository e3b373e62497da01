// Unaligned network-order fields in byte buffers.
#ifndef TOE_WIRE_BYTES_H_
#define TOE_WIRE_BYTES_H_

#include <bit>
#include <cstdint>
#include <cstring>

namespace toe::wire {

static_assert(std::endian::native == std::endian::little, "the conversions below swap bytes");

constexpr std::uint16_t swap16(std::uint16_t v) { return __builtin_bswap16(v); }
constexpr std::uint32_t swap32(std::uint32_t v) { return __builtin_bswap32(v); }

/// The value as it lies in memory: what partial sums are made of.
template <typename T>
T load_raw(const std::uint8_t* at) {
  T v;
  std::memcpy(&v, at, sizeof v);
  return v;
}
template <typename T>
void store_raw(std::uint8_t* at, T v) {
  std::memcpy(at, &v, sizeof v);
}

inline std::uint16_t load16(const std::uint8_t* at) { return swap16(load_raw<std::uint16_t>(at)); }
inline std::uint32_t load32(const std::uint8_t* at) { return swap32(load_raw<std::uint32_t>(at)); }
inline void store16(std::uint8_t* at, std::uint16_t v) { store_raw(at, swap16(v)); }
inline void store32(std::uint8_t* at, std::uint32_t v) { store_raw(at, swap32(v)); }

}  // namespace toe::wire

#endif  // TOE_WIRE_BYTES_H_
