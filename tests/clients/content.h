// Bytes that both ends can compute: every stream has a seed, every byte follows from the seed and
// its position. A byte that is lost, doubled, moved or taken from another stream is found.
#ifndef TOE_CLIENTS_CONTENT_H_
#define TOE_CLIENTS_CONTENT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace toe::clients {

constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Content {
 public:
  explicit Content(std::uint64_t seed) : seed_(mix(seed + 0x9e3779b97f4a7c15u)) {}

  /// Writes the bytes [position, position + size of `out`) of the stream.
  void fill(std::uint64_t position, std::span<char> out) const;
  /// The first byte of `in` that is not the stream's byte at `position` + its index.
  std::optional<std::size_t> first_wrong(std::uint64_t position, std::span<const char> in) const;

 private:
  std::uint64_t word(std::uint64_t index) const {
    const std::uint64_t x = (seed_ + index) * 0x9e3779b97f4a7c15u;
    return x ^ (x >> 29);
  }
  std::uint64_t seed_;
};

}  // namespace toe::clients

#endif  // TOE_CLIENTS_CONTENT_H_
