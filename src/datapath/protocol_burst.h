// What loss recovery costs a connection without losses: per segment sent, the instant and the
// deadline of the tail probe. Inlined into the way of every segment.
#ifndef TOE_DATAPATH_PROTOCOL_BURST_H_
#define TOE_DATAPATH_PROTOCOL_BURST_H_

#include <algorithm>
#include <bit>
#include <cstdint>

#include "datapath/protocol_detail.h"

namespace toe::datapath {

inline constexpr int kBurstFraction = 5;         ///< a burst lasts 1/32 to 1/16 of the round trip,
inline constexpr int kLeastBurst = 14;           ///< at least 2^14 ns
inline constexpr Nanos kProbeSlack = millis(2);  ///< RFC 8985 section 7.2; two ticks of the timers
/// A single segment may wait for the peer's delayed ACK (WCDelAckT, as Linux).
inline constexpr Nanos kPeerDelayedAck = millis(200);

inline bool same_burst(Time a, Time b, Nanos srtt) {
  const int length =
      static_cast<int>(std::bit_width(static_cast<std::uint64_t>(srtt.ns))) - kBurstFraction;
  const int shift = std::max(length, kLeastBurst);
  return a.ns >> shift == b.ns >> shift;
}

/// New data leaves: bytes sent before in another burst are written down.
inline void note_burst(Step& t) {
  ProtocolSlice& s = t.s;
  if (!s.sack_on) return;
  if (s.snd_max != s.snd_una && s.sent_at != t.now && !same_burst(s.sent_at, t.now, s.srtt)) {
    borrow_board(t);
  }
  s.sent_at = t.now;
}

/// Sets the time of the tail probe (RFC 8985 section 7.2).
inline void schedule_probe(Step& t) {
  ProtocolSlice& s = t.s;
  if (!s.sack_on || s.reorder_wait) return;
  const std::uint64_t out = s.snd_max - s.snd_una;
  const bool probing = s.careful && (s.discount != 0 || s.loss.probe.end != 0);
  if (out == 0 || probing || s.ca_state >= flow::CaState::kRecovery) {
    s.probe_at = Time::never();
    return;
  }
  const Nanos wait = s.srtt.ns == 0
                         ? seconds(1)
                         : s.srtt * 2 + (out <= s.last_length ? kPeerDelayedAck : kProbeSlack);
  s.probe_at = std::min(t.now + wait, s.rto_at);
}

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PROTOCOL_BURST_H_
