// SYN cookies (RFC 4987 section 3.6): a handshake whose state the peer keeps for us. The initial
// sequence number of the SYN-ACK is a keyed hash of what the SYN said; the ACK that brings it back
// is the proof that somebody answers at the source address.
//
// A cookie: 5 bits of a clock of kCookiePeriod, 3 bits of MSS class, 24 bits of hash. What does not
// fit, window scale, SACK and ECN, stands in the low bits of the timestamp that the peer will echo.
// Pure functions. Odds of a guessed acknowledgement: 2 in 2^24 per try.
#ifndef TOE_CONTROL_SYN_COOKIES_H_
#define TOE_CONTROL_SYN_COOKIES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/types.h"
#include "flow/key.h"
#include "flow/table.h"
#include "wire/segment.h"

namespace toe::control {

/// A cookie is taken during the period in which it was made and the next one.
inline constexpr Nanos kCookiePeriod = seconds(64);

/// What a SYN said that the connection needs.
struct SynFacts {
  std::uint32_t irs = 0;
  std::uint16_t mss = 0;  ///< a cookie keeps its class: rounded down
  bool timestamps = false;
  bool wscale_on = false;  ///< a cookie keeps it only with timestamps
  bool sack_on = false;    ///< likewise
  std::uint8_t wscale = 0;
  bool ecn = false;  ///< the SYN asks for ECN; what a cookie brings back was accepted. Likewise
  bool ect = false;  ///< it was ECT itself; no cookie keeps it
};

/// What a SYN (or SYN-ACK) says, with the defaults of RFC 9293 section 3.7.1.
SynFacts facts_of(const wire::TcpSegment& syn);

/// The sequence number of a SYN-ACK that needs no record here; none if the MSS is below all
/// classes.
std::optional<std::uint32_t> make_cookie(const flow::FlowKey& key, const SynFacts& syn, Time now,
                                         const flow::HashKey& secret);

/// Fills facts.mss if `iss` is a cookie of this connection attempt. REQUIRES: facts.irs is set.
bool read_cookie(const flow::FlowKey& key, std::uint32_t iss, Time now, const flow::HashKey& secret,
                 SynFacts& facts);

/// Whether `iss` may be a cookie whose irs is not known: its clock is right. By chance 2 of 32 are.
bool resembles_cookie(std::uint32_t iss, Time now);

/// Cookies that have made a connection lately, the last some thousand: one pushes out another. A
/// copy of the ACK that comes late, when a short connection has ended, would make it again, and
/// nobody would ever end it.
class SpentCookies {
 public:
  void add(const flow::FlowKey& key, std::uint32_t iss, const flow::HashKey& secret);
  bool contains(const flow::FlowKey& key, std::uint32_t iss, const flow::HashKey& secret) const;

 private:
  static constexpr std::size_t kSlots = 4096;

  std::array<std::uint64_t, kSlots> tags_{};  ///< a hash of the cookie and its connection
};

/// The timestamp clock `now_ms` with the facts in its low bits: never ahead of the clock, at most
/// 64 ms behind it.
std::uint32_t cookie_timestamp(std::uint32_t now_ms, const SynFacts& syn);
/// Reads them from an echoed timestamp, the connection's offset subtracted.
void read_cookie_timestamp(std::uint32_t echoed, SynFacts& facts);

}  // namespace toe::control

#endif  // TOE_CONTROL_SYN_COOKIES_H_
