// Control: everything of TCP that is rare or complicated. Handshakes, RST for unknown segments,
// TIME-WAIT, timers, congestion control parameters, routes, admission of applications.
//
// Pure: frames, requests, `now` and random seeds come in as arguments; frames, replies and
// commands go out through World and the command ring.
// Thread: one. Every call is bounded (about 20 us); poll() returns true when work is left.
#ifndef TOE_CONTROL_CONTROL_H_
#define TOE_CONTROL_CONTROL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "control/congestion/congestion.h"
#include "control/world.h"
#include "flow/messages.h"
#include "flow/slices.h"
#include "flow/table.h"

namespace toe::control {

/// When a SYN is answered without keeping a record of it.
enum class SynCookies : std::uint8_t {
  kNever,
  kWhenFull,  ///< backlog or table of half-open connections full
  kAlways,    ///< for tests
};

/// Explicit congestion notification (RFC 3168), as Linux tcp_ecn. Connections under DCTCP ask for
/// it and accept it in any case.
enum class Ecn : std::uint8_t {
  kOff,
  kRequest,  ///< ask peers for it, and accept it
  kAccept,   ///< when a peer asks
};

/// Settings with defaults and reasons. Read once.
struct Options {
  std::uint32_t max_flows = kDefaultMaxFlows;
  std::uint32_t max_flows_per_user = 32768;  ///< one user cannot take all records
  std::uint64_t max_ring_bytes_per_user = 2ull << 30;
  std::uint32_t max_connecting_per_user = 8192;  ///< half of the half-open connections
  std::uint32_t max_listeners_per_user = kMaxListeners / 2;
  std::uint32_t initial_ring_bytes = 16 * 1024;
  std::uint32_t max_rx_ring_bytes = 4 << 20;  ///< autotuning bound without SO_RCVBUF
  std::uint32_t max_tx_ring_bytes = 4 << 20;
  Nanos ring_rest = seconds(1);  ///< a ring that is empty for so long gives its pages back
  std::uint32_t max_time_wait = 65536;
  Nanos time_wait = seconds(60);   ///< as Linux
  Nanos min_rto = millis(200);     ///< as Linux; lower in data centres
  Nanos initial_rto = seconds(1);  ///< RFC 6298
  std::uint32_t syn_retries = 6;   ///< as Linux tcp_syn_retries
  std::uint32_t synack_retries = 5;
  SynCookies syn_cookies = SynCookies::kWhenFull;  ///< as Linux tcp_syncookies
  std::uint16_t link_mtu = 1500;  ///< of DEV: bounds the MSS where no route is looked up
  std::uint32_t retries2 = 15;    ///< give-up, as Linux tcp_retries2
  Nanos fin_wait2 = seconds(60);  ///< orphans only, as Linux tcp_fin_timeout
  std::uint32_t max_orphans = 8192;
  std::uint32_t max_orphans_per_user = 4096;  ///< or one user's would end those of others
  bool sack = true;                           ///< offer and take SACK (RFC 2018)
  Ecn ecn = Ecn::kAccept;
  char congestion[16] = "cubic";
  CongestionSettings cc;
  std::uint8_t partial_checksum_ok = 0;  ///< wire::RxChecksum of the port
};

/// Secrets and seeds, drawn by the caller.
struct Secrets {
  flow::HashKey isn;  ///< RFC 6528
  std::uint64_t random = 0;
};

/// Parts of the engine that control works with; all outlive it.
struct Links {
  FramePool& frames;
  std::span<flow::Flow> flows;  ///< records; control owns those not installed
  flow::CommandRing& commands;
  flow::EventRing& events;
  World& world;
};

/// See world.h. `rows` is reserved by the asker (capacity bounds the dump).
struct Dump {
  std::vector<ConnRecord> rows;
  std::uint32_t next = 0;  ///< control's cursor
  bool time_wait = false;
  bool truncated = false;
  std::atomic<bool> done{false};
};

/// Counters of control, read by any thread (relaxed).
// clang-format off
#define TOE_CONTROL_COUNTERS(X) \
  X(passive_opens) \
  X(active_opens) \
  X(attempt_fails) \
  X(estab_resets) \
  X(out_resets) \
  X(syn_received) \
  X(syn_dropped_backlog) \
  X(syn_dropped_limit) \
  X(syn_no_listener) \
  X(listen_not_steered) \
  X(ecn_negotiated) \
  X(ecn_fallbacks) \
  X(syn_cookies_sent) \
  X(syn_cookies_received) \
  X(syn_cookies_failed) \
  X(time_wait_created) \
  X(time_wait_reused) \
  X(timeouts) \
  X(orphans) \
  X(misbehaved) \
  X(user_limits) \
  X(accepts) \
  X(ring_grown) \
  X(ring_refused) \
  X(rings_renewed) \
  X(stray_segments) \
  X(handshake_segments) \
  X(time_wait_segments) \
  X(frames_given_back) \
  X(destinations_refused) \
  X(icmp_too_big) \
  X(icmp_unreachable) \
  X(icmp_ignored)
// clang-format on

// X(name): a segment that led to nothing, or an answer that did not leave, by reason. Segments of
// handshakes and of TIME-WAIT count beside in handshake_segments and time_wait_segments.
#define TOE_CONTROL_DROPS(X)                                                \
  X(unparsed)           /* did not stand a second look */                   \
  X(own_source)         /* claims to come from its destination (land) */    \
  X(syn_stopping)       /* SYN while the engine ends */                     \
  X(syn_no_route)       /* SYN without way back, or none found in time */   \
  X(handshake_waiting)  /* while route or steering was awaited */           \
  X(handshake_repeated) /* SYN sent again within half a second */           \
  X(handshake_outside)  /* outside the window, too old, or a SYN inside */  \
  X(handshake_bad_ack)  /* does not acknowledge our SYN */                  \
  X(handshake_bad_rst)  /* RST not at the edge, or without our SYN's ACK */ \
  X(handshake_no_flag)  /* neither SYN nor ACK, whichever was due */        \
  X(handshake_busy)     /* no room for commands to the data path */         \
  X(ahead_of_cookie)    /* data that overtook the ACK with its cookie */    \
  X(time_wait_refused)  /* RST, or answered already a moment ago */         \
  X(control_no_frame)   /* an answer, frame pool exhausted */

/// What became of frames is complete: each counts in one of unparsed, own_source,
/// frames_given_back, handshake_segments, time_wait_segments, syn_received, syn_no_listener,
/// syn_stopping and stray_segments.
struct Counters {
#define TOE_DECLARE(name) std::atomic<std::uint64_t> name{0};
  TOE_CONTROL_COUNTERS(TOE_DECLARE)
  struct Drops {
    TOE_CONTROL_DROPS(TOE_DECLARE)
  } drops;
#undef TOE_DECLARE
  /// Frames of which it is known what became of them.
  std::uint64_t explained() const;
};

class Control {
 public:
  Control(const Options& options, const Secrets& secrets, const Links& links);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  /// A frame that belongs to no established flow, or that pre does not handle. Takes ownership.
  void on_frame(Frame frame, Time now);
  /// A checked message of another thread.
  void on_request(const Request& request, Time now);
  /// Takes events, fires due timers, goes on with dumps; bounded. True: call again soon.
  bool poll(Time now);
  /// When poll() wants to be called next at the latest.
  Time next_deadline() const;

  const Counters& counters() const;
  std::uint32_t flows_in_use() const;
  /// True when neither flow, record nor timer is left (tests; clean exit).
  bool quiet() const;
  /// True when also nothing is left of programs, all of which have gone: sockets, ports in use,
  /// rings that await their pages' return.
  bool empty() const;
  /// Bytes of payload and accept rings in all segments.
  std::uint64_t ring_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_CONTROL_H_
