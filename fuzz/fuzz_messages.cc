// Control messages of hostile programs: refused by their form, or carried out by control. In the
// end every program leaves and nothing of it may remain.
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/core.h"
#include "engine/message_check.h"
#include "harness/plain_segment.h"
#include "input.h"
#include "port/mem/mem_wire.h"
#include "wire/build.h"

namespace {

using namespace toe;  // NOLINT(google-build-using-namespace)
using Kind = control::Request::Kind;
using shm::MessageType;

constexpr std::uint32_t kFlows = 32;
constexpr std::uint32_t kPrograms = 3;

engine::CoreOptions options() {
  engine::CoreOptions o;
  o.control.max_flows = kFlows;
  o.control.max_time_wait = 16;
  o.control.ring_rest = millis(1);
  o.secrets = {{1, 2}, 3};
  o.table_secret = {4, 5};
  return o;
}

/// The rest of an engine, answering when the fuzzer says so.
struct World final : control::World {
  void transmit(Frame) override {}
  void reinject(Frame) override {}
  void reply(ClientId, std::span<const std::uint8_t> m) override {
    TOE_CHECK(m.size() >= sizeof(shm::MessageHeader) && m.size() <= shm::kMaxMessageBytes);
  }
  void share_segment(ClientId, SegmentId segment) override {
    TOE_CHECK(segments.count(index_of(segment)) == 1);
  }
  void want_segment(ClientId client) override { wanted.push_back(client); }
  void free_segment(SegmentId segment) override {
    TOE_CHECK(segments.erase(index_of(segment)) == 1);
  }
  void return_pages(SegmentId segment, shm::RingRef ring) override {
    std::uint8_t* pages = segments.at(index_of(segment))->base() + ring.offset();
    std::fill(pages, pages + ring.bytes(), std::uint8_t{0});
    returning.emplace_back(segment, ring);
  }
  void drop_client(ClientId client, const char*) override { dropped.push_back(client); }
  void want_route(const control::RouteKey& key) override { routes.push_back(key); }
  void forget_route(const control::RouteKey&) override {}
  void confirm_neighbor(const control::RouteKey&) override {}
  void mark_listener(std::uint64_t cookie) override { marks.push_back(cookie); }
  void close_listener(std::uint64_t) override {}
  void release_port(const IpAddr&, std::uint16_t) override {}
  void want_port(const IpAddr& local) override { ports.push_back(local); }

  std::map<std::uint32_t, std::unique_ptr<test::PlainSegment>> segments;
  std::vector<ClientId> wanted, dropped;
  std::vector<control::RouteKey> routes;
  std::vector<IpAddr> ports;
  std::vector<std::uint64_t> marks;
  std::vector<std::pair<SegmentId, shm::RingRef>> returning;
};

class Run {
 public:
  Run()
      : wire_(128),
        flows_(kFlows),
        core_(options(), {wire_.port(0), wire_.port(0).pool(), flows_, world_}) {
    wire_.set_now(now_);
  }

  /// Leaves the engine as it was: making one costs more than a run.
  void run(fuzz::Input input) {
    input_ = input;
    first_client_ = last_client_ + 1;
    next_port_ = 0;
    for (std::uint32_t n = 1; n <= kPrograms; ++n) join();
    while (!input_.empty()) {
      act();
      step();
    }
    finish();
  }

 private:
  void act() {
    switch (input_.below(8)) {
      case 0:
      case 1:
      case 2:
        return message();
      case 3:
        return scribble();
      case 4:
        return answer();
      case 5:
        return frame();
      case 6:
        now_ = now_ + micros(std::int64_t{1} << input_.below(30));
        return;
      default:
        if (input_.below(16) == 0) leave(client());
    }
  }

  ClientId client() { return ClientId{first_client_ + input_.below(kPrograms)}; }
  SegmentId some_segment() { return SegmentId{input_.below(8)}; }

  void join() {
    control::Request r;
    r.kind = Kind::kJoin;
    r.client = ClientId{++last_client_};
    r.uid = 1000 + last_client_ % 2;
    give_segment(r);
  }
  void give_segment(control::Request& r) {
    std::uint32_t id = 0;
    while (world_.segments.count(id) != 0) ++id;
    auto& segment = world_.segments[id];
    segment = std::make_unique<test::PlainSegment>(id);
    r.segment = SegmentId{id};
    r.base = segment->base();
    core_.request(r, now_);
  }
  void leave(ClientId id) {
    control::Request r;
    r.kind = Kind::kLeave;
    r.client = id;
    core_.request(r, now_);
  }

