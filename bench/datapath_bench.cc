// The data path alone: requests of 64 bytes in, responses of 64 bytes out that carry the ACK, with
// notification; one core, memory wire, 64 flows, bursts of 64. Peers and applications are played
// outside the measured time.
#include <sys/mman.h>

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "datapath/pipeline.h"
#include "shm/hint_queue.h"
#include "shm/segment_view.h"
#include "wire/build.h"
#include "wire/checksum.h"

namespace toe {
namespace {

constexpr std::uint32_t kFlows = 64;
constexpr std::uint32_t kMessage = 64;
constexpr std::uint32_t kChunks = 1024;
constexpr std::uint32_t kChunkBytes = 2048;
constexpr std::uint32_t kRingBytes = 16 * 1024;
constexpr std::uint32_t kSlot = 1;
constexpr std::uint16_t kWindow = 65535;

std::span<std::uint8_t> map(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TOE_CHECK(memory != MAP_FAILED);
  return {static_cast<std::uint8_t*>(memory), bytes};
}

wire::TcpSegmentHeader header_of(std::uint32_t flow, bool from_peer) {
  wire::TcpSegmentHeader h;
  h.eth_src.bytes = {2, 0, 0, 0, 0, 1};
  h.eth_dst.bytes = {2, 0, 0, 0, 0, 2};
  h.src = IpAddr::v4(10, 0, 0, 1);
  h.dst = IpAddr::v4(10, 0, 0, 2);
  h.src_port = 80;
  h.dst_port = static_cast<std::uint16_t>(1024 + flow);
  h.options.has_timestamp = true;
  if (from_peer) {
    std::swap(h.src, h.dst);
    std::swap(h.src_port, h.dst_port);
    std::swap(h.eth_src, h.eth_dst);
  }
  return h;
}

/// Pipeline, one segment, and both sides around it.
class Rig {
 public:
  Rig() : segment_(map(shm::kSegmentBytes)), view_(segment_.data()) {
    command({.kind = flow::Command::Kind::kAddSegment,
             .segment = SegmentId{0},
             .base = segment_.data()});
    command({.kind = flow::Command::Kind::kOpenContext, .segment = SegmentId{0}, .slot = kSlot});
    pipeline_.hc(now_);
    shm::Context& context = view_.context(kSlot);
    to_engine_ =
        shm::HintWriter(view_.engine_queue(kSlot), &context.engine_tail, &context.engine_head);
    from_engine_ = shm::HintReader(view_.app_queue(kSlot), &context.app_tail, &context.app_head);
    for (std::uint32_t i = 0; i < kFlows; ++i) install(i);
    pipeline_.hc(now_);
    pipeline_.tx(now_);
    drop_output();
  }

  /// One burst: nanoseconds spent in rx, hc and tx.
  std::array<double, 3> round() {
    now_ = now_ + micros(50);
    std::array<Frame, kFlows> burst;
    for (std::uint32_t i = 0; i < kFlows; ++i) burst[i] = request(i);
    const auto t0 = std::chrono::steady_clock::now();
    pipeline_.rx(burst, now_);
    const auto t1 = std::chrono::steady_clock::now();
    answer();
    const auto t2 = std::chrono::steady_clock::now();
    pipeline_.hc(now_);
    const auto t3 = std::chrono::steady_clock::now();
    pipeline_.tx(now_);
    const auto t4 = std::chrono::steady_clock::now();
    TOE_CHECK(pipeline_.out().size() == kFlows);
    drop_output();
    flow::Event event;
    while (events_.pop(event)) {
    }
    const auto ns = [](auto d) { return std::chrono::duration<double, std::nano>(d).count(); };
    position_ += kMessage;
    return {ns(t1 - t0), ns(t3 - t2), ns(t4 - t3)};
  }

 private:
  void command(const flow::Command& c) { TOE_CHECK(commands_.push(c)); }

