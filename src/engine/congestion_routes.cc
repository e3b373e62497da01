#include "engine/congestion_routes.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include <fmt/format.h>

#include "shm/congestion_names.h"

namespace toe::engine {
namespace {

constexpr unsigned kV4Offset = 96;  // an IPv4 prefix within the 128 bits

bool parse_address(const std::string& text, IpAddr& out) {
  std::uint8_t bytes[16];
  if (::inet_pton(AF_INET, text.c_str(), bytes) == 1) {
    out = IpAddr::v4(bytes);
    return true;
  }
  if (::inet_pton(AF_INET6, text.c_str(), bytes) != 1) return false;
  out = IpAddr::v6(bytes);
  return true;
}

bool parse_bits(std::string_view text, unsigned most, unsigned& out) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, out);
  return !text.empty() && result.ec == std::errc() && result.ptr == end && out <= most;
}

bool contains(const IpAddr& prefix, unsigned bits, const IpAddr& address) {
  const std::size_t whole = bits / 8;
  if (!std::equal(prefix.bytes.begin(), prefix.bytes.begin() + static_cast<std::ptrdiff_t>(whole),
                  address.bytes.begin())) {
    return false;
  }
  const unsigned rest = bits % 8;
  return rest == 0 || ((prefix.bytes[whole] ^ address.bytes[whole]) >> (8 - rest)) == 0;
}

}  // namespace

Status CongestionRoutes::parse_entry(std::string_view text, Entry& out) {
  const std::size_t sign = text.find('=');
  if (sign == std::string_view::npos) {
    return Error{EINVAL, fmt::format("'{}' is not PREFIX=ALGORITHM", text)};
  }
  const std::string_view prefix = text.substr(0, sign);
  const std::size_t slash = std::min(prefix.find('/'), prefix.size());
  if (!parse_address(std::string(prefix.substr(0, slash)), out.prefix)) {
    return Error{EINVAL, fmt::format("'{}' is not an address", prefix.substr(0, slash))};
  }
  const unsigned most = out.prefix.is_v4() ? 32 : 128;
  out.bits = most;
  if (slash < prefix.size() && !parse_bits(prefix.substr(slash + 1), most, out.bits)) {
    return Error{EINVAL, fmt::format("'{}' has no length from 0 to {}", prefix, most)};
  }
  if (out.prefix.is_v4()) out.bits += kV4Offset;
  out.algorithm = text.substr(sign + 1);
  if (!shm::is_congestion_name(out.algorithm)) {
    return Error{EINVAL, fmt::format("'{}' is none of {}", out.algorithm, shm::kCongestionNames)};
  }
  return Done{};
}

Result<CongestionRoutes> CongestionRoutes::parse(std::string_view text) {
  CongestionRoutes routes;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    Entry entry;
    const Status status = parse_entry(text.substr(0, comma), entry);
    if (!status.ok()) return status.error();
    if (routes.entries_.size() == kMaxRoutes) {
      return Error{EINVAL, fmt::format("there are more than {} prefixes", kMaxRoutes)};
    }
    routes.entries_.push_back(std::move(entry));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  std::stable_sort(routes.entries_.begin(), routes.entries_.end(),
                   [](const Entry& a, const Entry& b) { return a.bits > b.bits; });
  return routes;
}

std::string_view CongestionRoutes::find(const IpAddr& remote) const {
  for (const Entry& entry : entries_) {
    // "::/0" is a prefix of IPv6 addresses only, though IPv4 addresses are kept within it.
    if (entry.prefix.is_v4() != remote.is_v4()) continue;
    if (contains(entry.prefix, entry.bits, remote)) return entry.algorithm;
  }
  return {};
}

}  // namespace toe::engine
