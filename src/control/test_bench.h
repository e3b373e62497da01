// Control on a bench, with applications and a peer that do what a test wants.
#ifndef TOE_CONTROL_TEST_BENCH_H_
#define TOE_CONTROL_TEST_BENCH_H_

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "control/test_engine.h"
#include "wire/build.h"

namespace toe::control {

class ControlTest : public ControlBench {
 protected:
  using ControlBench::ControlBench;

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
  /// The program asks, and its port is steered.
  void listen(const Request& r) {
    request(r);
    mark(r.cookie);
  }
  void mark(std::uint64_t cookie, int error = 0) {
    Request r;
    r.kind = Request::Kind::kMarked;
    r.cookie = cookie;
    r.error = error;
    request(r);
    poll();
  }
  void route(const IpAddr& remote, Route::Kind kind = Route::Kind::kDirect, int error = 0) {
    Request r = world.route_answer(remote);
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
    poll();
    EXPECT_EQ(last_reply().type(), shm::MessageType::kContextReady);
    return last_reply().as<shm::ContextMessage>().slot;
  }
  const Reply& last_reply() { return world.replies.at(world.replies.size() - 1); }
  shm::Line& line(std::uint32_t segment, std::uint32_t n) {
    return segments.at(segment)->view().line(n);
  }
  void claim(SegmentId segment, std::uint32_t n, std::uint32_t slot) {
    shm::Line& l = line(index_of(segment), n);
    l.claim = shm::make_claim(l.generation, 1 + slot);
  }
  /// The application takes the connection: claim, cookie, kAccept.
  void accept(std::uint32_t client, std::uint32_t slot, const flow::Command& install,
              std::uint64_t cookie) {
    const auto& post = flows[index_of(install.flow)].post;
    shm::Line& l = line(index_of(post.segment), post.line);
    claim(post.segment, post.line, slot);
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
    listen(listen_request(1, 500, IpAddr::v4(0, 0, 0, 0), backlog));
    ASSERT_EQ(last_reply().type(), shm::MessageType::kListening);
    listener_line = last_reply().as<shm::LineMessage>().line;
  }
  /// The peer connects from `port` to `to_port`; returns the command that installed the flow.
  flow::Command establish(std::uint16_t port, std::uint32_t seq = 1000,
                          std::uint16_t to_port = 80) {
    const std::size_t before = commanded(flow::Command::Kind::kInstall).size();
    const auto segment = [&](std::uint8_t flags, std::uint32_t number, std::uint32_t ack) {
      wire::TcpSegmentHeader h = from_peer(port, flags, number, ack);
      h.dst_port = to_port;
      return h;
    };
    const std::size_t wanted = world.routes_wanted.size();
    receive(segment(wire::kSyn, seq, 0));
    if (world.routes_wanted.size() > wanted) route(kPeer);
    const wire::TcpSegment answer = last_sent();
    EXPECT_EQ(answer.flags, wire::kSyn | wire::kAck);
    receive(segment(wire::kAck, seq + 1, answer.seq + 1));
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

  std::map<std::uint32_t, std::unique_ptr<TestSegment>> segments;
  std::uint32_t peer_clock = 5000;
  std::uint32_t listener_line = 0;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_TEST_BENCH_H_
