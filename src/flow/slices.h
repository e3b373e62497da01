// One connection as data, split by the stage that owns each part.
//
// Ownership: control fills a record and hands it to the data path with Command::kInstall; from
// then on pre reads PreSlice, protocol alone writes ProtocolSlice, post alone writes PostSlice,
// until Event::kRemoved hands the record back to control. No locks: ownership moves by message.
//
// Positions: both streams are counted in 64-bit positions; 0 is the first byte after the SYN, so
// position p has sequence number ISS + 1 + p (mod 2^32). A FIN occupies one position.
#ifndef TOE_FLOW_SLICES_H_
#define TOE_FLOW_SLICES_H_

#include <cstddef>
#include <cstdint>

#include "base/limits.h"
#include "base/types.h"
#include "flow/key.h"
#include "flow/loss_state.h"
#include "flow/pool.h"
#include "flow/reassembly.h"
#include "shm/segment_format.h"
#include "wire/build.h"

namespace toe::flow {

/// Round-trip times per round from which HyStart++ judges (RFC 9406: N_RTT_SAMPLE).
inline constexpr std::uint16_t kRoundRttSamples = 8;

/// Parameters that congestion control gives and the protocol stage applies (one fixed rule).
struct CongestionParams {
  std::uint32_t cwnd_cnt = 0;  ///< bytes acked per segment of growth above ssthresh; 0 = cwnd
  std::uint32_t ssthresh = 0xffffffffu;  ///< bytes
  std::uint32_t cwnd_cap = 0xffffffffu;  ///< bytes: upper bound of cwnd
  std::uint16_t loss_beta = 717;  ///< cwnd after a loss event, in 1/1024 of cwnd (CUBIC: 0.7)
  std::uint16_t ecn_beta = 717;   ///< the same after a window with marks (ECE)
  /// Segments of growth per ACK at most (RFC 3465: L). As good as none, as Linux: a receiver that
  /// coalesces acknowledges whole bursts at once, and would else be taken for a slow one.
  std::uint8_t slow_start_limit = 255;
  std::uint8_t slow_start_divisor = 1;  ///< growth in slow start is divided by this
  bool watch_rtt = false;    ///< measure every ACK's round trip in slow start; Event::kRtt
  bool every_round = false;  ///< Event::kRound also when the application was the limit
  /// DCTCP (RFC 8257): marks are echoed exactly, and all that leaves is ECT; if ECN is on.
  bool exact_marks = false;
  /// ProtocolSlice::reductions as control knew it: a threshold that is older says nothing.
  std::uint16_t as_of = 0;
  std::uint64_t pacing_bytes_per_s = 0;  ///< 0 = unpaced

  bool operator==(const CongestionParams&) const = default;
};

/// Read by pre; written by control while it owns the record.
struct PreSlice {
  FlowKey key;
  std::uint32_t iss = 0;  ///< our initial sequence number
  std::uint32_t irs = 0;  ///< the peer's
};

/// Urgent data (RFC 9293 section 3.8.5, RFC 6093). Pointers are one past the urgent byte.
struct UrgentState {
  std::uint64_t snd_up = 0;
  std::uint64_t rcv_up = 0;
  Range skip;  ///< urgent bytes that later ones replaced while the reader stood before them
};

/// In this order: what is at least kRecovery repairs losses.
enum class CaState : std::uint8_t {
  kOpen,
  kCwr,  ///< cwnd falls because of marks (RFC 3168 section 6.1.2)
  kRecovery,
  kLoss,
};

/// Bits of ProtocolSlice::ecn; all are 0 on a connection without ECN.
enum EcnBit : std::uint8_t {
  kEcnOn = 1u << 0,      ///< negotiated
  kEcnSeen = 1u << 1,    ///< the peer has sent something ECT or marked
  kEcnEcho = 1u << 2,    ///< what leaves carries ECE; DCTCP: the last data was marked
  kEcnEchoed = 1u << 3,  ///< ECE has left since the latch was set
  kEcnCwrDue = 1u << 4,  ///< the next new data carries CWR
};

/// TCP state of an established connection (RFC 9293 names). Written by the protocol stage only.
/// Fields stand in cache lines by use: a request and its response touch the first kHotLines.
struct ProtocolSlice {
  static constexpr std::uint32_t kHotLines = 7;

