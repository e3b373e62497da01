#include "engine/core.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/limits.h"

namespace toe::engine {
namespace {

/// Frames of control waiting for the port; more are dropped, as a full wire would.
constexpr std::size_t kMaxPending = 4 * kBurst;
/// Bursts of hints taken before the programs' requests of one step; others' floods must delay
/// neither these for ever nor the network.
constexpr int kSettleRounds = 16;
/// Frames given to control per step.
constexpr std::uint32_t kControlShare = 2 * kBurst;

}  // namespace

struct Core::Impl final : control::World {
  Impl(const CoreOptions& options, const CoreLinks& links)
      : port(links.port),
        frames(links.frames),
        outer(links.world),
        commands(kCommandRing),
        events(kEventRing),
        table(static_cast<std::uint32_t>(links.flows.size()), options.table_secret),
        pipeline(options.datapath, {links.frames, links.flows, table, commands, events}),
        control(options.control, options.secrets,
                {links.frames, links.flows, commands, events, *this}) {}

  bool step(Time now);
  void request(const control::Request& request, Time now);
  std::size_t receive(Time now);
  void feed_control(Time now);
  void send(std::span<const Frame> burst);
  std::int64_t unexplained_frames() const;

  // control::World: frames stay here, all else goes on.
  void transmit(Frame frame) override {
    if (pending_count == kMaxPending) {
      losses.answers_full.add();
      frames.release(frame);
    } else {
      pending[pending_count++] = frame;
    }
  }
  void reinject(Frame frame) override {
    if (reinjected_count == kBurst) {
      losses.given_back_full.add();
      frames.release(frame);
    } else {
      reinjected[reinjected_count++] = frame;
    }
  }
  void reply(ClientId client, std::span<const std::uint8_t> message) override {
    outer.reply(client, message);
  }
  void share_segment(ClientId client, SegmentId segment) override {
    outer.share_segment(client, segment);
  }
  void want_segment(ClientId client) override { outer.want_segment(client); }
  void free_segment(SegmentId segment) override { outer.free_segment(segment); }
  void drop_client(ClientId client, const char* reason) override {
    outer.drop_client(client, reason);
  }
  void want_route(const control::RouteKey& key) override { outer.want_route(key); }
  void forget_route(const control::RouteKey& key) override { outer.forget_route(key); }
  void return_pages(SegmentId segment, shm::RingRef ring) override {
    outer.return_pages(segment, ring);
  }
  void confirm_neighbor(const control::RouteKey& key) override { outer.confirm_neighbor(key); }
  void mark_listener(std::uint64_t cookie) override { outer.mark_listener(cookie); }
  void close_listener(std::uint64_t cookie) override { outer.close_listener(cookie); }
  void release_port(const IpAddr& local, std::uint16_t local_port) override {
    outer.release_port(local, local_port);
  }
  void want_port(const IpAddr& local) override { outer.want_port(local); }

  port::Port& port;
  FramePool& frames;
  control::World& outer;
  flow::CommandRing commands;
  flow::EventRing events;
  flow::FlowTable table;
  datapath::Pipeline pipeline;
  std::array<Frame, kMaxPending> pending;
  std::size_t pending_count = 0;
  std::array<Frame, kBurst> reinjected;
  std::size_t reinjected_count = 0;
  int settle_rounds = kSettleRounds;  ///< left in this step
  CoreLosses losses;
  control::Control control;
};

bool Core::Impl::step(Time now) {
  settle_rounds = kSettleRounds;
  const std::size_t received = receive(now);
  feed_control(now);
  bool more = control.poll(now);
  more |= pipeline.hc(now);
  if (reinjected_count != 0) {  // behind the installation that hc() has just carried out
    const std::size_t count = std::exchange(reinjected_count, 0);
    pipeline.rx({reinjected.data(), count}, now);
    more = true;
  }
  more |= pipeline.tx(now);
  const bool sends = pending_count != 0 || !pipeline.out().empty();
  send({pending.data(), std::exchange(pending_count, 0)});
  send(pipeline.out());
  pipeline.sent();
  port.flush();
  more |= !events.empty() || !commands.empty();  // one side has something to read
  return more || sends || received != 0;
}

/// What a program posted before it asked counts before the answer: a socket accepted and shown by
/// a forked child at once, a listener closed and opened again.
void Core::Impl::request(const control::Request& request, Time now) {
  if (request.client != kNoClient) {
    for (; settle_rounds > 0 && pipeline.posted(); --settle_rounds) {
      pipeline.hc(now);
      control.poll(now);
    }
  }
  control.on_request(request, now);
}

std::size_t Core::Impl::receive(Time now) {
  std::array<Frame, kBurst> burst;
  const std::size_t count = port.rx(burst);
  if (count != 0) pipeline.rx({burst.data(), count}, now);
  return count;
}

void Core::Impl::feed_control(Time now) {
  Frame frame;
  for (std::uint32_t i = 0; i < kControlShare && pipeline.to_control(frame); ++i) {
    control.on_frame(frame, now);
  }
}

/// What the port does not take is lost, as on a full wire; TCP sends it again.
void Core::Impl::send(std::span<const Frame> burst) {
  std::size_t done = port.tx(burst);
  if (done < burst.size()) {
    port.flush();
    done += port.tx(burst.subspan(done));
  }
  losses.wire_full.add(burst.size() - done);
  for (const Frame& frame : burst.subspan(done)) frames.release(frame);
}

/// The data path sees frames of the port and those given back, and says of each what it was for;
/// so does control of those that it gets.
std::int64_t Core::Impl::unexplained_frames() const {
  const datapath::Counters& seen = pipeline.counters();
  std::uint64_t explained = seen.segments_in.value() + seen.drops.control_behind.value() +
                            seen.drops.control_full.value() + seen.drops.syn_ring_full.value();
  for (std::size_t i = 1; i < seen.parse.size(); ++i) explained += seen.parse[i].value();
  explained += control.counters().explained() + pipeline.held().for_control;
  return static_cast<std::int64_t>(seen.frames_in.value() - explained);
}

Core::Core(const CoreOptions& options, const CoreLinks& links)
    : impl_(std::make_unique<Impl>(options, links)) {}
Core::~Core() = default;

bool Core::step(Time now) { return impl_->step(now); }
void Core::request(const control::Request& request, Time now) { impl_->request(request, now); }
std::span<const std::uint32_t> Core::doorbells() const { return impl_->pipeline.doorbells(); }
void Core::clear_doorbells() { impl_->pipeline.clear_doorbells(); }
Time Core::next_deadline() const {
  return std::min(impl_->pipeline.next_deadline(), impl_->control.next_deadline());
}
bool Core::posted() const { return impl_->pipeline.posted(); }
control::Control& Core::control() { return impl_->control; }
const datapath::Counters& Core::datapath_counters() const { return impl_->pipeline.counters(); }
const CoreLosses& Core::losses() const { return impl_->losses; }
std::int64_t Core::unexplained_frames() const { return impl_->unexplained_frames(); }
datapath::Held Core::held() const { return impl_->pipeline.held(); }

}  // namespace toe::engine
