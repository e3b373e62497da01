// Processes: who holds what, and what happens when one dies.
#include "control/command_queue.h"
#include "control/records.h"
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Kind = flow::Command::Kind;
using shm::KernelReason;
using shm::MessageType;

class HoldersTest : public ControlTest {
 protected:
  Request show_request(std::uint32_t client, std::uint64_t cookie) {
    Request r;
    r.kind = Request::Kind::kShow;
    r.client = ClientId{client};
    r.count = 1;
    r.cookies[0] = cookie;
    return r;
  }
  shm::Shown::Entry show(std::uint32_t client, std::uint64_t cookie) {
    request(show_request(client, cookie));
    EXPECT_EQ(last_reply().type(), MessageType::kShown);
    return last_reply().as<shm::Shown>().entries[0];
  }
  std::uint32_t line_of(const flow::Command& install) {
    return flows[index_of(install.flow)].post.line;
  }
};

TEST_F(HoldersTest, ForkedChildKeepsTheConnection) {
  serve();
  const std::uint32_t slot = context(1, 1);
  const auto in = establish(40000);
  accept(1, slot, in, 9001);
  join(2, 2);
  const auto entry = show(2, 9001);
  EXPECT_EQ(entry.kind, shm::ShownKind::kConnection);
  EXPECT_EQ(entry.line, line_of(in));
  EXPECT_EQ(entry.generation, line(1, entry.line).generation);
  EXPECT_EQ(world.shared.size(), 1u);
  EXPECT_EQ(line(1, entry.line).holders, 2u);
  release(1, 1, entry.line);
  EXPECT_EQ(line(1, entry.line).holders, 1u);
  EXPECT_TRUE(commanded(Kind::kOrphan).empty());
  leave(1);
  EXPECT_TRUE(commanded(Kind::kOrphan).empty());
  EXPECT_TRUE(world.freed.empty());  // its segment lives as long as the connection
  leave(2);
  EXPECT_EQ(commanded(Kind::kOrphan).size(), 1u);
  close_flow(in.flow, flow::Event::Close::kDone);
  EXPECT_EQ(world.freed.size(), 2u);
}

TEST_F(HoldersTest, ManyHoldersAndAnyOrderOfRelease) {
  serve();
  const std::uint32_t slot = context(1, 1);
  const auto in = establish(40000);
  accept(1, slot, in, 9001);
  for (std::uint32_t c = 2; c < 7; ++c) {
    join(c, c);
    show(c, 9001);
    show(c, 9001);  // twice is once
  }
  for (std::uint32_t c : {1u, 4u, 6u, 2u, 5u}) release(c, 1, line_of(in));
  EXPECT_TRUE(commanded(Kind::kOrphan).empty());
  release(4, 1, line_of(in));  // had let go already
  EXPECT_TRUE(commanded(Kind::kOrphan).empty());
  release(3, 1, line_of(in));
  EXPECT_EQ(commanded(Kind::kOrphan).size(), 1u);
}

TEST_F(HoldersTest, ClaimedCookieCountsForTheSameUserOnly) {
  serve();
  const std::uint32_t slot = context(1, 1);
  accept(1, slot, establish(40000), 9001);
  join(2, 2, 2000);
  EXPECT_EQ(show(2, 9001).kind, shm::ShownKind::kKernel);
  EXPECT_EQ(show(2, 500).kind, shm::ShownKind::kListener);  // read from a socket that was shown
  EXPECT_EQ(show(2, 4711).kind, shm::ShownKind::kKernel);
}

