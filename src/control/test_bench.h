// Control on a bench: a world that records what it is asked, a data path that does as it is told,
// segments in plain memory, a clock that stands still until it is moved.
#ifndef TOE_CONTROL_TEST_BENCH_H_
#define TOE_CONTROL_TEST_BENCH_H_

#include <sys/mman.h>

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "control/control.h"
#include "shm/segment_view.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace toe::control {

inline const IpAddr kHere = IpAddr::v4(10, 0, 0, 1);
inline const IpAddr kPeer = IpAddr::v4(10, 0, 0, 2);
inline constexpr MacAddr kHereMac{{0x02, 0, 0, 0, 0, 1}};
inline constexpr MacAddr kPeerMac{{0x02, 0, 0, 0, 0, 2}};

struct Reply {
  ClientId client;
  std::vector<std::uint8_t> bytes;

  shm::MessageType type() const { return as<shm::MessageHeader>().type; }
  template <typename M>
  M as() const {
    M m{};
    std::memcpy(&m, bytes.data(), std::min(sizeof m, bytes.size()));
    return m;
  }
};

/// Records everything; answers nothing by itself.
struct RecordingWorld : World {
  explicit RecordingWorld(FramePool& f) : frames(f) {}

  void transmit(Frame frame) override {
    wire::TcpSegment s;
    ASSERT_EQ(wire::parse_frame(frames.bytes(frame), {}, s), wire::ParseVerdict::kOk);
    sent.push_back(s);
    frames.release(frame);
  }
  void reinject(Frame frame) override {
    ++reinjected;
    frames.release(frame);
  }
  void reply(ClientId client, std::span<const std::uint8_t> m) override {
    replies.push_back({client, {m.begin(), m.end()}});
  }
  void share_segment(ClientId c, SegmentId s) override { shared.emplace_back(c, s); }
  void want_segment(ClientId) override { ++segments_wanted; }
  void free_segment(SegmentId s) override { freed.push_back(s); }
  void drop_client(ClientId c, const char*) override { dropped.push_back(c); }
  void want_route(const IpAddr& a) override { routes_wanted.push_back(a); }
  void forget_route(const IpAddr& a) override { routes_forgotten.push_back(a); }
  void confirm_neighbor(const IpAddr&) override { ++confirmed; }
  void mark_listener(std::uint64_t cookie) override { marked.push_back(cookie); }
  void close_listener(std::uint64_t cookie) override { closed.push_back(cookie); }
  void release_port(const IpAddr& a, std::uint16_t p) override {
    ports_released.emplace_back(a, p);
  }
  void want_port(const IpAddr&) override { ++ports_wanted; }

  FramePool& frames;
  std::vector<wire::TcpSegment> sent;
  int reinjected = 0;
  std::vector<Reply> replies;
  std::vector<std::pair<ClientId, SegmentId>> shared;
  int segments_wanted = 0;
  std::vector<SegmentId> freed;
  std::vector<ClientId> dropped;
  std::vector<IpAddr> routes_wanted, routes_forgotten;
  int confirmed = 0;
  std::vector<std::uint64_t> marked, closed;
  std::vector<std::pair<IpAddr, std::uint16_t>> ports_released;
  int ports_wanted = 0;
};

/// A gigabyte of address space; pages appear when they are written.
class TestSegment {
 public:
  TestSegment()
      : base_(static_cast<std::uint8_t*>(::mmap(nullptr, shm::kSegmentBytes, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                                                0))) {}
  ~TestSegment() { ::munmap(base_, shm::kSegmentBytes); }
  TestSegment(const TestSegment&) = delete;
  TestSegment& operator=(const TestSegment&) = delete;
  std::uint8_t* base() const { return base_; }
  shm::SegmentView view() const { return shm::SegmentView(base_); }

 private:
  std::uint8_t* base_;
};

class ControlTest : public ::testing::Test {
 protected:
  static Options small_options() {
    Options o;
    o.max_flows = 64;
    o.max_time_wait = 64;
    return o;
  }
  static constexpr std::uint32_t kChunk = 2048;

  explicit ControlTest(const Options& o = small_options())
      : options(o),
        memory(256 * kChunk),
        frames(memory, kChunk),
        flows(o.max_flows),
        commands(kCommandRing),
        events(kEventRing),
        world(frames),
        control(std::make_unique<Control>(o, Secrets{{0x1122334455667788, 0x99aabbccddeeff00}, 7},
                                          Links{frames, flows, commands, events, world})) {}

