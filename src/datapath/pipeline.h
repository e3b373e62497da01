// The data path of one flow group: all per-segment work of established connections.
//
//  frame -> pre -> <ingress order> -> protocol -> post -> dma -> <egress order> -> ctxq -> app   RX
//            '-> control (SYN, RST, unknown flow)                        '-> ACK frame
//  app -> ctxq -> pre -> protocol -> post -> scheduler                                           HC
//  scheduler -> pre -> protocol -> post -> dma -> <egress order> -> frame                        TX
//  control -> command ring -> HC;   events -> control
//
// A burst is taken stage by stage. No call allocates, locks, logs, reads a clock or makes a system
// call; the worker loop around it does the I/O and rings the collected doorbells.
// Thread: one worker.
#ifndef TOE_DATAPATH_PIPELINE_H_
#define TOE_DATAPATH_PIPELINE_H_

#include <cstdint>
#include <memory>
#include <span>

#include "base/frame.h"
#include "base/types.h"
#include "datapath/counters.h"
#include "flow/messages.h"
#include "flow/slices.h"
#include "flow/table.h"
#include "wire/parse.h"

namespace toe::datapath {

struct Options {
  wire::RxChecksum rx_checksum = wire::RxChecksum::kVerify;
  bool immediate_ack = false;      ///< --ack=immediate: one ACK per data segment
  Nanos delayed_ack = millis(40);  ///< upper bound, as Linux
  std::uint32_t order_seed = 0;    ///< non-zero (test builds): shuffle items between order points
};

/// Parts of the engine that the data path works with; all outlive it.
struct Links {
  FramePool& frames;
  std::span<flow::Flow> flows;
  flow::FlowTable& table;
  flow::CommandRing& commands;
  flow::EventRing& events;
};

/// What flows and frames hold now. All is 0 when no flow is left and no frame under way.
struct Held {
  std::uint32_t tickets = 0;      ///< taken and not put, of both order points
  std::uint32_t records = 0;      ///< of loss recovery
  std::uint32_t waiting = 0;      ///< entries for delayed ACKs, of the round and of paces
  std::uint32_t keys = 0;         ///< of the flow table
  std::uint32_t frames = 0;       ///< for control, and to be sent
  std::uint32_t messages = 0;     ///< commands and events not read
  std::uint32_t for_control = 0;  ///< of `frames`, so many

  bool operator==(const Held&) const = default;
};

class Pipeline {
 public:
  Pipeline(const Options& options, const Links& links);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /// RX walk of a burst; takes ownership of the frames. REQUIRES: frames.size() <= kBurst.
  void rx(std::span<const Frame> frames, Time now);
  /// HC walk: commands of control, then hints of applications; bounded. True: more is waiting.
  bool hc(Time now);
  /// TX walk: expired delayed ACKs, then at most kBurst scheduled segments. True: more is waiting.
  bool tx(Time now);

  /// Frames to send, in order; the caller takes ownership and calls sent().
  std::span<const Frame> out() const;
  void sent();
  /// Takes the oldest frame for control; SYNs up to a bounded share between two calls of hc().
  bool to_control(Frame& frame);
  /// Numbers of the doorbells to ring (sleeping waiters), then clear_doorbells().
  std::span<const std::uint32_t> doorbells() const;
  void clear_doorbells();

  /// Earliest instant at which tx() has work by itself (delayed ACK, paced flow).
  Time next_deadline() const;
  /// True when an application has posted something since the last hc() (checked before sleeping).
  bool posted() const;

  const Counters& counters() const;
  Held held() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PIPELINE_H_