// SO_COOKIEs are small numbers in order: a program can say in advance that it has one that another
// user's socket will get.
TEST_F(HoldersTest, AForgedCookieIsInNobodyElsesWay) {
  serve();
  join(2, 2, 2000);
  Request other = listen_request(2, 600, IpAddr::v4(0, 0, 0, 0));
  other.local_port = 81;
  listen(other);
  const auto forged = establish(40000, 1000, 81);
  const std::uint32_t slot = context(2, 2);
  accept(2, slot, forged, 9001);  // the cookies of sockets to come of user 1000
  accept(2, slot, establish(40001, 1000, 81), 901);
  ASSERT_TRUE(world.dropped.empty());
  const auto honest = establish(40002);
  accept(1, context(1, 1), honest, 9001);
  request(connect_request(1, 901));
  route(kPeer);
  held_port(50000);
  EXPECT_EQ(last_reply().type(), MessageType::kConnecting);
  EXPECT_TRUE(world.dropped.empty()) << "a forged cookie ended the program that has the socket";
  // Whoever shows the socket gets its connection, and not the forger's.
  join(3, 3);
  const auto entry = show(3, 9001);
  EXPECT_EQ(entry.segment_id, 1u);
  EXPECT_EQ(entry.line, line_of(honest));
  // The forger shows no socket, but if it could: its own connection at most.
  EXPECT_EQ(show(2, 9001).line, line_of(forged));
  EXPECT_EQ(show(2, 9001).segment_id, 2u);
}

TEST_F(HoldersTest, ClaimingAnothersCookieOrConnectionEndsTheClient) {
  serve();
  const std::uint32_t slot = context(1, 1);
  const auto first = establish(40000);
  accept(1, slot, first, 9001);
  accept(1, slot, establish(40001), 9001);
  EXPECT_EQ(world.dropped, std::vector<ClientId>{ClientId{1}});
  join(2, 2);
  show(2, 500);
  accept(2, 1, first, 9002);  // client 1 has it
  EXPECT_EQ(world.dropped.size(), 2u);
  EXPECT_EQ(control->counters().misbehaved, 2u);
}

TEST_F(HoldersTest, AcceptWithoutHoldingTheListener) {
  serve();
  join(2, 2);
  accept(2, 1, establish(40000), 9001);
  EXPECT_EQ(world.dropped, std::vector<ClientId>{ClientId{2}});
}

TEST_F(HoldersTest, DeathResetsUnacceptedAndReturnsEverything) {
  serve();
  const std::uint32_t slot = context(1, 1);
  const auto taken = establish(40000);
  accept(1, slot, taken, 9001);
  const auto claimed = establish(40001);  // taken from the ring, kAccept never came
  claim(SegmentId{1}, line_of(claimed), slot);
  establish(40002);                          // nobody took it
  receive(from_peer(40003, wire::kSyn, 1));  // half-open
  leave(1);
  EXPECT_EQ(world.closed, std::vector<std::uint64_t>{500});
  const auto orphans = commanded(Kind::kOrphan);
  ASSERT_EQ(orphans.size(), 3u);
  EXPECT_EQ(commanded(Kind::kCloseContext).size(), 1u);
  EXPECT_EQ(last_sent().flags, wire::kRst | wire::kAck);
  EXPECT_TRUE(world.ports_released.empty());
  for (const auto& c : commanded(Kind::kInstall)) {
    close_flow(c.flow, flow::Event::Close::kAborted);
  }
  EXPECT_EQ(control->flows_in_use(), 0u);
  EXPECT_EQ(world.freed, std::vector<SegmentId>{SegmentId{1}});
  ASSERT_EQ(world.ports_released.size(), 2u);  // the wildcard and the address in use under it
  EXPECT_EQ(world.ports_released[0].second, 80);
  EXPECT_TRUE(control->quiet());
}

