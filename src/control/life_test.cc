// Random lives: peers, programs and the data path do anything they may, in any order. Control never
// breaks, and when all are gone nothing is left.
#include <map>
#include <set>
#include <string>

#include <rapidcheck.h>

#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;

class Life : public ControlTest {
 public:
  Life() : ControlTest(tight()) {}
  static Options tight() {
    Options o = small_options();
    o.max_flows = 4;
    o.max_time_wait = 4;
    o.max_ring_bytes_per_user = 200 * 1024;
    o.max_orphans = 2;
    return o;
  }
  void TestBody() override {}

  /// What happened over all lives, to see that they were worth living.
  static inline std::map<std::string, std::uint64_t> marks;

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      if (below(3) == 0) {
        obey();
      } else {
        obey_somewhat();
      }
    }
    end();
  }

 private:
  static std::uint32_t below(std::uint32_t n) {
    return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::uint32_t>(0, n));
  }
  std::uint16_t any_port() { return static_cast<std::uint16_t>(40000 + below(4)); }

  // The data path takes all commands and keeps the set of its flows.
  void obey() {
    for (bool more = true; more;) {
      more = control->poll(now);
      take_commands();
      more = answer_pages() || more || !events.empty() || commands.size() > 0;
    }
  }
  // For a moment: what else happens finds looks at all records under way.
  void obey_somewhat() {
    for (std::uint32_t left = below(6); left > 0; --left) {
      (void)control->poll(now);
      if (below(3) != 0) take_commands();
    }
  }
  void take_commands() {
    const std::size_t first = done.size();
    drain();
    for (std::size_t i = first; i < done.size(); ++i) {
      if (done[i].kind == Kind::kInstall) flows_there.insert(index_of(done[i].flow));
      if (done[i].kind == Kind::kRemove) {
        RC_ASSERT(flows_there.erase(index_of(done[i].flow)) == 1u);
      }
    }
  }

  void step() {
    switch (below(15)) {
      case 0:
        return attach();
      case 1:
        if (!clients_there.empty()) detach(some_client());
        return;
      case 2:
        return listen();
      case 3:
        return connect();
      case 4:
        return receive(from_peer(any_port(), wire::kSyn, below(3) * 1000));
      case 5:
      case 6:
        return answer();
      case 7:
        return claim_or_release();
      case 8:
        return end_flow();
      case 9:
        return tell();
      case 10:
      case 11:
        return handshake();
      case 12:
        now = now + millis(*rc::gen::element(1, 300, 1500, 40'000));
        return;
      case 13:
        return give_segment();
      default:
        return ask();
    }
  }

  void attach() {
    if (clients_there.size() == 4) return;
    const std::uint32_t id = next_client++;
    const std::uint32_t segment = free_segment();
    owner_of[segment] = id;
    join(id, segment, 1000 + below(2));
    clients_there.insert(id);
  }
  void give_segment() {
    if (clients_there.empty()) return;
    Request r;
    r.kind = Request::Kind::kSegment;
    const std::uint32_t segment = free_segment();
    const std::uint32_t client = some_client();
    owner_of[segment] = client;
    segments[segment] = std::make_unique<TestSegment>();
    r.client = ClientId{client};
    r.segment = SegmentId{segment};
    r.base = segments[segment]->base();
    request(r);
  }
  // As the engine: the lowest number that is not in use, so that they come again.
  std::uint32_t free_segment() {
    for (; freed_seen < world.freed.size(); ++freed_seen) {
      RC_ASSERT(owner_of.erase(index_of(world.freed[freed_seen])) == 1u);
    }
    ++segments_given;
    std::uint32_t id = 1;
    while (owner_of.contains(id)) ++id;
    return id;
  }
  std::uint32_t some_segment() {
    return 1 + below(static_cast<std::uint32_t>(segments.size()) + 1);
  }
  std::uint32_t some_client() {
    auto it = clients_there.begin();
    std::advance(it, below(static_cast<std::uint32_t>(clients_there.size())));
    return *it;
  }
  void detach(std::uint32_t client) {
    Request r;
    r.kind = Request::Kind::kLeave;
    r.client = ClientId{client};
    request(r);
    clients_there.erase(client);
  }
  void listen() {
    if (clients_there.empty()) return;
    auto r = listen_request(some_client(), 500 + below(3), below(2) ? kHere : IpAddr{}, below(4));
    r.reuseport = below(2) != 0;
    request(r);
    Request marked;
    marked.kind = Request::Kind::kMarked;
    marked.cookie = r.cookie;
    marked.error = below(8) == 0 ? 28 : 0;
    request(marked);
  }
  void connect() {
    if (clients_there.empty()) return;
    auto r = connect_request(some_client(), 900 + below(4));
    r.remote_port = static_cast<std::uint16_t>(9000 + below(2));
    request(r);
    Request port;
    port.kind = Request::Kind::kHeldPort;
    port.local = kHere;
    port.local_port = static_cast<std::uint16_t>(50000 + below(3));
    port.error = below(4) == 0 ? 98 : 0;
    request(port);
  }
  // The peer answers one of our last segments, rightly or nearly so.
  void answer() {
    if (world.sent.empty()) return;
    const std::size_t back = std::min<std::size_t>(world.sent.size(), 1 + below(3));
    const wire::TcpSegment s = world.sent[world.sent.size() - back];
    const std::uint8_t flags[] = {wire::kAck, wire::kSyn | wire::kAck, wire::kRst | wire::kAck,
                                  wire::kRst, wire::kFin | wire::kAck, wire::kSyn};
    auto h = from_peer(s.dst_port, flags[below(6)], s.ack + below(2), s.seq + 1 + below(8) / 7);
    h.dst_port = s.src_port;
    receive(h, (h.flags & wire::kSyn) != 0 ? 0 : below(2) * 10);
  }
  void handshake() {
    receive(from_peer(any_port(), wire::kSyn, below(3) * 100'000));
    if (world.sent.empty() || last_sent().flags != (wire::kSyn | wire::kAck)) return;
    const wire::TcpSegment s = last_sent();
    peer_clock += below(3);
    receive(from_peer(s.dst_port, wire::kAck, s.ack, s.seq + 1), below(2) * 10);
  }
  // Truth and lies of applications, as the data path passes them on.
  void claim_or_release() {
    if (clients_there.empty()) return;
    flow::Event e{};
    const std::uint32_t choice = below(4);
    e.kind = choice == 0 ? flow::Event::Kind::kRelease : flow::Event::Kind::kHold;
    e.segment = SegmentId{some_segment()};
    e.client = ClientId{some_client()};
    e.line = below(8);
    e.reset = below(2) != 0;
    if (!flows_there.empty() && below(3) != 0) {  // the truth, for once
      auto it = flows_there.begin();
      std::advance(it, below(static_cast<std::uint32_t>(flows_there.size())));
      e.segment = flows[*it].post.segment;
      e.line = flows[*it].post.line;
      if (below(4) != 0) e.client = ClientId{owner_of.at(index_of(e.segment))};
    }
    const auto there = segments.find(index_of(e.segment));
    if (there != segments.end() && e.line != 0) {
      shm::Line& l = there->second->view().line(e.line);
      l.claim = below(4) == 0 ? below(3) : shm::make_claim(l.generation, below(3));
      e.slot = shm::claim_owner(l.claim) - 1;
      l.cookie = below(2) * (9000 + below(6));
      l.rx_head = below(10);
      l.rcvbuf = below(2) * 0xffffffffu;
    }
    ASSERT_TRUE(events.push(e));
  }
  void end_flow() {
    if (flows_there.empty()) return;
    auto it = flows_there.begin();
    std::advance(it, below(static_cast<std::uint32_t>(flows_there.size())));
    flow::Event e{};
    e.kind = flow::Event::Kind::kClosed;
    e.flow = FlowId{*it};
    e.close = static_cast<flow::Event::Close>(below(5));
    ASSERT_TRUE(events.push(e));
  }
  void tell() {
    if (flows_there.empty()) return;
    const flow::Event::Kind kinds[] = {
        flow::Event::Kind::kArm,        flow::Event::Kind::kRound,
        flow::Event::Kind::kLoss,       flow::Event::Kind::kTimeout,
        flow::Event::Kind::kWantRxRing, flow::Event::Kind::kWantTxRing,
        flow::Event::Kind::kHalfClosed, flow::Event::Kind::kActive};
    flow::Event e{};
    e.kind = kinds[below(8)];
    e.flow = FlowId{*flows_there.begin()};
    e.at = now + millis(below(5000));
    e.sample = {now, below(100000), below(50000), 1448, 1000, millis(1), millis(1), 0};
    ASSERT_TRUE(events.push(e));
  }
  void ask() {
    Request r;
    r.remote = kPeer;
    r.kind = *rc::gen::element(Request::Kind::kRoute, Request::Kind::kRoute, Request::Kind::kShow,
                               Request::Kind::kContext, Request::Kind::kAddressGone,
                               Request::Kind::kAddressBack);
    r.route.kind = below(4) == 0 ? Route::Kind::kUnreachable : Route::Kind::kDirect;
    r.route.source = kHere;
    r.route.source_mac = kHereMac;
    r.route.next_hop_mac = MacAddr{{2, 2, 2, 2, 2, static_cast<std::uint8_t>(below(2))}};
    r.local = below(8) == 0 ? kHere : kPeer;
    if (r.kind == Request::Kind::kRoute && !world.routes_wanted.empty()) {
      const auto wanted = static_cast<std::uint32_t>(world.routes_wanted.size());
      set_route_key(world.routes_wanted[below(wanted)], r);
    }
    r.count = 2;
    r.cookies[0] = 500 + below(3);
    r.cookies[1] = 9000 + below(6);
    if (!clients_there.empty()) r.client = ClientId{some_client()};
    r.segment = SegmentId{some_segment()};
    request(r);
  }

  void end() {
    Request stop;
    stop.kind = Request::Kind::kStop;
    if (below(4) == 0) request(stop);
    while (!clients_there.empty()) detach(*clients_there.begin());
    obey();
    for (int i = 0; i < 200; ++i) {
      if (!flows_there.empty()) {
        flow::Event e{};
        e.kind = flow::Event::Kind::kClosed;
        e.flow = FlowId{*flows_there.begin()};
        e.close = flow::Event::Close::kAborted;
        RC_ASSERT(events.push(e));
      }
      now = now + seconds(2);
      obey();
    }
    RC_ASSERT(flows_there.empty());
    RC_ASSERT(control->flows_in_use() == 0u);
    RC_ASSERT(control->quiet());
    RC_ASSERT(all_frames_home());
    RC_ASSERT(world.freed.size() == segments_given);
#define TOE_MARK(name) marks[#name] += control->counters().name;
    TOE_CONTROL_COUNTERS(TOE_MARK)
#undef TOE_MARK
  }

  std::set<std::uint32_t> clients_there;
  std::set<std::uint32_t> flows_there;
  std::uint32_t next_client = 1;
  std::map<std::uint32_t, std::uint32_t> owner_of;  // of segments that are not free
  std::size_t freed_seen = 0;
  std::size_t segments_given = 0;
};

TEST(ControlLife, NothingIsLeftWhenAllAreGone) {
  EXPECT_TRUE(rc::check([] {
    Life life;
    life.run(*rc::gen::resize(rc::kNominalSize, rc::gen::inRange(50, 300)));
  }));
  for (const char* name : {"passive_opens", "active_opens", "accepts", "misbehaved", "orphans",
                           "time_wait_created", "time_wait_reused", "syn_dropped_backlog",
                           "syn_dropped_limit", "ring_grown", "attempt_fails", "estab_resets"}) {
    EXPECT_GT(Life::marks[name], 0u) << name;
  }
}

}  // namespace
}  // namespace toe::control
