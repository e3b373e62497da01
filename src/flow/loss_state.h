// What loss recovery keeps of one connection beside its scoreboard: values that outlive the bytes
// in flight. Part of the protocol slice; touched only while something is or was suspected lost.
#ifndef TOE_FLOW_LOSS_STATE_H_
#define TOE_FLOW_LOSS_STATE_H_

#include <cstdint>

#include "base/types.h"

namespace toe::flow {

/// RFC 8985 section 5.2, by the names of section 5.
struct RackState {
  Time sent;                        ///< RACK.xmit_ts
  std::uint64_t end = 0;            ///< RACK.end_seq
  Nanos rtt{0};                     ///< RACK.rtt
  std::uint64_t fack = 0;           ///< RACK.fack: end of the highest bytes delivered
  std::uint64_t dsack_round = 0;    ///< no second step of the window before this; 0 = none
  std::uint8_t window_steps = 1;    ///< RACK.reo_wnd_mult
  std::uint8_t window_persist = 0;  ///< RACK.reo_wnd_persist
  bool reordering = false;          ///< RACK.reordering_seen
};

/// RFC 9937 section 6: Proportional Rate Reduction. Bytes.
struct PrrState {
  std::uint64_t delivered = 0;  ///< prr_delivered
  std::uint64_t sent = 0;       ///< prr_out
  std::uint64_t flight = 0;     ///< RecoverFS
};

/// What is needed to take a reduction back (RFC 4015, RFC 3708).
struct UndoState {
  std::uint64_t marker = 0;       ///< snd_una when the reduction came
  std::uint64_t resent_end = 0;   ///< end of the highest bytes sent again since
  std::int64_t resent = 0;        ///< bytes sent again since, less what was reported as duplicate
  std::uint32_t cwnd = 0;         ///< before the reduction
  std::uint32_t ssthresh = 0;     ///< before the reduction
  std::uint32_t first_tsval = 0;  ///< timestamp of the first retransmission
  bool timeout = false;           ///< a timeout reduced, not a loss that was found
  bool possible = false;          ///< a reduction is in force that nothing has confirmed
  bool retransmitted = false;     ///< first_tsval means something
};

/// RFC 8985 section 7.
struct ProbeState {
  std::uint64_t end = 0;  ///< TLP.end_seq; 0 = no probe is out
  bool again = false;     ///< TLP.is_retrans
};

struct LossState {
  std::uint32_t lost = 0;    ///< bytes given up and not sent again, for TCP_INFO
  std::uint32_t resent = 0;  ///< bytes sent again and not acknowledged, for TCP_INFO
  RackState rack;
  PrrState prr;
  UndoState undo;
  ProbeState probe;
};

}  // namespace toe::flow

#endif  // TOE_FLOW_LOSS_STATE_H_