TEST_F(HoldersTest, SharedListenerOutlivesOneOfItsProcesses) {
  serve();
  const std::uint32_t slot1 = context(1, 1);
  join(2, 2);
  ASSERT_EQ(show(2, 500).kind, shm::ShownKind::kListener);
  const std::uint32_t slot2 = context(2, 1);  // in the parent's segment
  EXPECT_NE(slot1, slot2);
  accept(2, slot2, establish(40000), 9001);
  const auto lost = establish(40001);  // process 1 claimed it and died at once
  claim(SegmentId{1}, line_of(lost), slot1);
  const auto waiting = establish(40002);
  leave(1);
  EXPECT_TRUE(world.closed.empty());
  const auto orphans = commanded(Kind::kOrphan);
  ASSERT_EQ(orphans.size(), 1u);
  EXPECT_EQ(orphans[0].flow, lost.flow);
  accept(2, slot2, waiting, 9003);
  EXPECT_EQ(control->counters().accepts, 2u);
}

TEST_F(HoldersTest, OnlyTheClaimerMayAccept) {
  serve();
  const std::uint32_t slot1 = context(1, 1);
  join(2, 2);
  ASSERT_EQ(show(2, 500).kind, shm::ShownKind::kListener);
  const std::uint32_t slot2 = context(2, 1);
  const auto in = establish(40000);
  claim(SegmentId{1}, line_of(in), slot1);
  flow::Event e{};
  e.kind = flow::Event::Kind::kHold;
  e.segment = SegmentId{1};
  e.line = line_of(in);
  e.client = ClientId{2};
  e.slot = slot2;
  event(e);
  EXPECT_EQ(world.dropped, std::vector<ClientId>{ClientId{2}});
  accept(1, slot1, in, 9001);
  EXPECT_EQ(world.dropped.size(), 1u);
  EXPECT_EQ(control->counters().accepts, 1u);
}

TEST_F(HoldersTest, AClosedListenersConnectionCannotBeClaimedAnyMore) {
  serve();
  const auto in = establish(40000);
  shm::Line& l = line(1, line_of(in));
  const std::uint32_t generation = l.generation;
  EXPECT_EQ(l.claim, shm::make_claim(generation, shm::kUnclaimed));
  release(1, 1, listener_line);
  EXPECT_EQ(l.claim, shm::make_claim(generation, shm::kEngineClaim)) << "before it was reset";
}

TEST_F(HoldersTest, CloseOfAListenerSparesWhatIsBeingAccepted) {
  serve();
  const std::uint32_t slot = context(1, 1);
  const auto in = establish(40000);
  const auto other = establish(40001);
  claim(SegmentId{1}, line_of(in), slot);  // kAccept is on its way
  release(1, 1, listener_line);
  const auto orphans = commanded(Kind::kOrphan);
  ASSERT_EQ(orphans.size(), 1u);
  EXPECT_EQ(orphans[0].flow, other.flow);
  EXPECT_TRUE(orphans[0].reset);
  accept(1, slot, in, 9001);
  EXPECT_TRUE(world.dropped.empty());
  EXPECT_EQ(control->counters().accepts, 1u);
  EXPECT_EQ(line(1, listener_line).generation % 2, 0u);
}

TEST_F(HoldersTest, AForgedClaimKeepsNoConnectionOfAClosedListener) {
  serve();
  const std::uint32_t slot = context(1, 1);
  const auto in = establish(40000);
  claim(SegmentId{1}, line_of(in), slot);
  release(1, 1, listener_line);
  claim(SegmentId{1}, line_of(in), 4711);
  EXPECT_TRUE(commanded(Kind::kOrphan).empty());
  leave(1);
  EXPECT_EQ(commanded(Kind::kOrphan).size(), 1u);
}

