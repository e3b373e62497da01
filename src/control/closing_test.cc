// Ends: RST to strangers, TIME-WAIT, orphans, aborts, timers of flows, exit.
#include <cerrno>

#include "control/records.h"
#include "control/test_bench.h"

namespace toe::control {
namespace {

using Close = flow::Event::Close;
using Kind = flow::Command::Kind;

class ClosingTest : public ControlTest {
 protected:
  // An accepted connection held by client 1.
  void accepted() {
    serve();
    slot = context(1, 1);
    install = establish(40000);
    flow = install.flow;
    accept(1, slot, install, 9001);
    line_number = flows[index_of(flow)].post.line;
  }
  // The data path's last words: both FINs are through, we closed first.
  void end_in_time_wait() {
    auto& f = flows[index_of(flow)];
    f.protocol.snd_max = 501;
    f.protocol.rcv_nxt = 101;
    f.protocol.ts_recent = 6000;
    snd_nxt = f.pre.iss + 1 + 501;
    rcv_nxt = f.pre.irs + 1 + 101;
    release(1, 1, line_number);
    close_flow(flow, Close::kTimeWait);
  }

  std::uint32_t slot = 0;
  flow::Command install;
  FlowId flow = kNoFlow;
  std::uint32_t line_number = 0;
  std::uint32_t snd_nxt = 0;
  std::uint32_t rcv_nxt = 0;
};

TEST_F(ClosingTest, StrangersAreReset) {
  receive(from_peer(1234, wire::kAck, 5, 777), 10);
  EXPECT_EQ(last_sent().flags, wire::kRst);
  EXPECT_EQ(last_sent().seq, 777u);
  receive(from_peer(1234, wire::kFin | wire::kPsh, 5), 10);  // without ACK
  EXPECT_EQ(last_sent().flags, wire::kRst | wire::kAck);
  EXPECT_EQ(last_sent().seq, 0u);
  EXPECT_EQ(last_sent().ack, 5u + 11u);
  receive(from_peer(1234, wire::kSyn, 5));
  EXPECT_EQ(last_sent().ack, 6u);
  const std::size_t sent = world.sent.size();
  receive(from_peer(1234, wire::kRst, 5));
  receive(from_peer(1234, wire::kRst | wire::kAck, 5, 6));
  EXPECT_EQ(world.sent.size(), sent);
  EXPECT_EQ(control->counters().out_resets, 3u);
  EXPECT_TRUE(all_frames_home());
}

TEST_F(ClosingTest, NothingIsResetWhileThePortIsBeingSteered) {
  join(1, 1);
  request(listen_request(1, 500, kHere));
  receive(from_peer(40000, wire::kAck, 5, 777), 10);  // of a connection of the kernel, may be
  EXPECT_TRUE(world.sent.empty());
  EXPECT_EQ(control->counters().drops.handshake_waiting, 1u);
  mark(500);
  receive(from_peer(40000, wire::kAck, 5, 777), 10);
  EXPECT_EQ(last_sent().flags, wire::kRst);
  EXPECT_EQ(last_sent().seq, 777u);
}

TEST_F(ClosingTest, ListeningPortIgnoresAllButSynAndAck) {
  serve();
  receive(from_peer(1234, wire::kFin, 5));
  EXPECT_TRUE(world.sent.empty());
  receive(from_peer(1234, wire::kAck, 5, 9));
  EXPECT_EQ(last_sent().flags, wire::kRst);
}

TEST_F(ClosingTest, TimeWaitAnswersAndExpires) {
  accepted();
  end_in_time_wait();
  EXPECT_EQ(commanded(Kind::kRemove).size(), 1u);
  EXPECT_EQ(control->flows_in_use(), 0u);
  EXPECT_EQ(control->counters().time_wait_created, 1u);
  // The peer's FIN again: an ACK, and the wait starts anew.
  peer_clock = 6000;
  pass(seconds(40));
  receive(from_peer(40000, wire::kFin | wire::kAck, rcv_nxt - 1, snd_nxt));
  EXPECT_EQ(last_sent().flags, wire::kAck);
  EXPECT_EQ(last_sent().seq, snd_nxt);
  EXPECT_EQ(last_sent().ack, rcv_nxt);
  EXPECT_EQ(last_sent().options.tsecr, 6000u);
  const std::size_t sent = world.sent.size();
  receive(from_peer(40000, wire::kAck, rcv_nxt, snd_nxt));  // nothing to answer
  receive(from_peer(40000, wire::kRst, rcv_nxt));           // RFC 1337
  EXPECT_EQ(world.sent.size(), sent);
  pass(seconds(40));
  EXPECT_FALSE(control->quiet());
  EXPECT_LE((control->next_deadline() - now).ns, seconds(21).ns);
  pass(seconds(21));
  EXPECT_TRUE(control->quiet());
  receive(from_peer(40000, wire::kAck, rcv_nxt, snd_nxt));
  EXPECT_EQ(last_sent().flags, wire::kRst);
}

TEST_F(ClosingTest, TimeWaitAnswersWhatMayBeAnAnswerAtABoundedRate) {
  accepted();
  end_in_time_wait();
  peer_clock = 6000;
  const auto answers = [&](const wire::TcpSegmentHeader& h) {
    const std::size_t before = world.sent.size();
    for (int i = 0; i < 100; ++i) receive(h);
    return world.sent.size() - before;
  };
  const auto empty = from_peer(40000, wire::kAck, rcv_nxt - 7, snd_nxt);
  auto old_syn = from_peer(40000, wire::kSyn, rcv_nxt + 100);
  old_syn.options.tsval = 1;
  EXPECT_EQ(answers(empty), 1u);
  EXPECT_EQ(answers(old_syn), 0u) << "one bound for both";
  pass(millis(501));
  EXPECT_EQ(answers(old_syn), 1u);
  EXPECT_EQ(answers(from_peer(40000, wire::kFin | wire::kAck, rcv_nxt - 1, snd_nxt)), 100u)
      << "a peer that repeats its FIN waits for the answer";
}

TEST_F(ClosingTest, TimeWaitGivesWayToALaterSyn) {
  accepted();
  end_in_time_wait();
  peer_clock = 5999;  // older than what the connection saw, although the sequence is higher
  receive(from_peer(40000, wire::kSyn, rcv_nxt + 100));
  EXPECT_EQ(last_sent().flags, wire::kAck);
  EXPECT_EQ(control->counters().time_wait_reused, 0u);
  peer_clock = 6001;
  receive(from_peer(40000, wire::kSyn, rcv_nxt - 5000));
  EXPECT_EQ(last_sent().flags, wire::kSyn | wire::kAck);
  EXPECT_GE(static_cast<std::int32_t>(last_sent().seq - snd_nxt), 65537);
  EXPECT_EQ(control->counters().time_wait_reused, 1u);
  receive(from_peer(40000, wire::kAck, rcv_nxt - 4999, last_sent().seq + 1));
  EXPECT_EQ(commanded(Kind::kInstall).size(), 2u);
}

// The port may be another program's by now, at the kernel: it gets the SYN when it comes again.
TEST_F(ClosingTest, TimeWaitWithoutListenerGivesWaySilently) {
  accepted();
  end_in_time_wait();
  release(1, 1, listener_line);
  const std::size_t sent = world.sent.size();
  peer_clock = 6001;
  receive(from_peer(40000, wire::kSyn, rcv_nxt + 100));
  EXPECT_EQ(world.sent.size(), sent);
  poll();
  ASSERT_EQ(world.ports_released.size(), 2u);  // wildcard and address
}

TEST_F(ClosingTest, FullTimeWaitTableCostsNoConnection) {
  serve();
  slot = context(1, 1);
  for (std::uint32_t i = 0; i < options.max_time_wait + 3; ++i) {
    const auto in = establish(static_cast<std::uint16_t>(41000 + i));
    flow = in.flow;
    accept(1, slot, in, 9100 + i);
    line_number = flows[index_of(flow)].post.line;
    end_in_time_wait();
  }
  EXPECT_EQ(control->counters().time_wait_created, options.max_time_wait);
  EXPECT_EQ(control->flows_in_use(), 0u);
  pass(seconds(61));
  EXPECT_TRUE(control->quiet());
}

TEST_F(ClosingTest, LastHolderMakesAnOrphan) {
  accepted();
  release(1, 1, line_number, true);
  const auto orphans = commanded(Kind::kOrphan);
  ASSERT_EQ(orphans.size(), 1u);
  EXPECT_TRUE(orphans[0].reset);
  EXPECT_EQ(line(1, line_number).generation % 2, 1u);
  close_flow(flow, Close::kAborted);
  EXPECT_EQ(line(1, line_number).generation % 2, 0u);
  EXPECT_EQ(line(1, line_number).state, static_cast<std::uint32_t>(shm::LineState::kFree));
  EXPECT_EQ(control->flows_in_use(), 0u);
}

TEST_F(ClosingTest, LineOfAnEndedFlowStaysForItsHolder) {
  accepted();
  close_flow(flow, Close::kReset);
  EXPECT_EQ(control->counters().estab_resets, 1u);
  EXPECT_EQ(line(1, line_number).generation % 2, 1u);
  EXPECT_EQ(control->flows_in_use(), 1u);
  release(1, 1, line_number);
  EXPECT_EQ(line(1, line_number).generation % 2, 0u);
  EXPECT_EQ(control->flows_in_use(), 0u);
  EXPECT_TRUE(commanded(Kind::kOrphan).empty());
}

TEST_F(ClosingTest, OrphanInFinWait2IsEndedAfterAMinute) {
  accepted();
  flow::Event half{};
  half.kind = flow::Event::Kind::kHalfClosed;
  half.flow = flow;
  event(half);
  pass(seconds(100));  // somebody holds it: no limit
  EXPECT_TRUE(commanded(Kind::kAbort).empty());
  release(1, 1, line_number);
  pass(seconds(59));
  EXPECT_TRUE(commanded(Kind::kAbort).empty());
  pass(seconds(2));
  const auto aborts = commanded(Kind::kAbort);
  ASSERT_EQ(aborts.size(), 1u);
  EXPECT_FALSE(aborts[0].reset);
  EXPECT_EQ(control->flows_in_use(), 0u);
}

TEST_F(ClosingTest, ArmedFlowIsLookedAtInTime) {
  accepted();
  flow::Event arm{};
  arm.kind = flow::Event::Kind::kArm;
  arm.flow = flow;
  arm.at = now + millis(250);
  event(arm);
  EXPECT_GT(control->next_deadline(), now);
  EXPECT_LE(control->next_deadline(), now + millis(250));
  pass(millis(249));
  EXPECT_TRUE(commanded(Kind::kTimer).empty());
  pass(millis(2));
  EXPECT_EQ(commanded(Kind::kTimer).size(), 1u);
  pass(seconds(10));
  EXPECT_EQ(commanded(Kind::kTimer).size(), 1u);
}

TEST_F(ClosingTest, TimeoutsConcernTheNeighbour) {
  accepted();
  flow::Event e{};
  e.kind = flow::Event::Kind::kTimeout;
  e.flow = flow;
  e.sample = {now, 1448, 7240, 1448, 1448, millis(10), millis(10), 0};
  event(e);
  EXPECT_EQ(world.confirmed, 1);
  EXPECT_EQ(control->counters().timeouts, 1u);
  const auto cc = commanded(Kind::kCongestion);
  ASSERT_EQ(cc.size(), 1u);
  EXPECT_EQ(cc[0].cc.ssthresh, 7240u);
}

TEST_F(ClosingTest, StopEndsEverything) {
  accepted();
  const auto second = establish(40001);
  receive(from_peer(40002, wire::kSyn, 1));
  close_flow(second.flow, Close::kTimeWait);
  Request stop;
  stop.kind = Request::Kind::kStop;
  request(stop);
  EXPECT_FALSE(control->quiet());
  poll();
  EXPECT_EQ(commanded(Kind::kAbort).size(), 1u);
  EXPECT_EQ(last_sent().flags, wire::kRst | wire::kAck);  // the half-open one
  EXPECT_TRUE(control->quiet());
  const std::size_t sent = world.sent.size();
  receive(from_peer(40003, wire::kSyn, 1));
  EXPECT_EQ(world.sent.size(), sent);
}

TEST_F(ClosingTest, AHandshakeThatEndsDuringTheStopMakesNoConnection) {
  constexpr std::uint16_t kHalfOpen = 2 * kRecordsPerStep;  // more than one step looks at
  serve(2 * kHalfOpen);
  establish(40000);
  std::uint32_t last_iss = 0;
  for (std::uint16_t i = 1; i <= kHalfOpen; ++i) {
    receive(from_peer(static_cast<std::uint16_t>(40000 + i), wire::kSyn, 1000));
    last_iss = last_sent().seq;
  }
  Request stop;
  stop.kind = Request::Kind::kStop;
  request(stop);
  (void)control->poll(now);  // the look has begun
  receive(from_peer(40000 + kHalfOpen, wire::kAck, 1001, last_iss + 1));
  poll();
  EXPECT_TRUE(control->quiet());
}

TEST_F(ClosingTest, FullCommandRingDelaysButLosesNothing) {
  accepted();
  // Nobody reads commands: the ring fills, the rest waits inside, then control stops listening.
  flow::Event arm{};
  arm.kind = flow::Event::Kind::kArm;
  arm.flow = flow;
  std::uint64_t pushed = 0;
  for (int i = 0; i < 40000; ++i) {
    arm.at = now;
    if (events.push(arm)) ++pushed;
    control->poll(now);
    now = now + millis(1);
  }
  EXPECT_LE(commands.size(), commands.capacity());
  const std::size_t sent = world.sent.size();
  receive(from_peer(40050, wire::kSyn, 1));
  EXPECT_EQ(world.sent.size(), sent);  // no new work is begun
  EXPECT_EQ(control->counters().syn_dropped_limit, 1u);
  EXPECT_GT(commanded(Kind::kTimer).size(), kCommandRing);
  poll();
  receive(from_peer(40050, wire::kSyn, 1));
  EXPECT_EQ(last_sent().flags, wire::kSyn | wire::kAck);
}

// The data path drops segments when the ring is full: what fills it must not be faster than
// control.
TEST_F(ClosingTest, EventsAreTakenInHasteWhileThereAreMany) {
  accepted();
  flow::Event e{};
  e.kind = flow::Event::Kind::kActive;
  e.flow = flow;
  while (events.push(e)) {
  }
  const auto taken = [this] {
    const std::size_t before = events.size();
    (void)control->poll(now);
    return before - events.size();
  };
  EXPECT_EQ(taken(), kEventsInHaste);
  while (events.size() > events.capacity() / 2) (void)control->poll(now);
  EXPECT_EQ(taken(), kEventsPerPoll);
}

}  // namespace
}  // namespace toe::control
