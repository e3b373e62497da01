// The pipeline on a bench: frames in plain memory, a program's segment with libtoe's connections,
// control played by the test.
#ifndef TOE_TESTS_HARNESS_BENCH_H_
#define TOE_TESTS_HARNESS_BENCH_H_

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "datapath/pipeline.h"
#include "harness/plain_segment.h"
#include "libtoe/connection.h"
#include "shm/ring_copy.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace toe::test {

/// Counts how often the program would have rung the engine.
class SilentLink final : public libtoe::EngineLink {
 public:
  libtoe::Exchange send(const libtoe::Packet&) override { return libtoe::Exchange::kDone; }
  bool receive(libtoe::Packet&) override { return false; }
  void ring() override { ++rings; }
  void set_doorbell(int) override {}
  int life_fd() const override { return -1; }
  void close() override {}
  int rings = 0;
};

class Bench {
 public:
  static constexpr std::uint32_t kFlows = 128;
  static constexpr std::uint32_t kChunks = 512;
  static constexpr std::uint32_t kChunk = 2048;
  static constexpr std::uint32_t kRingLog2 = 14;
  static constexpr std::uint32_t kSlot = 1;  ///< the program's context
  static constexpr std::uint32_t kIss = 0xfffffff0u, kIrs = 0x7ffffff0u;

  explicit Bench(datapath::Options options = {})
      : segment(3),
        memory(std::size_t{kChunks} * kChunk),
        frames(memory, kChunk),
        flows(kFlows),
        table(kFlows, {1, 2}),
        commands(kCommandRing),
        events(kEventRing),
        pipeline(options, {frames, flows, table, commands, events}) {
    mapped = {segment.view(), 3, 0};
    bell.page = &page;
    bell.link = &link;
    flow::Command add{};
    add.kind = flow::Command::Kind::kAddSegment;
    add.segment = SegmentId{3};
    add.base = segment.base();
    command(add);
    open_context(kSlot, 11);
    lane.open(&mapped, kSlot, &bell);
  }

  // --- Control's part ---
  void command(const flow::Command& c) {
    TOE_CHECK(commands.push(c));
    pipeline.hc(now);
  }
  void command(flow::Command::Kind kind, std::uint32_t flow) {
    flow::Command c{};
    c.kind = kind;
    c.flow = FlowId{flow};
    command(c);
  }
  void open_context(std::uint32_t slot, std::uint32_t doorbell) {
    flow::Command open{};
    open.kind = flow::Command::Kind::kOpenContext;
    open.segment = SegmentId{3};
    open.slot = slot;
    open.doorbell = doorbell;
    open.client = ClientId{doorbell};
    command(open);
  }
  /// The n-th ring of the arena, with room for 64 KiB each.
  static shm::RingRef ring(std::uint32_t n, std::uint32_t log2 = kRingLog2) {
    return shm::RingRef::make(
        static_cast<std::uint32_t>(shm::kArenaOffset / shm::kPageBytes) + n * 16, log2);
  }
  /// Connection `n` on line n + 1, established, with the program interested in it.
  void install(std::uint32_t n) {
    flow::Flow& f = flows[n];
    f = flow::Flow{};
    f.pre = {key(n), kIss, kIrs};
    flow::ProtocolSlice& s = f.protocol;
    s.mss = 1000;
    s.cwnd = 10'000;
    s.snd_wnd = s.max_snd_wnd = 60'000;
    s.snd_ring_bytes = s.rcv_ring_bytes = 1u << kRingLog2;
    s.rcv_limit = s.rcv_adv = 1u << kRingLog2;
    s.rcv_mss = 1000;
    wire::TcpSegmentHeader h = header(n);
    std::swap(h.src, h.dst);
    std::swap(h.src_port, h.dst_port);
    std::swap(h.eth_src, h.eth_dst);
    f.post.header = wire::make_template(h);
    f.post.iss = kIss;
    f.post.irs = kIrs;
    f.post.segment = SegmentId{3};
    f.post.line = n + 1;
    f.post.rx_ring[1] = ring(2 * n);
    f.post.tx_ring[1] = ring(2 * n + 1);
    shm::Line& l = line(n);
    l.rx_ring[0] = f.post.rx_ring[1].word;
    l.tx_ring[0] = f.post.tx_ring[1].word;
    l.rx_interest.fetch_or(lane.bit());
    l.tx_interest.fetch_or(lane.bit());
    command(flow::Command::Kind::kInstall, n);
  }
  std::vector<flow::Event> take_events() {
    std::vector<flow::Event> all;
    flow::Event e{};
    while (events.pop(e)) all.push_back(e);
    return all;
  }
  static bool has(const std::vector<flow::Event>& all, flow::Event::Kind kind) {
    return std::any_of(all.begin(), all.end(), [kind](const auto& e) { return e.kind == kind; });
  }