TEST_F(HoldersTest, ReusePortGroupSharesOneListener) {
  join(1, 1);
  join(2, 2);
  auto first = listen_request(1, 500, kHere);
  auto second = listen_request(2, 501, kHere);
  listen(first);
  listen(second);
  EXPECT_EQ(last_reply().as<shm::Refused>().reason, KernelReason::kPortTaken);
  first.cookie = 510;
  first.local_port = second.local_port = 81;
  first.reuseport = second.reuseport = true;
  listen(first);
  const auto one = last_reply().as<shm::LineMessage>();
  listen(second);
  const auto two = last_reply().as<shm::LineMessage>();
  EXPECT_EQ(two.header.type, MessageType::kListening);
  EXPECT_EQ(one.line, two.line);
  EXPECT_EQ(one.segment_id, two.segment_id);
  EXPECT_EQ(world.shared.size(), 1u);
  release(1, 1, one.line);
  EXPECT_EQ(world.closed, std::vector<std::uint64_t>{510});
  EXPECT_TRUE(world.ports_released.empty());
  release(2, 1, one.line);
  EXPECT_EQ(world.closed.size(), 2u);
  EXPECT_EQ(world.ports_released.size(), 1u);
}

TEST_F(HoldersTest, OtherUsersCannotJoin) {
  join(1, 1, 1000);
  join(2, 2, 2000);
  auto r = listen_request(1, 500, kHere);
  r.reuseport = true;
  listen(r);
  auto other = listen_request(2, 501, kHere);
  other.reuseport = true;
  listen(other);
  EXPECT_EQ(last_reply().as<shm::Refused>().reason, KernelReason::kOtherUser);
}

TEST_F(HoldersTest, ContextSlotsAreWipedBeforeTheyAreUsedAgain) {
  serve();
  join(2, 2);
  ASSERT_EQ(show(2, 500).kind, shm::ShownKind::kListener);
  const std::uint32_t slot = context(2, 1);
  line(1, listener_line).hinted_app = std::uint64_t{1} << slot | 1;
  line(1, listener_line).rx_lock = slot + 1;
  segments[1]->view().context(slot).engine_tail = 99;
  leave(2);
  EXPECT_EQ(line(1, listener_line).hinted_app, 1u);
  EXPECT_EQ(line(1, listener_line).rx_lock, 0u);
  join(3, 3);
  show(3, 500);
  EXPECT_EQ(context(3, 1), slot);
  EXPECT_EQ(segments[1]->view().context(slot).engine_tail, 0u);
}

TEST_F(HoldersTest, ContextsOnlyInSegmentsOfOnesOwn) {
  join(1, 1);
  join(2, 2);
  Request r;
  r.kind = Request::Kind::kContext;
  r.client = ClientId{2};
  r.segment = SegmentId{1};
  request(r);
  EXPECT_EQ(last_reply().type(), MessageType::kRefused);
  r.segment = SegmentId{2};
  for (int i = 0; i < 63; ++i) {
    request(r);
    poll();
    ASSERT_EQ(last_reply().type(), MessageType::kContextReady);
  }
  request(r);
  EXPECT_EQ(last_reply().as<shm::Refused>().reason, KernelReason::kLimit);
}

TEST_F(HoldersTest, AContextIsReadyOnceTheDataPathListensToIt) {
  join(1, 1);
  poll();
  while (commands.push(make_command(Kind::kTimer))) {
  }
  Request r;
  r.kind = Request::Kind::kContext;
  r.client = ClientId{1};
  r.segment = SegmentId{1};
  r.doorbell = 5;
  r.tag = 42;
  const std::size_t before = world.replies.size();
  request(r);
  for (int i = 0; i < 10; ++i) control->poll(now);
  EXPECT_EQ(world.replies.size(), before) << "its command waits behind a full ring";
  poll();
  ASSERT_EQ(last_reply().type(), MessageType::kContextReady);
  EXPECT_EQ(last_reply().as<shm::ContextMessage>().doorbell, 5u);
  EXPECT_EQ(last_reply().as<shm::ContextMessage>().header.tag, 42u);
}

TEST_F(HoldersTest, TheAnswerForAContextComesAlsoWhenItsOpenerHasGone) {
  join(1, 1);
  poll();
  Request r;
  r.kind = Request::Kind::kContext;
  r.client = ClientId{1};
  r.segment = SegmentId{1};
  r.tag = 42;
  request(r);
  leave(1);
  EXPECT_EQ(last_reply().type(), MessageType::kContextReady) << "or its doorbell stays open";
  EXPECT_EQ(world.freed.size(), 1u);
}

