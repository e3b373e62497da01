// What must hold of a protocol slice after every call of the stage. For tests and simulation.
#ifndef TOE_DATAPATH_PROTOCOL_CHECK_H_
#define TOE_DATAPATH_PROTOCOL_CHECK_H_

#include "datapath/recovery_pools.h"
#include "flow/slices.h"

namespace toe::datapath {

/// The first invariant that does not hold, as text; null = all hold. REQUIRES: the flow is
/// installed and has not ended.
const char* broken_invariant(const flow::ProtocolSlice& s);
/// The same with its out-of-order ranges.
const char* broken_invariant(const flow::ProtocolSlice& s, RecoveryPools& pools);
/// What must hold of a slice and the same one earlier.
const char* broken_progress(const flow::ProtocolSlice& before, const flow::ProtocolSlice& s);

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PROTOCOL_CHECK_H_
