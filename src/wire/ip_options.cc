#include "wire/ip_options.h"

namespace toe::wire {
namespace {

// IPv4: option types (RFC 791 section 3.1).
constexpr std::uint8_t kEnd = 0;
constexpr std::uint8_t kNoOperation = 1;
constexpr std::uint8_t kLooseSourceRoute = 131;
constexpr std::uint8_t kStrictSourceRoute = 137;
// IPv6.
constexpr std::uint8_t kPad1 = 0;
constexpr std::uint8_t kActionBits = 0xc0;  // of an option's type; 0: skip it if it is unknown

}  // namespace

ParseVerdict check_ipv4_options(std::span<const std::uint8_t> options) {
  while (!options.empty() && options[0] != kEnd) {
    if (options[0] == kNoOperation) {
      options = options.subspan(1);
      continue;
    }
    if (options.size() < 2 || options[1] < 2 || options[1] > options.size()) {
      return ParseVerdict::kBadIpOption;
    }
    if (options[0] == kLooseSourceRoute || options[0] == kStrictSourceRoute) {
      return ParseVerdict::kSourceRoute;
    }
    options = options.subspan(options[1]);
  }
  return ParseVerdict::kOk;
}

// None is known here but padding, whose action bits are 0.
ParseVerdict check_ipv6_options(std::span<const std::uint8_t> options) {
  while (!options.empty()) {
    if (options[0] == kPad1) {
      options = options.subspan(1);
      continue;
    }
    if (options.size() < 2 || options[1] + 2u > options.size()) return ParseVerdict::kBadIpOption;
    if ((options[0] & kActionBits) != 0) return ParseVerdict::kUnknownIpOption;
    options = options.subspan(options[1] + 2u);
  }
  return ParseVerdict::kOk;
}

}  // namespace toe::wire