TEST_F(HoldersTest, ListenAgainChangesTheBacklog) {
  serve(0);
  establish(40000);
  const std::size_t sent = world.sent.size();
  receive(from_peer(40001, wire::kSyn, 1));
  EXPECT_EQ(world.sent.size(), sent);
  request(listen_request(1, 500, IpAddr::v4(0, 0, 0, 0), 10));
  EXPECT_EQ(last_reply().as<shm::LineMessage>().line, listener_line);
  receive(from_peer(40001, wire::kSyn, 1));
  EXPECT_EQ(last_sent().flags, wire::kSyn | wire::kAck);
}

TEST_F(HoldersTest, ListenAgainChangesTheOptionsOfConnectionsToCome) {
  serve();
  Request again = listen_request(1, 500, IpAddr::v4(0, 0, 0, 0), 16);
  again.options.keep_idle_s = 55;
  again.options.app_flags = shm::kNoDelay;
  request(again);
  const flow::ProtocolSlice& p = flows[index_of(establish(40000).flow)].protocol;
  EXPECT_TRUE(p.nodelay);
  EXPECT_EQ(p.keep_idle, seconds(55));
}

class LimitsTest : public ControlTest {
 protected:
  static Options tight() {
    Options o = small_options();
    o.max_flows_per_user = 2;
    o.max_connecting_per_user = 3;
    o.max_listeners_per_user = 2;
    o.max_orphans_per_user = 1;
    return o;
  }
  bool listens(std::uint32_t client, std::uint64_t cookie, std::uint16_t port) {
    Request r = listen_request(client, cookie, IpAddr::v4(0, 0, 0, 0));
    r.local_port = port;
    listen(r);
    return last_reply().type() == MessageType::kListening;
  }
  KernelReason refusal() {
    return last_reply().type() == MessageType::kRefused ? last_reply().as<shm::Refused>().reason
                                                        : KernelReason::kNone;
  }
  LimitsTest() : ControlTest(tight()) {}
};

TEST_F(LimitsTest, OneUserCannotTakeAllRecords) {
  serve();
  establish(40000);
  establish(40001);
  receive(from_peer(40002, wire::kSyn, 1));
  receive(from_peer(40002, wire::kAck, 2, last_sent().seq + 1));
  EXPECT_EQ(commanded(Kind::kInstall).size(), 2u);
  EXPECT_EQ(control->counters().syn_dropped_limit, 1u);
  request(connect_request(1, 901));
  EXPECT_EQ(last_reply().as<shm::Refused>().reason, KernelReason::kLimit);
  EXPECT_EQ(control->counters().user_limits, 2u);
}

TEST_F(LimitsTest, OneUserCannotTakeAllListeners) {
  join(1, 1);
  join(2, 2);
  join(3, 3, 2000);
  EXPECT_TRUE(listens(1, 500, 80));
  EXPECT_TRUE(listens(2, 501, 81));
  EXPECT_FALSE(listens(1, 502, 82));
  EXPECT_EQ(refusal(), KernelReason::kLimit);
  EXPECT_TRUE(listens(3, 503, 83)) << "another user";
  leave(2);
  EXPECT_TRUE(listens(1, 504, 84)) << "what is given back can be had again";
}

TEST_F(LimitsTest, OneUserCannotTakeAllHalfOpenConnections) {
  join(1, 1);
  join(2, 2, 2000);
  Request r = connect_request(1, 901);  // to hosts whose routes are never answered
  for (std::uint8_t i = 1; i <= 3; ++i) {
    r.cookie = 900 + i;
    r.remote = IpAddr::v4(10, 9, 9, i);
    request(r);
  }
  EXPECT_TRUE(world.replies.empty());
  r.cookie = 904;
  request(r);
  EXPECT_EQ(refusal(), KernelReason::kLimit);
  const std::size_t before = world.replies.size();
  request(connect_request(2, 905));
  EXPECT_EQ(world.replies.size(), before) << "another user waits for its route";
  pass(seconds(11));  // they give up
  r.cookie = 906;
  const std::size_t given_up = world.replies.size();
  request(r);
  EXPECT_EQ(world.replies.size(), given_up);
}