  // Send side.
  std::uint64_t snd_una = 0;   ///< oldest unacknowledged position
  std::uint64_t snd_nxt = 0;   ///< next position to send; moves back on retransmission
  std::uint64_t snd_max = 0;   ///< highest position ever sent + 1 (FIN included)
  std::uint64_t snd_end = 0;   ///< end of the bytes the application has written
  std::uint64_t snd_push = 0;  ///< end of the application's last whole write
  std::uint64_t snd_sml = 0;   ///< end of the last segment sent shorter than mss (Nagle, Minshall)
  std::uint64_t snd_wl1 = 0;   ///< receive position of the last window update
  std::uint64_t snd_wl2 = 0;   ///< ack position of the last window update
  // Receive side.
  std::uint64_t rcv_nxt = 0;
  std::uint64_t rcv_adv = 0;           ///< right window edge announced so far; never moves back
  std::uint64_t rcv_limit = 0;         ///< right edge that the rings allow (head + ring bytes)
  std::uint64_t rcv_head = 0;          ///< consumed by the application
  std::uint64_t rcv_switch = 0;        ///< first position of the current receive ring
  std::uint64_t rcv_fin = UINT64_MAX;  ///< position of the peer's FIN, once seen
  std::uint64_t last_ack_sent = 0;     ///< rcv_nxt of the last ACK that left (Last.ACK.sent)
  std::uint64_t rcv_round_pos = 0;     ///< rcv_nxt at rcv_round_start
  PoolId ranges = 0;                   ///< out-of-order data (datapath::ReceiveRanges); 0 = none
  // Windows, congestion (RFC 5681, RFC 6582), flags.
  std::uint32_t snd_wnd = 0;  ///< peer's window in bytes, scaled
  std::uint32_t max_snd_wnd = 0;
  std::uint32_t cwnd = 0;
  std::uint32_t cwnd_acked = 0;  ///< bytes acked towards the next step above ssthresh
  std::uint32_t discount = 0;    ///< outstanding bytes that are sacked or lost: not in flight
  PoolId board = 0;              ///< scoreboard (datapath::Scoreboard); 0 = none
  CongestionParams cc;
  std::uint16_t mss = 536;        ///< largest payload of a segment (options subtracted)
  std::uint16_t rcv_mss = 536;    ///< estimate of the peer's segment size, for delayed ACKs
  std::uint16_t last_length = 0;  ///< of the last segment with new data; a FIN counts as a byte
  std::uint8_t snd_wscale = 0;    ///< shift for windows the peer announces
  std::uint8_t rcv_wscale = 0;    ///< shift for windows we announce
  CaState ca_state = CaState::kOpen;
  std::uint8_t dup_acks = 0;
  std::uint8_t backoff = 0;          ///< consecutive retransmission timeouts
  std::uint8_t probes = 0;           ///< persist or keep-alive probes without an answer
  std::uint8_t persist_backoff = 0;  ///< persist probes since the window closed
  std::uint8_t quick_acks = 0;       ///< segments still to be acknowledged at once
  std::uint8_t more_acks = 0;        ///< owed behind that of ack_now, for segments out of order
  bool ack_now = false;              ///< an ACK is due: the next segment, or one of its own
  bool ack_delayed = false;          ///< an ACK waits in the delayed-ACK queue
  bool sack_due = false;  ///< the ACK that is due reports blocks, or marks apart: it leaves alone
  bool pingpong = false;  ///< the application answers what it reads: delay ACKs
  bool cwnd_limited = false;  ///< cwnd bounded sending in this round
  bool fin_queued = false;    ///< the application closed its side: FIN at snd_end
  bool fin_acked = false;
  bool active_close = false;   ///< our FIN left before the peer's came: TIME-WAIT is ours
  bool shut_both = false;      ///< shut in both directions, still held: new data ends it
  bool orphan = false;         ///< no process holds it: new data is answered by RST
  bool closed = false;         ///< ended; only removal is left
  bool rst_pending = false;    ///< the next segment is an RST
  bool probe_pending = false;  ///< the next segment is a window or keep-alive probe
  bool override_sws = false;   ///< the next segment may be short (RFC 9293 3.8.6.2.1)
  bool rx_ring_asked = false;  ///< kWantRxRing was said
  bool tx_ring_asked = false;  ///< kWantTxRing was said
  bool tx_ring_want = false;   ///< the application found the send ring full
  bool ts_on = false;          ///< timestamps negotiated (RFC 7323)
  bool sack_on = false;
  bool careful = false;       ///< loss recovery wants to see every ACK
  bool reorder_wait = false;  ///< probe_at is RACK's reordering timer, else the tail probe's
  bool tail_probe = false;    ///< the next segment is a tail loss probe (RFC 8985 section 7)
  std::uint8_t ecn = 0;       ///< EcnBit
  bool nodelay = false;
  bool cork = false;
  bool keepalive = false;
  bool timed_rtt = false;    ///< rtt_pos is being timed
  bool rto_doubled = false;  ///< by a timeout, and no round trip has been measured since
  bool urgent_sent = false;  ///< urgent.snd_up says something
  bool urgent_seen = false;  ///< urgent.rcv_up says something
  bool urgent_wait = false;  ///< the byte before urgent.rcv_up has not come yet
  bool urgent_due = false;   ///< the next probe tells the peer of urgent data first
  // Timers: instants, Time::never() = off. Control looks at the flow no later than armed_until.
  std::uint32_t ts_recent = 0;
  std::uint32_t ts_offset = 0;  ///< added to the millisecond clock for TSval
  Time rto_at = Time::never();
  Time probe_at = Time::never();  ///< never behind rto_at
  Time persist_at = Time::never();
  Time keepalive_at = Time::never();
  Time armed_until = Time::never();
  Time ack_at = Time::never();  ///< delayed ACK; kept by the data path's own queue
  Time sent_at;                 ///< when new data left last
  std::uint64_t rtt_pos = 0;
  Time rtt_start;
  // Round-trip time (RFC 6298), rounds.
  Nanos srtt{0};
  Nanos rttvar{0};
  Nanos rto = seconds(1);
  Nanos min_rtt{INT64_MAX};  ///< least of the last minutes
  Time ts_recent_age;
  Time last_heard;                   ///< last acceptable segment, for keep-alive
  Time last_data;                    ///< last segment that carried new data
  Time rcv_round_start;              ///< growth of the receive ring is judged over one round
  std::uint64_t round_end = 0;       ///< snd_nxt when the current round trip began
  std::uint64_t rexmit_end = 0;      ///< NewReno: retransmit [snd_una, rexmit_end)
  std::uint64_t snd_switch = 0;      ///< first position of the current send ring
  std::uint32_t snd_ring_bytes = 0;  ///< size of the current send ring (control sets it)
  std::uint32_t rcv_ring_bytes = 0;  ///< size of the current receive ring (control sets it)
  Time min_rtt_at;                   ///< when min_rtt was measured
  // Congestion control's view of a round; touched while cwnd is the limit, or by marks.
  Nanos round_rtt{0};               ///< least round-trip time of the present round
  Nanos last_round_rtt{0};          ///< of the one that ended last
  std::uint16_t round_samples = 0;  ///< round-trip times measured in the present round
  std::uint16_t last_round_samples = 0;
  bool last_round_limited = false;  ///< cwnd_limited when it ended
  // Cold.
  LossState loss;
  std::uint64_t recover = 0;         ///< end of the window in which loss was found
  std::uint64_t mark_end = 0;        ///< the same for marks: until then ECE says nothing new
  std::uint64_t rcv_last_round = 0;  ///< bytes received in the round before rcv_round_start
  std::uint64_t ce_acked = 0;        ///< bytes ever acknowledged by segments with ECE
  std::uint32_t ce_pending = 0;      ///< DCTCP: bytes that came marked and are not acknowledged
  UrgentState urgent;
  Range duplicate;  ///< received twice and not reported yet (RFC 2883)
  Time oow_ack_at;  ///< last ACK sent for an unacceptable segment (RFC 5961)
  Time first_rto;   ///< first timeout, or probe of a closed window, of the present series
  Nanos keep_idle = seconds(7200);
  Nanos keep_interval = seconds(75);
  Nanos user_timeout{0};
  Nanos min_rto = millis(200);
  std::uint32_t keep_count = 9;
  std::uint16_t reductions = 0;  ///< of ssthresh so far, and how often one was taken back
  std::uint16_t soft_error = 0;  ///< errno of an unreachable since the last progress
};
static_assert(offsetof(ProtocolSlice, loss) <= ProtocolSlice::kHotLines * kCacheLine);

/// What later stages need: headers, rings, statistics. Written by the post stage only.
struct PostSlice {
  wire::HeaderTemplate header;
  std::uint32_t iss = 0;
  std::uint32_t irs = 0;
  SegmentId segment = kNoSegment;
  std::uint32_t line = 0;
  shm::RingRef rx_ring[2];  ///< [1] serves positions >= rx_switch, [0] those before
  shm::RingRef tx_ring[2];  ///< [1] serves positions >= tx_switch, [0] those before
  std::uint64_t rx_switch = 0;
  std::uint64_t tx_switch = 0;
  shm::RingRef rx_next;             ///< offered by control, not yet switched to
  shm::RingRef tx_next;             ///< offered to the application, not yet taken
  std::uint32_t rx_epoch = 0;       ///< as Line::rx_epoch
  std::uint32_t tx_offers = 0;      ///< as Line::tx_offered
  std::uint32_t options_epoch = 0;  ///< Line::options_epoch when options were last taken
  bool watched = false;             ///< kActive is due at the next move of bytes
  // Statistics.
  std::uint64_t bytes_received = 0, bytes_acked = 0, bytes_sent = 0, bytes_retrans = 0;
  std::uint32_t segs_in = 0, segs_out = 0, data_segs_in = 0, data_segs_out = 0, retrans = 0;
  Time opened;
};

/// The whole record.
struct Flow {
  PreSlice pre;
  alignas(kCacheLine) ProtocolSlice protocol;
  alignas(kCacheLine) PostSlice post;
};

}  // namespace toe::flow

#endif  // TOE_FLOW_SLICES_H_
