#include "control/syn_cookies.h"

#include <algorithm>
#include <array>

namespace toe::control {
namespace {

constexpr std::uint16_t kDefaultMss4 = 536;  // RFC 9293 section 3.7.1
constexpr std::uint16_t kDefaultMss6 = 1220;
constexpr std::uint16_t kMinMss = 48;  // as Linux: less only makes work

/// Common sizes, so that little is lost by rounding down.
constexpr std::array<std::uint16_t, 8> kMssClasses = {216, 536, 1220, 1300, 1380, 1440, 1460, 8940};

constexpr std::uint32_t kHashBits = 24;
constexpr std::uint32_t kHashMask = (1u << kHashBits) - 1;
constexpr std::uint32_t kClassShift = kHashBits;
constexpr std::uint32_t kClockShift = 27;
constexpr std::uint32_t kClockMask = (1u << (32 - kClockShift)) - 1;

// Low bits of the timestamp: 4 bits window scale (15 = none), 1 bit SACK, 1 bit ECN.
constexpr std::uint32_t kNoScale = 15;
constexpr std::uint32_t kSackBit = 1u << 4;
constexpr std::uint32_t kEcnBit = 1u << 5;
constexpr std::uint32_t kFactBits = 6;
constexpr std::uint32_t kFactMask = (1u << kFactBits) - 1;
static_assert(wire::kMaxWindowShift < kNoScale);

std::uint64_t period(Time now) { return static_cast<std::uint64_t>(now.ns / kCookiePeriod.ns); }

/// The whole clock goes into the hash; the cookie shows only its end.
std::uint32_t cookie(const flow::FlowKey& key, std::uint32_t irs, std::uint64_t clock,
                     std::uint32_t mss_class, const flow::HashKey& secret) {
  const flow::HashKey mixed{secret.k0 ^ irs, secret.k1 ^ (clock << 3 | mss_class)};
  const auto hash = static_cast<std::uint32_t>(flow::hash_of(key, mixed)) & kHashMask;
  return static_cast<std::uint32_t>(clock << kClockShift) | mss_class << kClassShift | hash;
}

/// Not 0, which stands for no cookie.
std::uint64_t tag_of(const flow::FlowKey& key, std::uint32_t iss, const flow::HashKey& secret) {
  return flow::hash_of(key, {secret.k0 ^ iss, ~secret.k1}) | 1;
}

}  // namespace

SynFacts facts_of(const wire::TcpSegment& syn) {
  const std::uint16_t absent = syn.src.is_v4() ? kDefaultMss4 : kDefaultMss6;
  SynFacts facts;
  facts.irs = syn.seq;
  facts.mss = std::max(kMinMss, syn.options.mss == 0 ? absent : syn.options.mss);
  facts.timestamps = syn.options.has_timestamp;
  facts.wscale_on = syn.options.has_wscale;
  facts.wscale = syn.options.wscale;
  facts.sack_on = syn.options.sack_permitted;
  facts.ecn = (syn.flags & (wire::kEce | wire::kCwr)) == (wire::kEce | wire::kCwr);
  facts.ect = syn.ecn != wire::kNotEct;
  return facts;
}

std::optional<std::uint32_t> make_cookie(const flow::FlowKey& key, const SynFacts& syn, Time now,
                                         const flow::HashKey& secret) {
  std::uint32_t fits = 0;
  while (fits < kMssClasses.size() && kMssClasses[fits] <= syn.mss) ++fits;
  if (fits == 0) return std::nullopt;
  return cookie(key, syn.irs, period(now), fits - 1, secret);
}

bool read_cookie(const flow::FlowKey& key, std::uint32_t iss, Time now, const flow::HashKey& secret,
                 SynFacts& facts) {
  const std::uint32_t mss_class = (iss >> kClassShift) & 7;
  for (std::uint64_t age = 0; age <= 1 && age <= period(now); ++age) {
    if (iss != cookie(key, facts.irs, period(now) - age, mss_class, secret)) continue;
    facts.mss = kMssClasses[mss_class];
    return true;
  }
  return false;
}

bool resembles_cookie(std::uint32_t iss, Time now) {
  const auto age = static_cast<std::uint32_t>(period(now) - (iss >> kClockShift));
  return (age & kClockMask) <= 1;
}

void SpentCookies::add(const flow::FlowKey& key, std::uint32_t iss, const flow::HashKey& secret) {
  const std::uint64_t tag = tag_of(key, iss, secret);
  tags_[(tag >> 1) % kSlots] = tag;
}

bool SpentCookies::contains(const flow::FlowKey& key, std::uint32_t iss,
                            const flow::HashKey& secret) const {
  const std::uint64_t tag = tag_of(key, iss, secret);
  return tags_[(tag >> 1) % kSlots] == tag;
}

std::uint32_t cookie_timestamp(std::uint32_t now_ms, const SynFacts& syn) {
  const std::uint32_t facts = (syn.wscale_on ? syn.wscale : kNoScale) |
                              (syn.sack_on ? kSackBit : 0) | (syn.ecn ? kEcnBit : 0);
  const std::uint32_t stamp = (now_ms & ~kFactMask) | facts;
  return stamp > now_ms ? stamp - (1u << kFactBits) : stamp;
}

void read_cookie_timestamp(std::uint32_t echoed, SynFacts& facts) {
  const std::uint32_t scale = echoed & 15;
  facts.timestamps = true;
  facts.wscale_on = scale <= wire::kMaxWindowShift;
  facts.wscale = facts.wscale_on ? static_cast<std::uint8_t>(scale) : std::uint8_t{0};
  facts.sack_on = (echoed & kSackBit) != 0;
  facts.ecn = (echoed & kEcnBit) != 0;
}

}  // namespace toe::control
