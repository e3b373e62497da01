// RACK (RFC 8985 section 6): bytes are lost when others that left later have arrived, and the time
// that reordering may take has passed. Pure functions on RackState and Scoreboard.
#ifndef TOE_DATAPATH_RACK_H_
#define TOE_DATAPATH_RACK_H_

#include <cstdint>

#include "base/types.h"
#include "datapath/scoreboard.h"
#include "flow/loss_state.h"

namespace toe::datapath {

/// Measurements that bound what an arrival can mean.
struct RackClock {
  Time now;
  Nanos srtt;
  Nanos min_rtt;      ///< INT64_MAX = not measured
  bool echo = false;  ///< the acknowledgement echoes a timestamp:
  Time echoed{};      ///< the segment that it answers left no later than this millisecond's end
};

/// Steps 1 to 3: takes in what an acknowledgement delivered. True: reordering was seen just now.
bool rack_update(flow::RackState& rack, const Delivery& delivery, const RackClock& clock);

/// What the size of the reordering window depends on.
struct RackContext {
  bool recovering = false;   ///< in fast or timeout recovery
  bool many_sacked = false;  ///< duplicates have reached the threshold of RFC 5681
};

/// Step 4: how long reordering may take.
Nanos rack_window(const flow::RackState& rack, const RackClock& clock, const RackContext& context);
/// The peer reported a duplicate (D-SACK): the window was too small, in this round.
void rack_on_dsack(flow::RackState& rack, std::uint64_t snd_una, std::uint64_t snd_max);
/// A recovery ended without such a report.
void rack_on_recovered(flow::RackState& rack);

struct RackVerdict {
  std::uint64_t lost = 0;  ///< bytes found lost now
  Nanos wait{0};           ///< look again after this; 0 = nothing more is in doubt
};

/// Step 5: gives up on the board what is lost.
RackVerdict rack_detect(Scoreboard& board, const flow::RackState& rack, Nanos window, Time now);

/// What a timeout makes of the board (section 6.3): the first bytes are lost, and all others that
/// left at least `age` ago: a round trip and the window.
std::uint64_t rack_on_timeout(Scoreboard& board, Nanos age, Time now);

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_RACK_H_