  // --- The engine's side.
  void request(const Request& r) { control->on_request(r, now); }
  void poll() {
    bool more = true;
    while (more) {
      more = control->poll(now);
      drain();
      more = more || !events.empty();
    }
  }
  void pass(Nanos d) {
    now = now + d;
    poll();
  }
  /// The data path: takes commands and answers those that have an answer.
  void drain() {
    flow::Command c;
    while (commands.pop(c)) {
      done.push_back(c);
      flow::Event e{};
      e.flow = c.flow;
      if (c.kind == flow::Command::Kind::kRemove) {
        e.kind = flow::Event::Kind::kRemoved;
        events.push(e);
      } else if (c.kind == flow::Command::Kind::kRemoveSegment) {
        e.kind = flow::Event::Kind::kSegmentRemoved;
        e.segment = c.segment;
        events.push(e);
      } else if (c.kind == flow::Command::Kind::kSetHeader) {
        e.kind = flow::Event::Kind::kHeaderTaken;
        e.header = c.header;
        events.push(e);
      } else if (c.kind == flow::Command::Kind::kAbort && answer_aborts) {
        e.kind = flow::Event::Kind::kClosed;
        e.close = flow::Event::Close::kAborted;
        events.push(e);
      }
    }
  }
  void event(flow::Event e) {
    ASSERT_TRUE(events.push(e));
    poll();
  }
  void close_flow(FlowId flow, flow::Event::Close how) {
    flow::Event e{};
    e.kind = flow::Event::Kind::kClosed;
    e.flow = flow;
    e.close = how;
    event(e);
  }
  /// Commands of a kind carried out so far.
  std::vector<flow::Command> commanded(flow::Command::Kind kind) {
    poll();
    std::vector<flow::Command> v;
    for (const auto& c : done) {
      if (c.kind == kind) v.push_back(c);
    }
    return v;
  }

  // --- Applications.
  void join(std::uint32_t client, std::uint32_t segment, std::uint32_t uid = 1000) {
    segments[segment] = std::make_unique<TestSegment>();
    Request r;
    r.kind = Request::Kind::kJoin;
    r.client = ClientId{client};
    r.segment = SegmentId{segment};
    r.uid = uid;
    r.pid = 100 + static_cast<int>(client);
    r.base = segments[segment]->base();
    request(r);
  }
  void leave(std::uint32_t client) {
    Request r;
    r.kind = Request::Kind::kLeave;
    r.client = ClientId{client};
    request(r);
    poll();
  }
  Request listen_request(std::uint32_t client, std::uint64_t cookie, const IpAddr& local,
                         std::uint32_t backlog = 16) {
    Request r;
    r.kind = Request::Kind::kListen;
    r.client = ClientId{client};
    r.cookie = cookie;
    r.local = local;
    r.local_port = 80;
    r.backlog = backlog;
    return r;
  }
  void mark(std::uint64_t cookie) {
    Request r;
    r.kind = Request::Kind::kMarked;
    r.cookie = cookie;
    request(r);
    poll();
  }
  void route(const IpAddr& remote, Route::Kind kind = Route::Kind::kDirect, int error = 0) {
    Request r;
    r.kind = Request::Kind::kRoute;
    r.remote = remote;
    r.route.kind = kind;
    r.route.error = error;
    r.route.source_mac = kHereMac;
    r.route.next_hop_mac = kPeerMac;
    r.route.source = kHere;
    request(r);
    poll();
  }
  void held_port(std::uint16_t port, int error = 0) {
    Request r;
    r.kind = Request::Kind::kHeldPort;
    r.local = kHere;
    r.local_port = port;
    r.error = error;
    request(r);
    poll();
  }
  std::uint32_t context(std::uint32_t client, std::uint32_t segment) {
    Request r;
    r.kind = Request::Kind::kContext;
    r.client = ClientId{client};
    r.segment = SegmentId{segment};
    r.doorbell = client;
    request(r);
    EXPECT_EQ(last_reply().type(), shm::MessageType::kContextReady);
    return last_reply().as<shm::ContextMessage>().slot;
  }
  const Reply& last_reply() { return world.replies.at(world.replies.size() - 1); }
  shm::Line& line(std::uint32_t segment, std::uint32_t n) {
    return segments.at(segment)->view().line(n);
  }
  /// The application takes the connection: claim, cookie, kAccept.
  void accept(std::uint32_t client, std::uint32_t slot, const flow::Command& install,
              std::uint64_t cookie) {
    const auto& post = flows[index_of(install.flow)].post;
    shm::Line& l = line(index_of(post.segment), post.line);
    l.claim = 1 + slot;
    l.cookie = cookie;
    flow::Event e{};
    e.kind = flow::Event::Kind::kHold;
    e.segment = post.segment;
    e.line = post.line;
    e.client = ClientId{client};
    e.slot = slot;
    event(e);
  }
  void release(std::uint32_t client, std::uint32_t segment, std::uint32_t n, bool reset = false) {
    flow::Event e{};
    e.kind = flow::Event::Kind::kRelease;
    e.segment = SegmentId{segment};
    e.line = n;
    e.client = ClientId{client};
    e.reset = reset;
    event(e);
  }

