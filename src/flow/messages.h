// What control and data path say to each other: commands down, events up, through two bounded
// rings of trivially copyable values. Neither side ever waits for the other.
#ifndef TOE_FLOW_MESSAGES_H_
#define TOE_FLOW_MESSAGES_H_

#include <cstdint>
#include <type_traits>

#include "base/spsc_ring.h"
#include "base/types.h"
#include "flow/slices.h"
#include "shm/segment_format.h"

namespace toe::flow {

/// Control -> data path, carried out in order at the start of the HC walk.
struct Command {
  enum class Kind : std::uint8_t {
    kAddSegment,     ///< segment, base: a segment exists now
    kRemoveSegment,  ///< segment: forget it; answered by Event::kSegmentRemoved. REQUIRES: no
                     ///< flow and no context in it
    kOpenContext,    ///< segment, slot, doorbell, client: start taking hints from it; answered by
                     ///< Event::kContextOpened
    kCloseContext,  ///< segment, slot: stop, its process is gone; answered by Event::kContextClosed
    kInstall,       ///< flow: the record is filled; publish its line and start. With `line` != 0
                    ///< announce it on that listener's line of the same segment: entry
                    ///< `accept_index` of the accept ring `ring` (with the `generation` of the
                    ///< connection's line), then rx_tail = accept_index + 1
    kRemove,        ///< flow: take it out; answered by Event::kRemoved
    kTimer,         ///< flow: its deadline may have come
    kCongestion,    ///< flow, cc: new parameters
    kSetHeader,     ///< flow, header: next hop, device or local address changed
    kOrphan,        ///< flow, reset: no process holds it any more; `reset` = end it by RST
    kAbort,         ///< flow, error, reset: end it now, with an RST to the peer if `reset`
    kOfferRxRing,   ///< flow, ring: switch receiving to this larger ring
    kOfferTxRing,   ///< flow, ring: offer this larger send ring to the application
    kRenewTxRing,   ///< flow, ring: kOfferTxRing for a flow at rest: the present ring comes back at
                    ///< once (kTxRingFree) unless the application is writing into it
    kWatch,         ///< flow: say kActive when its bytes move again
    kNotify,        ///< segment, line: control changed the line; hint whoever is interested
    kSetMss,        ///< flow, mss: path MTU changed
    kSoftError,     ///< flow, error: what to report should the flow time out
  };
  Kind kind;
  bool reset = false;
  std::uint16_t mss = 0;
  FlowId flow = kNoFlow;
  SegmentId segment = kNoSegment;
  std::uint32_t line = 0;  ///< kNotify; kInstall: listener's line to announce it on, 0 = none
  std::uint32_t slot = 0;
  std::uint32_t doorbell = 0;  ///< number that comes back in Pipeline::doorbells()
  std::uint32_t error = 0;
  ClientId client = kNoClient;
  shm::RingRef ring{};  ///< kOffer*Ring; kInstall: the listener's accept ring
  std::uint32_t generation = 0;
  std::uint64_t accept_index = 0;  ///< kInstall with `line` (never read from shared memory)
  std::uint8_t* base = nullptr;
  CongestionParams cc{};
  const wire::HeaderTemplate* header = nullptr;  ///< valid until Event::kHeaderTaken
};
static_assert(std::is_trivially_copyable_v<Command>);

/// Data path -> control.
struct Event {
  enum class Kind : std::uint8_t {
    kRemoved,         ///< flow: the record is control's again; rings and line may be freed
    kClosed,          ///< flow, close, error: both directions have ended
    kArm,             ///< flow, at: look at the flow at this instant
    kRound,           ///< flow, sample: a round trip ended while cwnd was the limit
    kLoss,            ///< flow, sample: fast retransmit began
    kRtt,             ///< flow, sample: enough round-trip times of a round in slow start
    kMarks,           ///< flow, sample: ECE; cwnd goes down by ecn_beta within a round trip
    kTimeout,         ///< flow, sample: retransmission timeout; neighbour may be stale
    kUndo,            ///< flow, sample: the last reduction was wrong and is taken back
    kProgress,        ///< flow: acknowledged after a timeout
    kHold,            ///< segment, line, client, slot: a process accepted the line
    kRelease,         ///< segment, line, client, reset: a process gave the line up
    kWantRxRing,      ///< flow: the receive ring limits the peer
    kWantTxRing,      ///< flow: the send ring limits the application
    kRxRingFree,      ///< flow, ring: the receive ring before the last switch is free
    kTxRingFree,      ///< flow, ring: the same for sending
    kMisbehaved,      ///< client, reason: its shared memory holds nonsense: disconnect it
    kHeaderTaken,     ///< flow, header: the template of kSetHeader was copied
    kActive,          ///< flow: bytes were received or acknowledged; said once after kWatch
    kHalfClosed,      ///< flow: our FIN is acknowledged, the peer's has not come (FIN-WAIT-2)
    kContextOpened,   ///< segment, slot: hints from it are taken and given from now on
    kContextClosed,   ///< segment, slot: nothing more is taken from it, said of it or hinted to it
    kSegmentRemoved,  ///< segment: kRemoveSegment is done, nothing refers to its memory any more
  };
  enum class Close : std::uint8_t {
    kTimeWait,  ///< we closed first: TIME-WAIT follows
    kDone,      ///< passive close completed (LAST-ACK answered)
    kReset,     ///< RST received
    kAborted,   ///< RST sent
    kTimedOut,  ///< gave up retransmitting or probing
  };
  /// What congestion control reads; a snapshot, never a pointer into the flow. With kLoss, kMarks
  /// and kTimeout it is taken after ssthresh was reduced (to loss_beta or ecn_beta of cwnd). Bytes
  /// are counted from the start of the connection; users take differences.
  struct Sample {
    Time now;
    std::uint32_t cwnd = 0, ssthresh = 0, mss = 0, in_flight = 0;
    Nanos srtt{0}, min_rtt{0};
    std::uint64_t acked = 0;          ///< snd_una
    std::uint64_t ce_acked = 0;       ///< of `acked`, bytes acknowledged with ECE
    Nanos round_rtt{0};               ///< least round-trip time of the round: with kRound the one
                                      ///< that ended, else the present one
    std::uint32_t round_samples = 0;  ///< that it was taken from; 0 = round_rtt means nothing
    bool cwnd_limited = false;        ///< cwnd bounded sending in that round
    std::uint16_t reductions = 0;     ///< ProtocolSlice::reductions
  };
  Kind kind;
  Close close = Close::kDone;
  bool reset = false;
  FlowId flow = kNoFlow;
  SegmentId segment = kNoSegment;
  std::uint32_t line = 0;
  std::uint32_t slot = 0;
  std::uint32_t error = 0;
  ClientId client = kNoClient;
  Time at;
  shm::RingRef ring;
  Sample sample{};
  const char* reason = nullptr;  ///< a string literal
  const wire::HeaderTemplate* header = nullptr;
};
static_assert(std::is_trivially_copyable_v<Event>);

/// The flow as congestion control sees it. `round_ended`: for kRound.
inline Event::Sample sample_of(const ProtocolSlice& s, Time now, bool round_ended) {
  Event::Sample m;
  m.now = now;
  m.cwnd = s.cwnd;
  m.ssthresh = s.cc.ssthresh;
  m.mss = s.mss;
  m.in_flight = static_cast<std::uint32_t>(s.snd_max - s.snd_una);
  m.srtt = s.srtt;
  m.min_rtt = s.min_rtt;
  m.acked = s.snd_una;
  m.ce_acked = s.ce_acked;
  m.round_rtt = round_ended ? s.last_round_rtt : s.round_rtt;
  m.round_samples = round_ended ? s.last_round_samples : s.round_samples;
  m.reductions = s.reductions;
  m.cwnd_limited = round_ended ? s.last_round_limited : s.cwnd_limited;
  return m;
}

using CommandRing = SpscRing<Command>;
using EventRing = SpscRing<Event>;

}  // namespace toe::flow

#endif  // TOE_FLOW_MESSAGES_H_
