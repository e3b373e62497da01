// Work: one item on its way through the stages. A value; stages pass it on and never keep it.
#ifndef TOE_DATAPATH_WORK_H_
#define TOE_DATAPATH_WORK_H_

#include <cstdint>
#include <type_traits>

#include "base/frame.h"
#include "base/types.h"
#include "datapath/sack_report.h"
#include "flow/messages.h"

namespace toe::datapath {

enum class Walk : std::uint8_t { kRx, kTx, kHc };

/// What pre leaves of a received segment: sequence numbers relative to position 0.
struct RxSummary {
  std::uint32_t seq = 0;  ///< low 32 bits of the position of the first payload byte
  std::uint32_t ack = 0;  ///< low 32 bits of the acknowledged position
  std::uint32_t tsval = 0;
  std::uint32_t tsecr = 0;
  std::uint16_t window = 0;  ///< as in the header, unscaled
  std::uint16_t payload_offset = 0;
  std::uint16_t payload_length = 0;
  std::uint8_t flags = 0;
  std::uint8_t ecn = 0;
  bool has_timestamp = false;
  std::uint8_t sack_count = 0;
  std::uint16_t urgent = 0;    ///< pointer of the header; what follows is set with kUrg only
  bool urgent_inline = false;  ///< the application reads urgent bytes in the stream
  std::uint64_t app_head = 0;  ///< Line::rx_head; unchecked
  wire::SackBlock sack[wire::kMaxSackBlocks];  ///< the first sack_count; relative as seq and ack
};

/// What ctxq read from a line, once.
struct AppUpdate {
  std::uint64_t tx_tail = 0;
  std::uint64_t rx_head = 0;
  std::uint64_t tx_switch = 0;
  bool tx_switched = false;         ///< the offered send ring was taken at tx_switch
  std::uint32_t tx_ring_bytes = 0;  ///< its size
  std::uint32_t app_flags = 0;
  std::uint64_t tx_urgent = 0;  ///< with kUrgentSent; unchecked
  // Options, if options_changed; unchecked.
  bool options_changed = false;
  std::uint32_t options_epoch = 0;
  std::uint32_t keep_idle_s = 0;
  std::uint32_t keep_interval_s = 0;
  std::uint32_t keep_count = 0;
  std::uint32_t user_timeout_ms = 0;
};

/// What the protocol stage decided: a snapshot, the contract of all later stages.
struct Outcome {
  enum EventBit : std::uint16_t {
    kClosed = 1u << 0,
    kArm = 1u << 1,
    kRound = 1u << 2,
    kLoss = 1u << 3,
    kTimeout = 1u << 4,
    kProgress = 1u << 5,
    kWantRxRing = 1u << 6,
    kWantTxRing = 1u << 7,
    kHalfClosed = 1u << 8,
    kRxSwitch = 1u << 9,  ///< receive into the offered ring from `rx_switch` on
    kRxSwitchRefused = 1u << 10,
    kTxSwitch = 1u << 11,  ///< send from the offered ring from `tx_switch` on
    kRtt = 1u << 12,       ///< see flow::Event
    kMarks = 1u << 13,
    kUndo = 1u << 14,
  };
  // To the application.
  std::uint64_t copy_pos = 0;     ///< where the payload goes
  std::uint16_t copy_offset = 0;  ///< first payload byte wanted, within the frame
  std::uint16_t copy_length = 0;
  bool publish = false;
  bool hint_rx = false;
  bool hint_tx = false;
  std::uint64_t rx_tail = 0;
  std::uint64_t tx_una = 0;
  std::uint32_t line_flags = 0;  ///< shm::LineFlag
  std::uint32_t error = 0;
  bool line_closed = false;
  bool urgent_news = false;  ///< the next three have changed
  bool urgent_here = false;  ///< the byte before rx_urgent is there
  std::uint64_t rx_urgent = 0;
  flow::Range rx_skip;
  // To the wire (TX walk).
  bool transmit = false;
  bool retransmission = false;
  std::uint8_t tcp_flags = 0;
  std::uint8_t ecn = 0;  ///< of the IP header
  std::uint16_t payload_length = 0;
  std::uint16_t window = 0;
  std::uint16_t urgent = 0;  ///< with kUrg
  std::uint64_t seq = 0;     ///< position
  std::uint64_t ack = 0;     ///< position
  std::uint32_t tsval = 0;
  std::uint32_t tsecr = 0;
  SackReport sack;  ///< blocks to report; only on an ACK without payload
  // To scheduler, control and statistics.
  bool schedule = false;   ///< the flow has something to send (or an ACK is due)
  bool delay_ack = false;  ///< enter the delayed-ACK queue
  std::uint16_t events = 0;
  flow::Event::Close close = flow::Event::Close::kDone;
  std::uint64_t rx_switch = 0;
  std::uint64_t tx_switch = 0;
  Time arm_at;
};

struct Work {
  Walk walk = Walk::kRx;
  FlowId flow = kNoFlow;
  std::uint32_t ticket = 0;  ///< ingress ticket, then egress ticket
  Frame frame;
  RxSummary rx;
  Outcome out;
};
static_assert(std::is_trivially_copyable_v<Work>);

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_WORK_H_
