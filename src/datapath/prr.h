// Proportional Rate Reduction (RFC 9937): how much may leave during fast recovery, so that the
// flight shrinks to ssthresh in one round trip and refills slowly if losses took it below.
#ifndef TOE_DATAPATH_PRR_H_
#define TOE_DATAPATH_PRR_H_

#include <cstdint>

#include "flow/loss_state.h"

namespace toe::datapath {

/// One acknowledgement during recovery. Bytes.
struct PrrInput {
  std::uint64_t delivered = 0;  ///< newly acknowledged or sacked
  std::uint64_t flight = 0;     ///< believed to be in the network, after this acknowledgement
  std::uint32_t ssthresh = 0;
  std::uint32_t mss = 0;
  bool safe = false;  ///< snd_una moved and nothing more was found lost (safeACK)
};

/// Fast recovery begins with `flight` bytes out.
void prr_begin(flow::PrrState& prr, std::uint64_t flight);
/// The congestion window until the next acknowledgement.
std::uint32_t prr_on_ack(flow::PrrState& prr, const PrrInput& in);

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PRR_H_
