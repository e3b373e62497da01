// Names of the engine's congestion control algorithms, as TCP_CONGESTION carries them: libtoe has
// to tell them from the kernel's before it asks the engine.
#ifndef TOE_SHM_CONGESTION_NAMES_H_
#define TOE_SHM_CONGESTION_NAMES_H_

#include <cstddef>
#include <string_view>

namespace toe::shm {

/// Bytes of a name with its terminating zero (the kernel's TCP_CA_NAME_MAX).
inline constexpr std::size_t kCongestionNameBytes = 16;

inline constexpr std::string_view kCongestionNames = "cubic|reno|dctcp|dctcp-rate|timely|constant";

template <typename Call>
constexpr void for_each_congestion_name(Call call) {
  for (std::string_view rest = kCongestionNames; !rest.empty();) {
    const std::size_t bar = rest.find('|');
    call(rest.substr(0, bar));
    rest.remove_prefix(bar == std::string_view::npos ? rest.size() : bar + 1);
  }
}

constexpr bool is_congestion_name(std::string_view name) {
  bool found = false;
  for_each_congestion_name([&](std::string_view known) { found = found || known == name; });
  return found;
}

}  // namespace toe::shm

#endif  // TOE_SHM_CONGESTION_NAMES_H_
