// Segments of a fake peer, and a program that writes anything into its shared memory, against the
// pipeline. Rings are surrounded by pages that nobody may touch.
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/check.h"
#include "harness/bench.h"
#include "input.h"

namespace {

using namespace toe;  // NOLINT(google-build-using-namespace)
using test::Bench;
using Command = flow::Command::Kind;

constexpr std::uint32_t kConnections = 3;

/// Everything of the arena but the rings becomes untouchable. A ring has 64 KiB of room.
void guard(Bench& b) {
  std::uint8_t* base = b.segment.base();
  TOE_CHECK(::mprotect(base + shm::kArenaOffset, 64 << 20, PROT_NONE) == 0);
  for (std::uint32_t n = 0; n < 64; ++n) {
    const std::uint32_t log2 = n < 2 * kConnections ? Bench::kRingLog2 : 15;
    const shm::RingRef ring = Bench::ring(n, log2);
    TOE_CHECK(::mprotect(base + ring.offset(), ring.bytes(), PROT_READ | PROT_WRITE) == 0);
  }
}

/// What holds after every step, whatever peer and program do.
void check(const flow::ProtocolSlice& s) {
  if (s.closed) return;
  TOE_CHECK(s.snd_una <= s.snd_max && s.snd_nxt <= s.snd_max && s.snd_una <= s.snd_nxt);
  TOE_CHECK(s.snd_max <= s.snd_end + 1);
  TOE_CHECK(s.snd_end - std::max(std::min(s.snd_una, s.snd_end), s.snd_switch) <= s.snd_ring_bytes);
  TOE_CHECK(s.rcv_nxt <= s.rcv_limit + 1 && s.rcv_head <= s.rcv_nxt);
  TOE_CHECK(s.rcv_limit <= std::max(s.rcv_head, s.rcv_switch) + s.rcv_ring_bytes);
  TOE_CHECK(s.cwnd != 0 || s.ca_state != flow::CaState::kOpen);
  TOE_CHECK(s.discount <= s.snd_max - s.snd_una && (s.board != 0 || s.discount == 0));
  // Data in flight or waiting always has a timer, or something leaves at once.
  const bool waits = s.snd_max > s.snd_una || s.snd_end > s.snd_nxt;
  TOE_CHECK(!waits || std::min(s.rto_at, s.persist_at) != Time::never() || s.snd_max == s.snd_una);
}

/// What flows have borrowed is what the pools have lent.
void check_loans(const Bench& b) {
  std::uint32_t borrowed = 0;
  for (const flow::Flow& f : b.flows) {
    borrowed += (f.protocol.board != 0 ? 1u : 0u) + (f.protocol.ranges != 0 ? 1u : 0u);
  }
  TOE_CHECK(borrowed == b.pipeline.held().records);
}

/// All but one have SACK.
void install(Bench& b, std::uint32_t n) {
  b.install(n);
  b.flows[n].protocol.sack_on = n != 0;
}

/// Making a bench costs more than a run: two are kept, one of them shuffled, and made like new.
Bench& fresh_bench(bool shuffled) {
  static Bench* benches[2] = {};
  Bench*& kept = benches[shuffled ? 1 : 0];
  if (kept == nullptr) {
    datapath::Options options;
    options.order_seed = shuffled ? 7 : 0;
    kept = new Bench(options);
    guard(*kept);
  } else {
    for (std::uint32_t n = 0; n < kConnections; ++n) kept->command(Command::kRemove, n);
    flow::Command close{};
    close.kind = Command::kCloseContext;
    close.segment = SegmentId{3};
    close.slot = Bench::kSlot;
    kept->command(close);
    kept->walk();
    kept->now = kept->now + seconds(1);
    kept->walk();  // the queue of delayed ACKs is empty now
    kept->take_events();
    std::memset(kept->segment.base() + shm::kContextsOffset, 0, shm::kContexts * 128);
    std::memset(kept->segment.base() + shm::kLinesOffset, 0, (kConnections + 1) * 512);
    kept->segment.view().header().posted = 0;
    kept->open_context(Bench::kSlot, 11);
    kept->lane.open(&kept->mapped, Bench::kSlot, &kept->bell);
  }
  for (std::uint32_t n = 0; n < kConnections; ++n) install(*kept, n);
  return *kept;
}

struct Run {
  explicit Run(fuzz::Input in)
      : input(in), bench(fresh_bench((input.take<std::uint8_t>() & 1) != 0)) {}

  void segment() {
    const std::uint32_t n = input.below(kConnections);
    const flow::ProtocolSlice& s = bench.flows[n].protocol;
    wire::TcpSegmentHeader h = Bench::header(n);
    h.seq += static_cast<std::uint32_t>(input.number(s.rcv_nxt));
    h.ack += static_cast<std::uint32_t>(input.number(s.snd_una));
    h.flags = input.take<std::uint8_t>();
    h.window = input.take<std::uint16_t>();
    h.options.sack_count = static_cast<std::uint8_t>(input.below(5));
    for (std::uint8_t i = 0; i < h.options.sack_count; ++i) {
      const auto start = Bench::kIss + 1 + static_cast<std::uint32_t>(input.number(s.snd_una));
      h.options.sack[i] = {start, start + input.take<std::uint16_t>()};
    }
    const std::string payload(input.take<std::uint16_t>() % 1400, 'p');
    Frame frame = bench.frame(h, payload);
    if (input.below(8) == 0) {
      const auto bytes = bench.frames.bytes(frame);
      bytes[input.take<std::uint16_t>() % bytes.size()] ^= input.take<std::uint8_t>();
    }
    bench.rx({frame});
  }

