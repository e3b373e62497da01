// DMA stage.
//
// Purpose: copy payload between frames and rings, checksum on the way.
// In: Work with its Copy.
// Out: bytes in the ring (RX), or a complete frame (TX). Only afterwards may ACK and notification
//      leave: both pass the egress order point behind this stage.
// State: none.
// Thread: any replica; here the worker.
// Order: any, within a burst. Only two copies that overlap could tell, and only if the peer sends
//     different bytes for one position (protocol_data.cc, cut_head): either may stay then. TCP
//     does not say which (RFC 9293 section 3.10.7.4 trims either end), and an order among copies
//     would cost every burst a wait. What was published never changes: no copy begins before
//     rcv_nxt, and what covers a position passed the egress order point before it was published.
// Cost: one pass over the payload. Drops: none.
#ifndef TOE_DATAPATH_STAGE_DMA_H_
#define TOE_DATAPATH_STAGE_DMA_H_

#include "base/frame.h"
#include "datapath/stage_post.h"
#include "datapath/work.h"

namespace toe::datapath {

/// Frame to ring. `base`: the segment's first byte.
void receive_payload(const Work& work, const Copy& copy, const FramePool& frames,
                     std::uint8_t* base);

/// Ring to frame, then the header; sets the frame's length. A frame that does not fit a chunk comes
/// with the chunks it goes on in, each with as much length as it has to take of the payload.
void transmit_payload(Work& work, const Copy& copy, const FramePool& frames,
                      const std::uint8_t* base);

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_STAGE_DMA_H_