  void install(std::uint32_t i) {
    flow::Flow& f = flows_[i];
    const wire::TcpSegmentHeader h = header_of(i, false);
    f.pre.key = {h.src, h.dst, h.src_port, h.dst_port};
    f.protocol.cwnd = 14480;
    f.protocol.mss = 1448;
    f.protocol.snd_wnd = f.protocol.max_snd_wnd = kWindow;
    f.protocol.rcv_adv = f.protocol.rcv_limit = f.protocol.rcv_ring_bytes = kRingBytes;
    f.protocol.snd_ring_bytes = kRingBytes;
    f.protocol.ts_on = f.protocol.sack_on = true;
    f.post.header = wire::make_template(h);
    f.post.segment = SegmentId{0};
    f.post.line = i + 1;
    const std::uint32_t first = static_cast<std::uint32_t>(shm::kArenaOffset / shm::kPageBytes);
    f.post.rx_ring[1] = shm::RingRef::make(first + 8 * i, 14);
    f.post.tx_ring[1] = shm::RingRef::make(first + 8 * i + 4, 14);
    view_.line(i + 1).rx_interest.store(1u << kSlot);
    command({.kind = flow::Command::Kind::kInstall, .flow = FlowId{i}});
  }

  /// The peer's request; it acknowledges the previous response.
  Frame request(std::uint32_t i) {
    static constexpr std::array<std::uint8_t, kMessage> kPayload{};
    wire::TcpSegmentHeader h = header_of(i, true);
    h.seq = 1 + static_cast<std::uint32_t>(position_);
    h.ack = 1 + static_cast<std::uint32_t>(position_);
    h.flags = wire::kAck | wire::kPsh;
    h.window = kWindow;
    h.options.tsval = static_cast<std::uint32_t>(now_.ns / 1'000'000);
    Frame frame = frames_.acquire();
    const std::size_t length = wire::build_segment(
        h, kPayload, {frames_.chunk(frame.chunk) + frame.offset, kChunkBytes - frame.offset});
    frame.length = static_cast<std::uint16_t>(length);
    return frame;
  }

  /// The application: takes its hints, consumes, writes as much, posts.
  void answer() {
    std::uint32_t entry = 0;
    while (from_engine_.take(entry) == shm::Taken::kEntry) {
      shm::Line& line = view_.line(shm::hint_line(entry));
      shm::clear_hinted(line.hinted_app, kSlot);
      const std::uint64_t tail = line.rx_tail.load(std::memory_order_acquire);
      line.rx_head.store(tail, std::memory_order_release);
      line.app_flags.store(shm::kPush | shm::kNoDelay, std::memory_order_relaxed);
      line.tx_tail.store(tail, std::memory_order_release);
      if (shm::mark_hinted(line.hinted_engine, kSlot)) to_engine_.append(entry);
    }
    view_.header().posted.fetch_or(1u << kSlot);
  }

  void drop_output() {
    for (const Frame& frame : pipeline_.out()) frames_.release(frame);
    pipeline_.sent();
  }

  Time now_ = Time{} + seconds(1000);
  std::uint64_t position_ = 0;
  std::span<std::uint8_t> segment_;
  shm::SegmentView view_;
  FramePool frames_{map(std::size_t{kChunks} * kChunkBytes), kChunkBytes};
  std::vector<flow::Flow> flows_{kFlows};
  flow::FlowTable table_{kFlows, {1, 2}};
  flow::CommandRing commands_{kCommandRing};
  flow::EventRing events_{kEventRing};
  datapath::Pipeline pipeline_{{}, {frames_, flows_, table_, commands_, events_}};
  shm::HintWriter to_engine_;
  shm::HintReader from_engine_;
};

void BM_RequestResponse(benchmark::State& state) {
  const auto rig = std::make_unique<Rig>();
  std::array<double, 3> sum{};
  for (auto _ : state) {
    const std::array<double, 3> spent = rig->round();
    for (std::size_t i = 0; i < spent.size(); ++i) sum[i] += spent[i];
    state.SetIterationTime((spent[0] + spent[1] + spent[2]) / 1e9);
  }
  const double operations = static_cast<double>(state.iterations()) * kFlows;
  state.counters["rx_ns"] = sum[0] / operations;
  state.counters["hc_ns"] = sum[1] / operations;
  state.counters["tx_ns"] = sum[2] / operations;
  state.counters["op_ns"] = (sum[0] + sum[1] + sum[2]) / operations;
  state.SetItemsProcessed(state.iterations() * kFlows);
}
BENCHMARK(BM_RequestResponse)->UseManualTime();
// For callgrind: exactly so many rounds.
BENCHMARK(BM_RequestResponse)->Name("Counted")->UseManualTime()->Iterations(50);
BENCHMARK(BM_RequestResponse)->Name("Counted")->UseManualTime()->Iterations(550);

}  // namespace
}  // namespace toe
