// Protocol stage.
//
// Purpose: the only place that changes TCP state of an established connection.
// In: the ProtocolSlice of one flow and one happening: a segment, an application's update, a timer,
//     a chance to send.
// Out: an Outcome: snapshot for post, dma and ctxq; nothing is looked up later.
// State: the ProtocolSlice in the Step, and the records of the pools that it names; nothing else.
// Thread: the worker that owns the flow's group.
// Cost: constant per call; no memory, no clock, no queue.
// Drops: by reason in Counters::drops.
//
// Pure functions: (slice, input, now) -> (slice, outcome).
#ifndef TOE_DATAPATH_PROTOCOL_H_
#define TOE_DATAPATH_PROTOCOL_H_

#include "base/types.h"
#include "datapath/counters.h"
#include "datapath/recovery_pools.h"
#include "datapath/work.h"
#include "flow/slices.h"

namespace toe::datapath {

using flow::ProtocolSlice;

/// Settings of the stage that are the same for all flows.
struct ProtocolOptions {
  bool immediate_ack = false;
  Nanos delayed_ack = millis(40);
};

/// One call of the stage: the slice it may change with its borrowed records, the instant, and where
/// results go.
struct Step {
  const ProtocolOptions& options;
  Counters& counters;
  RecoveryPools& pools;
  ProtocolSlice& s;
  Time now;
  Outcome& out;
};

/// Right after installation: what the application must see, and the first deadline.
void on_start(Step& t);
/// A received segment (RFC 9293 section 3.10.7.4, synchronized states).
void on_segment(Step& t, const RxSummary& seg);
/// The application moved its positions or closed. False: its words cannot be true.
bool on_app(Step& t, const AppUpdate& update);
/// Fills the outcome with the next segment to send, if any (out.transmit): at most one per call;
/// out.schedule says that more may follow.
void next_segment(Step& t);
/// As next_segment(), for a flow whose pace forbids data now: what carries none may leave.
void next_bare_segment(Step& t);
/// True when next_bare_segment() would find something to do.
inline bool bare_segment_due(const ProtocolSlice& s) {
  return s.ack_now || s.rst_pending || s.probe_pending;
}
/// The deadline may have come.
void on_timer(Step& t);
/// The flow's entry in the delayed-ACK queue has come up.
void on_delayed_ack(Step& t);
/// The last holder is gone. `reset`: end by RST (unread input, or linger of zero).
void on_orphan(Step& t, bool reset);
/// Ends the flow now; an RST leaves if `reset`.
void on_abort(Step& t, std::uint32_t error, bool reset);
/// The path takes segments of at most `mss` payload bytes from now on.
void on_mss(Step& t, std::uint16_t mss);
/// A receive ring of `bytes` is there: switch to it (kRxSwitch), or refuse (kRxSwitchRefused).
void switch_rx_ring(Step& t, std::uint32_t bytes);

/// Gives back what the flow has borrowed; its record goes back to control.
void give_back(RecoveryPools& pools, ProtocolSlice& s);

/// End of the in-order bytes for the application (without the FIN's position).
inline std::uint64_t rx_tail(const ProtocolSlice& s) {
  return s.rcv_nxt < s.rcv_fin ? s.rcv_nxt : s.rcv_fin;
}
inline bool fin_received(const ProtocolSlice& s) { return s.rcv_nxt > s.rcv_fin; }
inline bool fin_sent(const ProtocolSlice& s) { return s.fin_queued && s.snd_max > s.snd_end; }

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PROTOCOL_H_
