// Parts of the protocol stage that its files share. Not for other stages.
#ifndef TOE_DATAPATH_PROTOCOL_DETAIL_H_
#define TOE_DATAPATH_PROTOCOL_DETAIL_H_

#include <cstdint>

#include "datapath/protocol.h"

namespace toe::datapath {

inline constexpr Nanos kMaxRto = seconds(120);         ///< as Linux
inline constexpr Nanos kOowAckInterval = millis(500);  ///< between ACKs for unacceptable segments
inline constexpr Nanos kCorkLimit = millis(200);       ///< corked bytes wait no longer, as Linux
inline constexpr std::uint8_t kMaxBackoff = 15;        ///< give-up, as Linux tcp_retries2
inline constexpr std::uint8_t kDupAckThreshold = 3;    ///< RFC 5681 section 3.2
inline constexpr std::uint32_t kMinCwndSegments = 2;

// protocol_ack.cc
/// Takes the segment's acknowledgement and window. False: the segment must be dropped.
bool take_ack(Step& t, const RxSummary& seg, std::int64_t seq);
/// Slow-start threshold after a loss: the flow's share of its window, at least two segments.
std::uint32_t ssthresh_after_loss(const ProtocolSlice& s);

// protocol_data.cc
/// Takes payload and FIN of an acceptable segment.
void take_payload(Step& t, const RxSummary& seg, std::int64_t seq);
/// Notes bytes that came once more: the next ACK says so, at once (RFC 2883).
void report_duplicate(ProtocolSlice& s, const flow::Range& twice);
/// Keeps rcv_limit in step with what the application has consumed.
void update_rcv_limit(ProtocolSlice& s);
/// True when the window could be opened by so much that the peer should be told (RFC 9293
/// section 3.8.6.2.2).
bool window_update_due(const ProtocolSlice& s);
/// The window field to announce now; moves rcv_adv.
std::uint16_t announce_window(ProtocolSlice& s);
/// Asks control for a larger receive ring when this one bounds the peer.
void judge_rx_ring(Step& t);

// protocol_tx.cc
/// True when next_segment() would find something to do.
bool something_to_send(const ProtocolSlice& s);
/// Starts the persist timer if bytes wait and nothing is in flight that would bring an ACK.
void start_persist(Step& t);

// protocol.cc
/// ACK for an unacceptable segment, rate-limited.
void challenge(Step& t);
void end(Step& t, flow::Event::Close how, std::uint32_t error);
/// Ends the flow when both directions are closed and acknowledged.
void end_if_done(Step& t);
/// Copies what the application sees into the outcome.
void publish(Step& t);
/// Last act of every call: tells control of an earlier deadline, the scheduler of work.
void settle(Step& t);

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PROTOCOL_DETAIL_H_