  void scribble() {
    const std::uint32_t n = input.below(kConnections);
    shm::Line& l = bench.line(n);
    const flow::ProtocolSlice& s = bench.flows[n].protocol;
    const std::uint64_t anything = input.number(0);
    const auto word = static_cast<std::uint32_t>(anything);
    switch (input.below(12)) {
      case 0:
        l.tx_tail = input.number(s.snd_end);
        break;
      case 1:
        l.rx_head = input.number(s.rcv_nxt);
        break;
      case 2:
        l.tx_switch = input.number(s.snd_end);
        break;
      case 3:
        l.tx_taken = input.below(2) != 0 ? l.tx_offered.load() : word;
        break;
      case 4:
        l.app_flags = word;
        break;
      case 5:
        l.options_epoch = word;
        l.keep_idle_s = l.keep_interval_s = l.keep_count = l.user_timeout_ms = word;
        break;
      case 6:
        l.rx_interest = l.tx_interest = anything;
        break;
      case 7:
        l.hinted_app = l.hinted_engine = anything;
        break;
      case 8:
        bench.segment.view().context(input.below(shm::kContexts)).engine_tail = word;
        break;
      case 9:
        bench.segment.view().context(input.below(shm::kContexts)).app_head = word;
        break;
      case 10:
        bench.segment.view().context(input.below(shm::kContexts)).sleep_epoch = word;
        break;
      default:  // any word of the line, the engine's too
        reinterpret_cast<std::atomic<std::uint32_t>*>(&l)[input.below(128)] = word;
    }
  }

  /// A hint the right way, or of anything.
  void post() {
    const shm::SegmentView view = bench.segment.view();
    const std::uint32_t n = input.below(kConnections);
    if (input.below(4) != 0) {
      bench.line(n).hinted_engine = 0;
      bench.lane.post(n + 1);
      return;
    }
    shm::Context& context = view.context(Bench::kSlot);
    const std::uint32_t tail = context.engine_tail.load();
    view.engine_queue(Bench::kSlot)[tail % shm::kQueueEntries] = input.take<std::uint32_t>();
    context.engine_tail = tail + 1;
    view.header().posted = input.take<std::uint64_t>();
  }

  void control() {
    static constexpr Command kKinds[] = {
        Command::kTimer,       Command::kOrphan,      Command::kAbort,  Command::kSetMss,
        Command::kOfferRxRing, Command::kOfferTxRing, Command::kNotify, Command::kCongestion,
        Command::kTimer,       Command::kTimer};
    flow::Command c{};
    c.kind = kKinds[input.below(std::size(kKinds))];
    const std::uint32_t n = input.below(kConnections);
    c.flow = FlowId{n};
    c.reset = input.below(2) != 0;
    c.mss = static_cast<std::uint16_t>(88 + input.take<std::uint8_t>() * 5);
    c.segment = SegmentId{3};
    c.line = n + 1;
    c.cc.cwnd_cnt = input.take<std::uint32_t>();
    c.cc.cwnd_cap = 20'000;
    c.ring = Bench::ring(8 + next_ring++ % 56, 15);
    bench.command(c);
  }

  void events() {
    for (const flow::Event& e : bench.take_events()) {
      if (e.kind == flow::Event::Kind::kClosed) bench.command(Command::kRemove, index_of(e.flow));
      if (e.kind == flow::Event::Kind::kRemoved) install(bench, index_of(e.flow));
      if (e.kind == flow::Event::Kind::kMisbehaved) bench.open_context(Bench::kSlot, 11);
    }
  }

  void step() {
    switch (input.below(6)) {
      case 0:
      case 1:
        segment();
        break;
      case 2:
        scribble();
        break;
      case 3:
        post();
        break;
      case 4:
        control();
        break;
      default:
        bench.now = bench.now + micros(1 << input.below(26));
        bench.walk();
    }
    bench.pipeline.clear_doorbells();
    Frame frame;
    while (bench.pipeline.to_control(frame)) bench.frames.release(frame);
    events();
    for (std::uint32_t n = 0; n < kConnections; ++n) check(bench.flows[n].protocol);
    check_loans(bench);
  }

  fuzz::Input input;
  Bench& bench;
  std::uint32_t next_ring = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Run run(fuzz::Input(data, size));
  while (!run.input.empty()) run.step();
  run.bench.walk();
  run.bench.pipeline.rx({}, run.bench.now);
  Frame frame;
  while (run.bench.pipeline.to_control(frame)) run.bench.frames.release(frame);
  TOE_CHECK(run.bench.frames.free_count() == Bench::kChunks);
  return 0;
}
