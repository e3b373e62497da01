// Records that flows of one group borrow while bytes are missing, or may be.
//
// Bound: the same number for both kinds. Without a record to lend a sender goes on as if its peer
// had no SACK; a receiver gets that of another, who forgets what it has out of order: a receiver
// may (RFC 2018 section 8), and a peer that leaves gaps for ever holds nothing.
#ifndef TOE_DATAPATH_RECOVERY_POOLS_H_
#define TOE_DATAPATH_RECOVERY_POOLS_H_

#include <cstdint>

#include "datapath/sack_report.h"
#include "datapath/scoreboard.h"
#include "flow/loans.h"
#include "flow/pool.h"

namespace toe::datapath {

struct RecoveryPools {
  explicit RecoveryPools(std::uint32_t records) : boards(records), ranges(records) {}

  flow::Pool<Scoreboard> boards;      ///< of senders
  flow::Loans<ReceiveRanges> ranges;  ///< of receivers; the holder is the protocol slice
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_RECOVERY_POOLS_H_
