#include "content.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace toe::clients {

void Content::fill(std::uint64_t position, std::span<char> out) const {
  while (!out.empty()) {
    const std::uint64_t index = position / 8;
    const std::size_t skip = position % 8;
    const std::size_t now = std::min<std::size_t>(8 - skip, out.size());
    const std::uint64_t value = word(index);
    std::memcpy(out.data(), reinterpret_cast<const char*>(&value) + skip, now);
    position += now;
    out = out.subspan(now);
    std::uint64_t next = index + 1;
    const std::size_t whole = out.size() / 8;
    for (std::size_t i = 0; i < whole; ++i, ++next) {
      const std::uint64_t w = word(next);
      std::memcpy(out.data() + 8 * i, &w, 8);
    }
    position += 8 * whole;
    out = out.subspan(8 * whole);
  }
}

std::optional<std::size_t> Content::first_wrong(std::uint64_t position,
                                                std::span<const char> in) const {
  std::array<char, 8192> expected;
  std::size_t done = 0;
  while (done < in.size()) {
    const std::size_t now = std::min(expected.size(), in.size() - done);
    fill(position + done, std::span(expected.data(), now));
    if (std::memcmp(expected.data(), in.data() + done, now) != 0) {
      const auto at = std::mismatch(expected.data(), expected.data() + now, in.data() + done);
      return done + static_cast<std::size_t>(at.first - expected.data());
    }
    done += now;
  }
  return std::nullopt;
}

}  // namespace toe::clients