TEST_F(LimitsTest, OneUsersOrphansDoNotEndThoseOfOthers) {
  serve();
  const std::uint32_t slot = context(1, 1);
  const auto first = establish(40000);
  const auto second = establish(40001);
  accept(1, slot, first, 9001);
  accept(1, slot, second, 9002);
  join(2, 2, 2000);
  listens(2, 600, 81);
  const auto other = establish(40002, 1000, 81);
  accept(2, context(2, 2), other, 9003);
  answer_aborts = false;
  leave(1);
  EXPECT_EQ(commanded(Kind::kOrphan).size(), 1u);
  EXPECT_EQ(commanded(Kind::kAbort).size(), 1u) << "one more than its user may have";
  leave(2);
  EXPECT_EQ(commanded(Kind::kOrphan).size(), 2u);
  EXPECT_EQ(commanded(Kind::kAbort).size(), 1u);
  close_flow(first.flow, flow::Event::Close::kAborted);
  close_flow(second.flow, flow::Event::Close::kAborted);
  close_flow(other.flow, flow::Event::Close::kDone);
}

// The data path is behind while programs end that have as many contexts as they can.
TEST_F(HoldersTest, AllContextsOfManyProgramsAreClosedAtOnce) {
  constexpr std::uint32_t kPrograms = 6;
  std::uint32_t segment = 0;
  for (std::uint32_t c = 1; c <= kPrograms; ++c) {
    join(c, ++segment);
    for (std::uint32_t n = 1; n < kMaxSegmentsPerClient; ++n) {
      segments[++segment] = std::make_unique<TestSegment>();
      Request more;
      more.kind = Request::Kind::kSegment;
      more.client = ClientId{c};
      more.segment = SegmentId{segment};
      more.base = segments[segment]->base();
      request(more);
    }
    for (std::uint32_t n = 0; n < kMaxSegmentsPerClient; ++n) {
      Request r;
      r.kind = Request::Kind::kContext;
      r.client = ClientId{c};
      r.segment = SegmentId{segment - n};
      for (std::uint32_t slot = 1; slot < shm::kContexts; ++slot) request(r);
      poll();
    }
  }
  EXPECT_EQ(commanded(Kind::kOpenContext).size(), segment * (shm::kContexts - 1));
  for (std::uint32_t c = 1; c <= kPrograms; ++c) {
    Request r;
    r.kind = Request::Kind::kLeave;
    r.client = ClientId{c};
    request(r);
  }
  for (int i = 0; i < 1000; ++i) (void)control->poll(now);
  EXPECT_EQ(commanded(Kind::kCloseContext).size(), segment * (shm::kContexts - 1));
  EXPECT_EQ(world.freed.size(), segment);
  EXPECT_TRUE(control->empty());
}

// Its number must not become another segment's while a program takes it for this one.
TEST_F(HoldersTest, ASegmentLastsWhileAProgramHasIt) {
  serve();
  join(2, 2);
  request(listen_request(2, 600, IpAddr::v4(0, 0, 0, 0)));
  EXPECT_EQ(last_reply().type(), MessageType::kRefused);
  ASSERT_EQ(world.shared.size(), 1u) << "with nothing in it";
  leave(1);
  EXPECT_TRUE(world.freed.empty());
  leave(2);
  EXPECT_EQ(world.freed.size(), 2u);
  EXPECT_TRUE(control->empty());
}

}  // namespace
}  // namespace toe::control