  // --- The program's part ---
  shm::Line& line(std::uint32_t n) const { return segment.view().line(n + 1); }
  /// The program's socket on connection n; one at a time.
  libtoe::Connection& connection(std::uint32_t n) {
    socket.attach(&lane, n + 1);
    return socket;
  }
  ssize_t send(std::uint32_t n, std::string_view bytes) {
    iovec v{const_cast<char*>(bytes.data()), bytes.size()};
    libtoe::IoCursor cursor(&v, 1);
    return connection(n).send(cursor, false);
  }
  std::string recv(std::uint32_t n, std::size_t most = 1 << 20) {
    std::string text(most, 0);
    iovec v{text.data(), text.size()};
    libtoe::IoCursor cursor(&v, 1);
    const ssize_t got = connection(n).recv(cursor, libtoe::RecvMode::kTake);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }
  std::vector<std::uint32_t> take_hints() {
    std::vector<std::uint32_t> all;
    std::uint32_t index = 0;
    while (lane.take(index)) all.push_back(index);
    return all;
  }

  // --- The wire's part ---
  static flow::FlowKey key(std::uint32_t n) {
    return {IpAddr::v4(10, 0, 0, 1), IpAddr::v4(10, 0, 0, 2), 80,
            static_cast<std::uint16_t>(1000 + n)};
  }
  static wire::TcpSegmentHeader header(std::uint32_t n) {
    wire::TcpSegmentHeader h;
    h.eth_src = {{0x02, 0, 0, 0, 0, 2}};
    h.eth_dst = {{0x02, 0, 0, 0, 0, 1}};
    h.src = key(n).remote;
    h.dst = key(n).local;
    h.src_port = key(n).remote_port;
    h.dst_port = key(n).local_port;
    h.flags = wire::kAck;
    h.window = 60'000;
    h.seq = kIrs + 1;
    h.ack = kIss + 1;
    return h;
  }
  Frame frame(const wire::TcpSegmentHeader& h, std::string_view payload = {}) {
    Frame f = frames.acquire();
    TOE_CHECK(f.valid());
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(payload.data());
    f.length = static_cast<std::uint16_t>(wire::build_segment(
        h, {bytes, payload.size()}, {frames.chunk(f.chunk) + f.offset, kChunk - f.offset}));
    return f;
  }
  /// A frame that is put into several chunks: `first` bytes into the first one, `further` into each
  /// of the others.
  Frame frame_in_parts(const wire::TcpSegmentHeader& h, std::string_view payload, std::size_t first,
                       std::size_t further) {
    std::vector<std::uint8_t> bytes(wire::kMaxHeaderBytes + payload.size());
    const auto* from = reinterpret_cast<const std::uint8_t*>(payload.data());
    bytes.resize(wire::build_segment(h, {from, payload.size()}, bytes));
    Frame whole;
    for (std::size_t done = 0; done < bytes.size();) {
      Frame part = frames.acquire();
      TOE_CHECK(part.valid());
      part.length =
          static_cast<std::uint16_t>(std::min(done == 0 ? first : further, bytes.size() - done));
      std::copy_n(&bytes[done], part.length, frames.bytes(part).data());
      done += part.length;
      if (whole.valid()) {
        frames.append(whole, part);
      } else {
        whole = part;
      }
    }
    return whole;
  }
  /// A data segment of connection n at a position of its stream.
  Frame data(std::uint32_t n, std::uint64_t position, std::string_view payload,
             std::uint64_t ack = 0) {
    wire::TcpSegmentHeader h = header(n);
    h.seq = kIrs + 1 + static_cast<std::uint32_t>(position);
    h.ack = kIss + 1 + static_cast<std::uint32_t>(ack);
    return frame(h, payload);
  }
  void rx(const std::vector<Frame>& burst) { pipeline.rx(burst, now); }

  struct Sent {
    std::uint32_t flow;
    std::uint64_t position, ack;
    std::uint8_t flags;
    std::uint16_t window;
    std::string payload;
    std::uint32_t parts;
  };
  /// HC and TX walks until nothing more leaves; what left.
  std::vector<Sent> walk() {
    std::vector<Sent> sent;
    for (int i = 0; i < 100; ++i) {
      bool more = pipeline.hc(now);
      more |= pipeline.tx(now);
      take_out(sent);
      if (!more) break;
    }
    return sent;
  }
  void take_out(std::vector<Sent>& sent) {
    for (const Frame& f : pipeline.out()) {
      wire::TcpSegment s;
      TOE_CHECK(wire::parse_frame(frames, f, {}, s) == wire::ParseVerdict::kOk);
      std::string bytes;
      Frame part = f;
      do {
        bytes.append(frames.bytes(part).begin(), frames.bytes(part).end());
      } while (frames.advance(part));
      sent.push_back({s.dst_port - 1000u, s.seq - kIss - 1, s.ack - kIrs - 1, s.flags, s.window,
                      bytes.substr(s.payload_offset, s.payload_length), frames.count_parts(f)});
      frames.release(f);
    }
    pipeline.sent();
  }

  Time now{seconds(1000).ns};
  PlainSegment segment;
  std::vector<std::uint8_t> memory;
  FramePool frames;
  std::vector<flow::Flow> flows;
  flow::FlowTable table;
  flow::CommandRing commands;
  flow::EventRing events;
  datapath::Pipeline pipeline;
  shm::EnginePage page{};
  SilentLink link;
  libtoe::EngineBell bell;
  libtoe::MappedSegment mapped;
  libtoe::Lane lane;
  libtoe::Connection socket;
};

}  // namespace toe::test

#endif  // TOE_TESTS_HARNESS_BENCH_H_