  // --- The peer.
  wire::TcpSegmentHeader from_peer(std::uint16_t port, std::uint8_t flags, std::uint32_t seq,
                                   std::uint32_t ack = 0) {
    wire::TcpSegmentHeader h;
    h.eth_src = kPeerMac;
    h.eth_dst = kHereMac;
    h.src = kPeer;
    h.dst = kHere;
    h.src_port = port;
    h.dst_port = 80;
    h.seq = seq;
    h.ack = ack;
    h.flags = flags;
    h.window = 64240;
    if ((flags & wire::kSyn) != 0) {
      h.options.mss = 1460;
      h.options.has_wscale = true;
      h.options.wscale = 7;
    }
    h.options.has_timestamp = true;
    h.options.tsval = peer_clock;
    return h;
  }
  void receive(const wire::TcpSegmentHeader& h, std::size_t payload = 0) {
    Frame f = frames.acquire();
    ASSERT_TRUE(f.valid());
    const std::vector<std::uint8_t> bytes(payload, 'x');
    f.length = static_cast<std::uint16_t>(
        wire::build_segment(h, bytes, {frames.chunk(f.chunk) + f.offset, kChunk - f.offset}));
    ASSERT_NE(f.length, 0);
    control->on_frame(f, now);
  }
  wire::TcpSegment last_sent() { return world.sent.at(world.sent.size() - 1); }

  // --- Whole exchanges.
  /// Client 1 with segment 1 listens on *:80, steered; the route to the peer is known.
  void serve(std::uint32_t backlog = 16) {
    join(1, 1);
    request(listen_request(1, 500, IpAddr::v4(0, 0, 0, 0), backlog));
    ASSERT_EQ(last_reply().type(), shm::MessageType::kListening);
    listener_line = last_reply().as<shm::LineMessage>().line;
    mark(500);
  }
  /// The peer connects from `port`; returns the command that installed the flow.
  flow::Command establish(std::uint16_t port, std::uint32_t seq = 1000) {
    const std::size_t before = commanded(flow::Command::Kind::kInstall).size();
    receive(from_peer(port, wire::kSyn, seq));
    if (world.routes_wanted.size() == 1 && world.sent.empty()) route(kPeer);
    const wire::TcpSegment answer = last_sent();
    EXPECT_EQ(answer.flags, wire::kSyn | wire::kAck);
    receive(from_peer(port, wire::kAck, seq + 1, answer.seq + 1));
    const auto installs = commanded(flow::Command::Kind::kInstall);
    EXPECT_EQ(installs.size(), before + 1);
    return installs.empty() ? flow::Command{} : installs.back();
  }
  Request connect_request(std::uint32_t client, std::uint64_t cookie) {
    Request r;
    r.kind = Request::Kind::kConnect;
    r.client = ClientId{client};
    r.cookie = cookie;
    r.tag = 77;
    r.local = IpAddr::v4(0, 0, 0, 0);
    r.remote = kPeer;
    r.remote_port = 9000;
    return r;
  }
  bool all_frames_home() const { return frames.free_count() == frames.chunks(); }

  Options options;
  std::vector<std::uint8_t> memory;
  FramePool frames;
  std::vector<flow::Flow> flows;
  flow::CommandRing commands;
  flow::EventRing events;
  RecordingWorld world;
  std::unique_ptr<Control> control;
  std::map<std::uint32_t, std::unique_ptr<TestSegment>> segments;
  std::vector<flow::Command> done;
  Time now{1'000'000'000'000};
  std::uint32_t peer_clock = 5000;
  std::uint32_t listener_line = 0;
  bool answer_aborts = true;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_TEST_BENCH_H_
