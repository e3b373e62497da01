// What the protocol stage measures per round trip for congestion control. A round ends when the
// bytes that were in flight at its beginning are acknowledged.
#ifndef TOE_DATAPATH_PROTOCOL_ROUND_H_
#define TOE_DATAPATH_PROTOCOL_ROUND_H_

#include <algorithm>
#include <cstdint>

#include "datapath/protocol.h"

namespace toe::datapath {

/// A round-trip time of the present round. Touches nothing while the application is the limit.
inline void note_round_rtt(Step& t, Nanos rtt) {
  ProtocolSlice& s = t.s;
  if (!s.cwnd_limited && !s.cc.every_round) return;
  s.round_rtt = s.round_samples == 0 ? rtt : std::min(s.round_rtt, rtt);
  if (s.round_samples < UINT16_MAX) ++s.round_samples;
  if (s.cc.watch_rtt && s.round_samples == flow::kRoundRttSamples && s.cwnd < s.cc.ssthresh) {
    t.out.events |= Outcome::kRtt;
  }
}

/// HyStart++ wants the round-trip time of every ACK. The echoed timestamp gives it to the
/// millisecond, which is fine enough for thresholds of at least four.
inline void watch_round_rtt(Step& t, const RxSummary& seg) {
  const ProtocolSlice& s = t.s;
  if (!s.cc.watch_rtt || !(s.cwnd_limited || s.cc.every_round)) return;
  if (s.cwnd >= s.cc.ssthresh) return;
  if (!s.ts_on || !seg.has_timestamp || seg.tsecr == 0) return;
  const auto now_ms = static_cast<std::uint32_t>(t.now.ns / 1'000'000) + s.ts_offset;
  const auto rtt_ms = static_cast<std::int32_t>(now_ms - seg.tsecr);
  if (rtt_ms >= 0) note_round_rtt(t, millis(rtt_ms));
}

/// The round has ended and congestion control is to hear of it.
inline void report_round(Step& t) {
  ProtocolSlice& s = t.s;
  t.out.events |= Outcome::kRound;
  s.last_round_rtt = s.round_rtt;
  s.last_round_samples = s.round_samples;
  s.last_round_limited = s.cwnd_limited;
  s.round_samples = 0;
}

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PROTOCOL_ROUND_H_
