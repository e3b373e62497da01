// Records that flows of one group borrow while bytes are missing, or may be.
//
// Bound: the same number for both kinds. Without a record to lend a receiver drops what is out of
// order, and a sender goes on as if its peer had no SACK.
#ifndef TOE_DATAPATH_RECOVERY_POOLS_H_
#define TOE_DATAPATH_RECOVERY_POOLS_H_

#include <cstdint>

#include "datapath/sack_report.h"
#include "datapath/scoreboard.h"
#include "flow/pool.h"

namespace toe::datapath {

struct RecoveryPools {
  explicit RecoveryPools(std::uint32_t records) : boards(records), ranges(records) {}

  flow::Pool<Scoreboard> boards;     ///< of senders
  flow::Pool<ReceiveRanges> ranges;  ///< of receivers
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_RECOVERY_POOLS_H_
