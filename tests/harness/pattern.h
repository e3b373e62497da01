// Bytes that tell their position: a stream is checked wherever a piece of it arrives.
#ifndef TOE_TESTS_HARNESS_PATTERN_H_
#define TOE_TESTS_HARNESS_PATTERN_H_

#include <cstdint>
#include <cstring>
#include <vector>

namespace toe::test {

class Pattern {
 public:
  /// Longest piece that at() yields.
  static constexpr std::uint32_t kPiece = 1u << 17;

  /// `salt` tells streams apart.
  explicit Pattern(std::uint64_t salt) : salt_(salt * 7919) {}

  /// kPiece bytes of the stream from `position` on.
  const std::uint8_t* at(std::uint64_t position) const {
    return table().data() + (position + salt_) % kPeriod;
  }
  bool matches(std::uint64_t position, const std::uint8_t* bytes, std::size_t count) const {
    return std::memcmp(at(position), bytes, count) == 0;
  }

 private:
  static constexpr std::uint32_t kPeriod = 65521;  // prime: no ring size divides it

  static const std::vector<std::uint8_t>& table() {
    static const std::vector<std::uint8_t> bytes = [] {
      std::vector<std::uint8_t> t(kPeriod + kPiece);
      std::uint32_t x = 2463534242u;
      for (std::size_t i = 0; i < kPeriod; ++i) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        t[i] = static_cast<std::uint8_t>(x >> 24);
      }
      for (std::size_t i = kPeriod; i < t.size(); ++i) t[i] = t[i - kPeriod];
      return t;
    }();
    return bytes;
  }

  std::uint64_t salt_;
};

}  // namespace toe::test

#endif  // TOE_TESTS_HARNESS_PATTERN_H_
