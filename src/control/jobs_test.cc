// Work over all records: what waits for what, and how many looks there are.
#include <algorithm>
#include <cerrno>

#include "control/ports.h"
#include "control/records.h"
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;

class JobsTest : public ControlTest {
 protected:
  static constexpr std::uint32_t kFlows = 8192;
  static constexpr std::uint32_t kOthers = 60;                      // programs
  static constexpr std::uint32_t kLook = kFlows / kRecordsPerStep;  // steps of one look

  static Options large() {
    Options o = small_options();
    o.max_flows = kFlows;
    return o;
  }
  JobsTest() : ControlTest(large()) {}

  void SetUp() override {
    serve();
    slot = context(1, 1);
    held = establish(40000);
    route_of_held = world.route_answer(kPeer);
    accept(1, slot, held, 9001);
    for (std::uint32_t i = 2; i < 2 + kOthers; ++i) {
      join(i, i);
      context(i, i);
    }
  }
  void others_leave() {
    for (std::uint32_t i = 2; i < 2 + kOthers; ++i) leave_unseen(i);
  }
  void leave_unseen(std::uint32_t client) {
    Request r;
    r.kind = Request::Kind::kLeave;
    r.client = ClientId{client};
    request(r);
  }
  void route_changes(std::uint8_t last_of_mac = 99) {
    Request r = route_of_held;
    r.route.kind = Route::Kind::kDirect;
    r.route.source_mac = kHereMac;
    r.route.next_hop_mac = {{2, 0, 0, 0, 1, last_of_mac}};
    request(r);
  }
  /// Polls until `done`; returns how often.
  template <typename Done>
  std::uint32_t steps_until(Done done) {
    std::uint32_t steps = 0;
    for (; steps < 1000 * kLook && !done(); ++steps) {
      (void)control->poll(now);
      drain();
    }
    return steps;
  }
  bool told(Kind kind) const {
    return std::any_of(this->done.begin(), this->done.end(),
                       [kind](const flow::Command& c) { return c.kind == kind; });
  }

  std::uint32_t slot = 0;
  flow::Command held;
  Request route_of_held;
};

TEST_F(JobsTest, ConnectionsHaveTheirNewNextHopBeforeTheDeadAreClearedUp) {
  others_leave();
  route_changes();
  EXPECT_LE(steps_until([this] { return told(Kind::kSetHeader); }), kLook + 2);
}

TEST_F(JobsTest, OneLookServesAllProgramsThatEnd) {
  others_leave();
  const std::uint32_t each = 4;  // steps of its own: contexts closed, segment wiped and removed
  EXPECT_LE(steps_until([this] { return world.freed.size() == kOthers; }),
            2 * kLook + kOthers * each);
  EXPECT_TRUE(commanded(Kind::kOrphan).empty());
}

TEST_F(JobsTest, OneLookServesAllListenersThatEnd) {
  for (std::uint32_t i = 2; i < 2 + kOthers; ++i) {
    Request r = listen_request(i, 600 + i, IpAddr::v4(0, 0, 0, 0));
    r.local_port = static_cast<std::uint16_t>(1000 + i);
    listen(r);
  }
  const auto waiting = establish(40001, 1000, 1002);  // in the accept ring of program 2
  others_leave();
  const std::uint32_t each = 6;
  const std::uint32_t closing = 1 + (kFlows + kMaxAttempts) / kRecordsPerStep;
  EXPECT_LE(steps_until([this] { return world.freed.size() == kOthers - 1; }),
            2 * kLook + 2 * closing + kOthers * each);
  ASSERT_EQ(commanded(Kind::kOrphan).size(), 1u);
  EXPECT_EQ(commanded(Kind::kOrphan)[0].flow, waiting.flow);
  close_flow(waiting.flow, flow::Event::Close::kAborted);
  EXPECT_EQ(world.freed.size(), kOthers);
}

// The rings between control and data path are never both empty then.
TEST_F(JobsTest, ProgramsAreClearedUpWhileOthersAreBusy) {
  leave_unseen(2);
  for (std::uint32_t i = 0; i < 4 * kLook && world.freed.empty(); ++i) {
    flow::Event e{};
    e.kind = flow::Event::Kind::kArm;
    e.flow = held.flow;
    e.at = now;
    ASSERT_TRUE(events.push(e));
    (void)control->poll(now);  // answers that the time has come
    ASSERT_FALSE(commands.empty());
    drain();
  }
  EXPECT_EQ(world.freed.size(), 1u);
}

