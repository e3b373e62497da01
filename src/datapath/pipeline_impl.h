// State of a Pipeline and the parts its files share. Not for other folders.
#ifndef TOE_DATAPATH_PIPELINE_IMPL_H_
#define TOE_DATAPATH_PIPELINE_IMPL_H_

#include <algorithm>
#include <array>

#include "base/limits.h"
#include "datapath/delayed_acks.h"
#include "datapath/order.h"
#include "datapath/pipeline.h"
#include "datapath/protocol.h"
#include "datapath/scheduler.h"
#include "datapath/sequencer.h"
#include "datapath/stage_ctxq.h"
#include "datapath/stage_dma.h"
#include "datapath/stage_post.h"
#include "datapath/stage_pre.h"

namespace toe::datapath {

/// Events that one walk may cause at most; a walk waits while the ring has less room.
inline constexpr std::size_t kEventReserve = 16 * kBurst;
/// SYNs handed to control between two HC walks: a flood must not starve established flows.
inline constexpr std::uint32_t kSynShare = 16;
/// Commands carried out per HC walk.
inline constexpr std::uint32_t kCommandBudget = 4 * kBurst;

static_assert(kEventRing >= 4 * kEventReserve);

struct Pipeline::Impl {
  Impl(const Options& options, const Links& links)
      : protocol_options{options.immediate_ack, options.delayed_ack},
        pools(std::min(static_cast<std::uint32_t>(links.flows.size()), kRecoveryRecords)),
        frames(links.frames),
        one_chunk(links.frames.chunk_bytes() - FramePool::kHeadroom -
                  static_cast<std::uint32_t>(wire::kMaxHeaderBytes)),
        flows(links.flows),
        table(links.table),
        commands(links.commands),
        events(links.events),
        pre({options.rx_checksum}, links.frames, links.flows, links.table, counters),
        post(counters),
        ctxq(links.events, counters),
        scheduler(static_cast<std::uint32_t>(links.flows.size())),
        delayed(static_cast<std::uint32_t>(links.flows.size())),
        order(options.order_seed) {}

  // Walks, stage by stage.
  void rx(std::span<const Frame> burst, Time now);
  void rx_pre(std::span<const Frame> burst);
  std::size_t rx_protocol(Time now);
  void rx_post_dma(std::size_t count);
  void rx_leave(std::size_t count, Time now);
  bool tx(Time now);
  std::size_t tx_protocol(Time now);
  bool tx_one(FlowId flow, Work& work, Time now);
  [[gnu::cold, gnu::noinline]] void add_chunks(Frame& frame, std::uint32_t payload);
  void tx_post_dma(std::size_t count);
  void tx_leave(Time now);
  bool hc(Time now);
  std::uint32_t hc_commands(Time now);
  void hc_updates(Time now);
  bool look(FlowId flow, Step& step);

  // Commands of control.
  void execute(const flow::Command& command, Time now);
  void install(const flow::Command& command, Time now);
  void send_last(FlowId flow, Time now);
  void remove(FlowId flow, Time now);
  void set_congestion(FlowId id, const flow::CongestionParams& params);
  void offer_rx_ring(const flow::Command& command, Time now);
  void offer_tx_ring(const flow::Command& command);
  void renew_tx_ring(const flow::Command& command);
  void on_flow(const flow::Command& command, Time now);

  // What every walk does at its end.
  void finish(FlowId flow, const Outcome& out, Time now);
  void schedule(FlowId flow, Time now);
  void raise(FlowId flow, const Outcome& out, Time now);
  void report_active(FlowId flow);
  void switch_rings(FlowId flow, const Outcome& out);
  void free_old_rings(FlowId flow, std::uint64_t tx_una, std::uint64_t rx_head);
  void ring_event(flow::Event::Kind kind, FlowId flow, shm::RingRef ring);
  void to_control(const Frame& frame, StagePre::Verdict verdict);
  bool room_for_events() const { return events.capacity() - events.size() >= kEventReserve; }

  flow::Flow& at(FlowId id) { return flows[index_of(id)]; }

  Counters counters;
  ProtocolOptions protocol_options;
  RecoveryPools pools;
  FramePool& frames;
  const std::uint32_t one_chunk;  ///< payload that surely fits one chunk with its headers
  std::span<flow::Flow> flows;
  flow::FlowTable& table;
  flow::CommandRing& commands;
  flow::EventRing& events;
  StagePre pre;
  StagePost post;
  StageCtxq ctxq;
  Scheduler scheduler;
  DelayedAcks delayed;
  Order order;
  Sequencer<std::uint16_t> ingress;  ///< before protocol
  Sequencer<std::uint16_t> egress;   ///< before the wire and before publication
  SpscRing<Frame> control_frames{kControlRing};
  SpscRing<Frame> syn_frames{kSynRing};
  std::uint32_t syn_credit = kSynShare;
  std::array<Work, kBurst> work;
  std::array<StagePre::Verdict, kBurst> verdict;
  std::array<std::uint16_t, kBurst> live;
  std::array<Copy, kBurst> copy;
  std::array<Frame, kBurst> out;
  std::size_t out_count = 0;
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_PIPELINE_IMPL_H_
