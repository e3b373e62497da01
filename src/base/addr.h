// Addresses as values: IPv4 and IPv6 in one 16-byte form, Ethernet addresses.
#ifndef TOE_BASE_ADDR_H_
#define TOE_BASE_ADDR_H_

#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace toe {

/// An IPv6 address, or an IPv4 address in its v4-mapped form (RFC 4291 section 2.5.5.2).
/// Bytes are in network order. The value-initialised address is "::".
struct IpAddr {
  std::array<std::uint8_t, 16> bytes{};

  auto operator<=>(const IpAddr&) const = default;
  bool operator==(const IpAddr& other) const {
    return word(0) == other.word(0) && word(8) == other.word(8);
  }

  /// From the four bytes of an IPv4 address as they stand in a header.
  static IpAddr v4(const void* network_order) {
    IpAddr a;
    a.bytes[10] = a.bytes[11] = 0xff;
    std::memcpy(&a.bytes[12], network_order, 4);
    return a;
  }
  static IpAddr v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
    const std::uint8_t raw[4] = {a, b, c, d};
    return v4(raw);
  }
  static IpAddr v6(const void* network_order) {
    IpAddr a;
    std::memcpy(a.bytes.data(), network_order, 16);
    return a;
  }

  bool is_v4() const {
    return word(0) == 0 && (word(8) & 0xffffffffu) == 0xffff0000u;  // little-endian words
  }
  /// Wildcard: "::" or v4-mapped 0.0.0.0.
  bool is_any() const {
    static constexpr std::uint8_t zero[16] = {};
    return std::memcmp(bytes.data(), zero, is_v4() ? 0 : 16) == 0 &&
           std::memcmp(bytes.data() + 12, zero, 4) == 0;
  }
  /// The four IPv4 bytes. REQUIRES: is_v4().
  const std::uint8_t* v4_bytes() const { return bytes.data() + 12; }

  /// Bytes [offset, offset + 8) as they lie in memory, for hashing and comparing.
  std::uint64_t word(std::size_t offset) const {
    std::uint64_t w;
    std::memcpy(&w, bytes.data() + offset, sizeof w);
    return w;
  }
};
static_assert(std::endian::native == std::endian::little, "is_v4() reads words");

struct MacAddr {
  std::array<std::uint8_t, 6> bytes{};
  auto operator<=>(const MacAddr&) const = default;
};

}  // namespace toe

#endif  // TOE_BASE_ADDR_H_