  /// Raw bytes; mostly with a type and length that fit, so that more than the form is tried.
  void message() {
    std::uint8_t bytes[sizeof(shm::Shown)] = {};
    const std::size_t size = input_.take<std::uint16_t>() % sizeof bytes;
    for (std::size_t i = 0; i < std::min<std::size_t>(size, 256); ++i) {
      bytes[i] = input_.take<std::uint8_t>();
    }
    std::size_t length = size;
    if (input_.below(8) != 0) length = repair(bytes);
    const std::size_t fds = input_.below(4);
    if (engine::refuse_message({bytes, length}, fds) != nullptr) return;
    carry_out({bytes, length}, fds);
  }
  std::size_t repair(std::uint8_t* bytes) {
    static constexpr std::pair<MessageType, std::size_t> kForms[] = {
        {MessageType::kListen, sizeof(shm::Listen)},
        {MessageType::kConnect, sizeof(shm::Connect)},
        {MessageType::kContext, sizeof(shm::ContextMessage)},
        {MessageType::kShow, sizeof(shm::Show)},
        {MessageType::kInfo, sizeof(shm::Info)},
        {MessageType::kOption, sizeof(shm::Option)}};
    const auto& [type, length] = kForms[input_.below(std::size(kForms))];
    shm::MessageHeader header{type, static_cast<std::uint32_t>(length), 9};
    std::memcpy(bytes, &header, sizeof header);
    return length;
  }
  void carry_out(std::span<const std::uint8_t> bytes, std::size_t fds) {
    control::Request r;
    r.client = client();
    r.tag = 9;
    r.cookie = 1 + input_.below(6);
    r.local = input_.below(2) != 0 ? IpAddr{} : IpAddr::v4(10, 0, 0, 1);
    r.v6only = input_.below(2) != 0;
    r.reuseport = input_.below(2) != 0;
    switch (engine::read_message<shm::MessageHeader>(bytes).type) {
      case MessageType::kListen: {
        const auto m = engine::read_message<shm::Listen>(bytes);
        r.kind = Kind::kListen;
        r.local_port = static_cast<std::uint16_t>(80 + input_.below(2));
        r.backlog = m.backlog;
        r.options = m.options;
        r.options.congestion[15] = 0;
        break;
      }
      case MessageType::kConnect: {
        const auto m = engine::read_message<shm::Connect>(bytes);
        r.kind = Kind::kConnect;
        r.remote = input_.below(4) == 0 ? IpAddr::v6(m.remote_addr) : IpAddr::v4(10, 0, 0, 2);
        r.remote_port = m.remote_port;
        r.options = m.options;
        r.options.congestion[15] = 0;
        break;
      }
      case MessageType::kContext:
        r.kind = Kind::kContext;
        r.segment = input_.below(4) == 0
                        ? SegmentId{engine::read_message<shm::ContextMessage>(bytes).segment_id}
                        : some_segment();
        r.doorbell = input_.below(16);
        break;
      case MessageType::kShow:
        r.kind = Kind::kShow;
        r.count = static_cast<std::uint32_t>(fds);
        for (std::size_t i = 0; i < fds; ++i) r.cookies[i] = input_.below(8);
        break;
      case MessageType::kInfo: {
        const auto m = engine::read_message<shm::Info>(bytes);
        r.kind = Kind::kInfo;
        r.segment = input_.below(4) == 0 ? SegmentId{m.segment_id} : some_segment();
        r.line = m.line;
        break;
      }
      case MessageType::kOption: {
        const auto m = engine::read_message<shm::Option>(bytes);
        if (m.length > sizeof m.value) return;
        r.kind = Kind::kOption;
        r.segment = some_segment();
        r.line = input_.below(2) != 0 ? m.line : input_.below(8);
        r.level = m.level;
        r.name = m.name;
        r.value_length = m.length;
        std::memcpy(r.value, m.value, sizeof r.value);
        break;
      }
      default:
        return;
    }
    core_.request(r, now_);
  }

  void scribble() {
    const auto found = world_.segments.find(input_.below(8));
    if (found == world_.segments.end()) return;
    const shm::SegmentView view = found->second->view();
    const std::uint64_t value = input_.number(0);
    const std::uint32_t slot = input_.below(shm::kContexts);
    shm::Line& line = view.line(input_.below(8));
    switch (input_.below(6)) {
      case 0: {  // a hint of anything
        shm::Context& context = view.context(slot);
        const std::uint32_t tail = context.engine_tail.load();
        const auto op = static_cast<shm::HintOp>(input_.below(5));
        view.engine_queue(slot)[tail % shm::kQueueEntries] = shm::make_hint(op, input_.below(8));
        context.engine_tail = tail + 1;
        view.header().posted = ~std::uint64_t{0};
        break;
      }
      case 1:
        line.claim = static_cast<std::uint32_t>(value);
        line.cookie = input_.below(8);
        break;
      case 2:
        line.rx_head = value;
        break;
      case 3:
        line.tx_tail = value;
        break;
      case 4:
        line.rx_interest = line.tx_interest = value;
        break;
      default:
        reinterpret_cast<std::atomic<std::uint32_t>*>(&line)[input_.below(128)] =
            static_cast<std::uint32_t>(value);
    }
  }