// Several processes have each connection, and end while one look is under way.
TEST_F(JobsTest, AllHoldersThatEndAreSeenByOneLook) {
  for (std::uint32_t i = 2; i < 2 + kOthers; ++i) {
    Request r;
    r.kind = Request::Kind::kShow;
    r.client = ClientId{i};
    r.count = 1;
    r.cookies[0] = 9001;
    request(r);
  }
  poll();
  EXPECT_EQ(line(1, flows[index_of(held.flow)].post.line).holders, 1 + kOthers);
  leave_unseen(2);
  (void)control->poll(now);  // its look has begun
  for (std::uint32_t i = 3; i < 2 + kOthers; ++i) leave_unseen(i);
  poll();
  EXPECT_EQ(line(1, flows[index_of(held.flow)].post.line).holders, 1u);
  EXPECT_TRUE(commanded(Kind::kOrphan).empty());
  leave(1);
  EXPECT_EQ(commanded(Kind::kOrphan).size(), 1u);
}

// Each connect() that waits looks at all ports of the pool before it gives up, and may try again.
class PortsSearched : public JobsTest {
 protected:
  static constexpr std::uint32_t kPorts = 256;
  static constexpr std::uint32_t kTooMany = 2 * kPorts;  // connects that find none

  void SetUp() override {
    JobsTest::SetUp();
    for (std::uint32_t i = 0; i < kPorts + kTooMany; ++i) {
      request(connect_request(1, 20000 + i));
    }
    route(kPeer);
    for (std::uint16_t i = 0; i < kPorts; ++i) held_port(static_cast<std::uint16_t>(50000 + i));
    no_more_ports(kHere);
    ASSERT_LT(refused(77), kTooMany) << "the search goes on";
    done.clear();
  }
  void no_more_ports(const IpAddr& local) {
    Request none;
    none.kind = Request::Kind::kHeldPort;
    none.local = local;
    none.error = EADDRNOTAVAIL;
    for (std::uint32_t i = 0; i < PortPool::kBatch; ++i) request(none);
  }
  std::size_t refused(std::uint64_t tag) const {
    return static_cast<std::size_t>(
        std::count_if(world.replies.begin(), world.replies.end(), [tag](const Reply& r) {
          const auto header = r.as<shm::MessageHeader>();
          return header.type == shm::MessageType::kRefused && header.tag == tag;
        }));
  }
};

TEST_F(PortsSearched, AfterConnectionsHaveTheirNewNextHop) {
  route_changes();
  EXPECT_LE(steps_until([this] { return told(Kind::kSetHeader); }), kLook + 2);
  EXPECT_LT(refused(77), kTooMany) << "it still goes on";
  poll();
  EXPECT_EQ(refused(77), kTooMany);
}

TEST_F(PortsSearched, ForAllAddressesInTurn) {
  constexpr std::uint32_t kOthers = 10;
  const IpAddr other = IpAddr::v4(10, 0, 0, 9);
  for (std::uint32_t i = 0; i < kOthers; ++i) {
    Request r = connect_request(1, 30000 + i);
    r.local = other;
    r.tag = 88;
    request(r);
  }
  Request answer = world.route_answer(kPeer);
  answer.route.kind = Route::Kind::kDirect;
  answer.route.source = other;
  request(answer);
  no_more_ports(other);
  EXPECT_LE(steps_until([&] { return refused(88) == kOthers; }), 4 * kOthers);
  EXPECT_LT(refused(77), kTooMany) << "it still goes on";
}

// A next hop that is another in every step: what a look has not come to must not wait for rest.
TEST_F(JobsTest, RestlessRoutesReachEveryConnection) {
  flow::Command last = held;
  for (std::uint16_t i = 1; i < 2 * kRecordsPerStep; ++i) {
    last = establish(static_cast<std::uint16_t>(40000 + i));
    accept(1, slot, last, 9001 + i);
  }
  ASSERT_GT(index_of(last.flow), kRecordsPerStep);
  const auto reached = [&] {
    return std::any_of(done.begin(), done.end(), [&](const flow::Command& c) {
      return c.kind == Kind::kSetHeader && c.flow == last.flow;
    });
  };
  std::uint32_t steps = 0;
  for (; steps < 4 * kLook && !reached(); ++steps) {
    route_changes(static_cast<std::uint8_t>(steps));
    (void)control->poll(now);
    drain();
  }
  EXPECT_LE(steps, kLook);
}

}  // namespace
}  // namespace toe::control
