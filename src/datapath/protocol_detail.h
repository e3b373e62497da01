// Parts of the protocol stage that its files share. Not for other stages.
#ifndef TOE_DATAPATH_PROTOCOL_DETAIL_H_
#define TOE_DATAPATH_PROTOCOL_DETAIL_H_

#include <algorithm>
#include <cstdint>

#include "datapath/protocol.h"

namespace toe::datapath {

inline constexpr Nanos kMaxRto = seconds(120);         ///< as Linux
inline constexpr Nanos kOowAckInterval = millis(500);  ///< between ACKs for unacceptable segments
inline constexpr Nanos kCorkLimit = millis(200);       ///< corked bytes wait no longer, as Linux
inline constexpr std::uint8_t kMaxProbes = 15;         ///< unanswered, as Linux tcp_retries2
/// Retransmissions go on so long, as Linux with tcp_retries2 = 15: what 15 timeouts take that begin
/// at 200 ms and double up to 120 s; and 8 of them for a connection that no process holds.
inline constexpr Nanos kGiveUp = millis(924'600);
inline constexpr Nanos kGiveUpOrphan = millis(102'200);
/// Probes of a closed window go on so long for a connection that no process holds, although the
/// peer answers, as Linux: what intervals take that begin at 400 ms and double up to 120 s, and one
/// more.
inline constexpr Nanos kProbeOrphan = seconds(324);
inline constexpr std::uint8_t kQuickAcks = 16;       ///< ACKs without delay, as Linux
inline constexpr std::uint8_t kDupAckThreshold = 3;  ///< RFC 5681 section 3.2
inline constexpr std::uint32_t kMinCwndSegments = 2;
/// Timeouts in a row that a flow keeps its scoreboard: a peer that says nothing must not keep what
/// others need. All is sent again then; so it is for a peer that takes its SACKs back.
inline constexpr std::uint8_t kBoardTimeouts = 4;

// protocol_ack.cc
/// Takes the segment's acknowledgement and window. False: the segment must be dropped.
bool take_ack(Step& t, const RxSummary& seg, std::int64_t seq);
/// The parts of taking in an acknowledgement of new bytes, around what it means for cwnd.
void begin_advance(Step& t, const RxSummary& seg, std::uint64_t ack);
void finish_advance(Step& t);
/// What it means for cwnd without a scoreboard (RFC 5681, RFC 6582).
void reno_advance(Step& t, std::uint64_t acked);
void reno_duplicate(Step& t);
/// Growth by the one fixed rule.
void grow_cwnd(ProtocolSlice& s, std::uint64_t acked);
/// Takes a round-trip sample that is only nearly exact: smoothed, but never the minimum.
void take_coarse_rtt(ProtocolSlice& s, Nanos sample);
/// beta/1024 of cwnd, at least two segments: a slow-start threshold.
std::uint32_t share_of_cwnd(const ProtocolSlice& s, std::uint16_t beta);
/// A loss costs cwnd its share, unless marks of the same window did so (RFC 3168 section 6.1.2);
/// under DCTCP in any case (RFC 8257 section 3.5). Remembers what an undo needs. False: it does
/// not.
bool reduce_for_loss(ProtocolSlice& s);

// protocol_recovery.cc: loss recovery with SACK
/// What an acknowledgement says beside its position.
struct AckNews {
  const RxSummary& seg;
  std::uint64_t ack = 0;   ///< snd_una if it is an old one
  bool duplicate = false;  ///< RFC 5681 section 2
};
/// Takes an acknowledgement of a flow that is careful, or that brings SACK blocks.
void take_careful_ack(Step& t, const AckNews& news);
/// The flow's scoreboard, borrowed if need be, with all outstanding bytes on it. Null: there is
/// none to be had, or the bytes were sent again without one.
Scoreboard* borrow_board(Step& t);
/// Nothing is outstanding any more.
void return_board(Step& t);
/// The board has changed: what the slice says of it.
void note_board(ProtocolSlice& s, const Scoreboard& board);
/// The time of RACK's reordering timer has come.
void on_reorder_timeout(Step& t);
/// A timeout: gives up what it must (RFC 8985 section 6.3). False: there is no scoreboard.
bool lose_on_timeout(Step& t);
/// cwnd is about to be reduced: remembers what an undo needs.
void prepare_undo(ProtocolSlice& s);
/// [begin, end) leaves again during a recovery.
void note_resent(Step& t, std::uint64_t begin, std::uint64_t end);
/// RFC 4015: an ACK of new bytes that echoes a timestamp from before the first retransmission.
/// True: the reduction was undone.
bool undo_by_time(Step& t, const RxSummary& seg);

/// One step of proportional rate reduction: the congestion window until the next ACK.
std::uint32_t prr_window(ProtocolSlice& s, std::uint64_t delivered, bool safe);

// protocol_ecn.cc: only for flows with ECN; inlined, they would cost all others registers
/// ECE and CWR of an acknowledgement that is not an old one, before it is taken in.
[[gnu::noinline]] void take_ecn_flags(Step& t, const RxSummary& seg, std::uint64_t ack);
/// The ECN field and CWR of a segment of which `bytes` are new and stored.
[[gnu::noinline]] void take_ecn_field(Step& t, const RxSummary& seg, std::uint64_t bytes);
/// ECT, ECE and CWR of the segment that leaves, before its ACK counts as sent.
[[gnu::noinline]] void put_ecn(Step& t);
/// kCwr: `delivered` bytes have left the network.
[[gnu::noinline]] void cwr_advance(Step& t, std::uint64_t delivered);
/// cwnd was reduced: the next new data tells the peer (RFC 3168 section 6.1.2).
inline void owe_cwr(ProtocolSlice& s) {
  if (s.ecn != 0) s.ecn |= flow::kEcnCwrDue;
}
/// Bytes that the next ACK would take in, and how many of them came marked. For DCTCP.
struct Unacked {
  std::uint64_t all = 0;
  std::uint64_t marked = 0;
  bool mixed() const { return marked != 0 && marked != all; }
};
inline Unacked unacked(const ProtocolSlice& s) {
  const std::uint64_t end = rx_tail(s);
  const std::uint64_t all = end - std::min(s.last_ack_sent, end);
  return {all, std::min<std::uint64_t>(all, s.ce_pending)};
}

// protocol_data.cc
/// The flow's out-of-order ranges; null: it has none, or has just found that it lost them.
inline ReceiveRanges* ranges_of(RecoveryPools& pools, ProtocolSlice& s) {
  if (s.ranges == 0) return nullptr;
  if (pools.ranges.holds(s.ranges, &s)) return &pools.ranges.at(s.ranges);
  s.ranges = 0;
  return nullptr;
}
/// Takes payload and FIN of an acceptable segment.
void take_payload(Step& t, const RxSummary& seg, std::int64_t seq);
/// Notes bytes that came once more: the next ACK says so, at once (RFC 2883).
void report_duplicate(ProtocolSlice& s, const flow::Range& twice);
/// The peer sends again what is here: its window is small and waits for every ACK (as Linux).
void acknowledge_quickly(ProtocolSlice& s);
/// Keeps rcv_limit in step with what the application has consumed.
void update_rcv_limit(ProtocolSlice& s);
/// True when the window could be opened by so much that the peer should be told (RFC 9293
/// section 3.8.6.2.2).
bool window_update_due(const ProtocolSlice& s);
/// The window field to announce now; moves rcv_adv.
std::uint16_t announce_window(ProtocolSlice& s);
/// Asks control for a larger receive ring when this one bounds the peer.
void judge_rx_ring(Step& t);

// protocol_urgent.cc
/// Takes the urgent pointer of an acceptable segment with URG, before its payload.
void take_urgent_pointer(Step& t, const RxSummary& seg, std::int64_t seq);
/// Looks whether the urgent byte has come, behind take_payload(). REQUIRES: urgent_wait.
void take_urgent_byte(Step& t);
/// The application has sent urgent data that the peer has not acknowledged. REQUIRES: urgent_sent.
bool urgent_unacknowledged(const ProtocolSlice& s);
/// Takes Line::tx_urgent; it may be a lie.
void note_urgent_sent(ProtocolSlice& s, const AppUpdate& u);
/// The segment in the outcome says where urgent data ends, if that lies ahead. REQUIRES:
/// urgent_sent.
void mark_urgent(Step& t);
/// Before a window probe: a peer whose window is closed shall hear of urgent data too.
void announce_in_probe(ProtocolSlice& s);

// protocol_timer.cc
/// When the retransmission timer that starts now fires: no later than TCP_USER_TIMEOUT allows.
inline Time rto_deadline(const ProtocolSlice& s, Time now) {
  const Time at = now + s.rto;
  const bool bounded = s.user_timeout.ns > 0 && s.backoff > 0;
  return bounded ? std::min(at, s.first_rto + s.user_timeout) : at;
}

// protocol_tx.cc
/// True when next_segment() would find something to do.
bool something_to_send(Step& t);
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