  /// What the rest of the engine answers, in the order asked.
  void answer() {
    control::Request r;
    if (!world_.marks.empty() && input_.below(2) != 0) {
      r.kind = Kind::kMarked;
      r.cookie = world_.marks.back();
      world_.marks.pop_back();
    } else if (!world_.routes.empty() && input_.below(2) != 0) {
      r.kind = Kind::kRoute;
      set_route_key(world_.routes.back(), r);
      r.route.kind = static_cast<control::Route::Kind>(input_.below(8) == 0 ? input_.below(4) : 0);
      r.route.source = IpAddr::v4(10, 0, 0, 1);
      r.route.mtu = static_cast<std::uint16_t>(576 + input_.below(10) * 100);
      world_.routes.pop_back();
    } else if (!world_.ports.empty()) {
      r.kind = Kind::kHeldPort;
      r.local = world_.ports.back();
      r.local_port = static_cast<std::uint16_t>(40000 + next_port_++ % 1000);
      r.error = input_.below(8) == 0 ? 11 : 0;
      world_.ports.pop_back();
    } else if (!world_.returning.empty()) {
      return give_back_pages();
    } else if (!world_.wanted.empty()) {
      r.kind = Kind::kSegment;
      r.client = world_.wanted.back();
      world_.wanted.pop_back();
      return give_segment(r);
    } else {
      return;
    }
    core_.request(r, now_);
  }

  void give_back_pages() {
    control::Request r;
    r.kind = Kind::kPagesReturned;
    std::tie(r.segment, r.ring) = world_.returning.back();
    world_.returning.pop_back();
    core_.request(r, now_);
  }

  void frame() {
    wire::TcpSegmentHeader h;
    h.eth_src = {{0x02, 0, 0, 0, 0, 2}};
    h.eth_dst = {{0x02, 0, 0, 0, 0, 1}};
    h.src = IpAddr::v4(10, 0, 0, 2);
    h.dst = IpAddr::v4(10, 0, 0, 1);
    h.src_port = static_cast<std::uint16_t>(1000 + input_.below(8));
    h.dst_port = static_cast<std::uint16_t>(80 + input_.below(2));
    h.flags = input_.take<std::uint8_t>();
    h.seq = 100 + input_.below(4);
    h.ack = last_seq_ + input_.below(4);
    h.window = input_.take<std::uint16_t>();
    Frame f = wire_.port(1).pool().acquire();
    if (!f.valid()) return;
    f.length = static_cast<std::uint16_t>(wire::build_segment(
        h, {}, {wire_.port(1).pool().chunk(f.chunk) + f.offset, std::size_t{1000}}));
    wire_.port(1).tx({&f, 1});
  }

  void step() {
    wire_.set_now(now_);
    for (int i = 0; i < 64 && core_.step(now_); ++i) {
    }
    core_.clear_doorbells();
    for (const ClientId id : std::exchange(world_.dropped, {})) leave(id);
    Frame f[16];
    const std::size_t count = wire_.port(1).rx(f);
    for (std::size_t i = 0; i < count; ++i) {
      wire::TcpSegment s;
      if (wire::parse_frame(wire_.port(1).pool().bytes(f[i]), {}, s) == wire::ParseVerdict::kOk) {
        last_seq_ = s.seq + 1;
      }
      wire_.port(1).pool().release(f[i]);
    }
  }

  void finish() {
    for (std::uint32_t n = first_client_; n <= last_client_; ++n) leave(ClientId{n});
    for (int i = 0; i < 400 && !(core_.control().quiet() && world_.segments.empty()); ++i) {
      while (!world_.returning.empty()) give_back_pages();
      step();
      now_ = now_ + seconds(10);
    }
    world_.wanted.clear();
    world_.routes.clear();
    world_.ports.clear();
    world_.marks.clear();
    TOE_CHECK(core_.control().quiet());
    TOE_CHECK(core_.control().flows_in_use() == 0);
    TOE_CHECK(world_.segments.empty());
    TOE_CHECK(wire_.port(0).pool().free_count() == wire_.port(0).pool().chunks());
  }

  fuzz::Input input_{nullptr, 0};
  Time now_{seconds(1000).ns};
  World world_;
  port::MemWire wire_;
  std::vector<flow::Flow> flows_;
  engine::Core core_;
  std::uint32_t first_client_ = 1;
  std::uint32_t last_client_ = 0;
  std::uint32_t next_port_ = 0;
  std::uint32_t last_seq_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Run* const engine = new Run;
  engine->run(fuzz::Input(data, size));
  return 0;
}
