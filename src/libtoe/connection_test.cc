#include "libtoe/connection.h"

#include <sys/epoll.h>

#include <cerrno>
#include <string>

#include <gtest/gtest.h>

#include "libtoe/test_segment.h"

namespace toe::libtoe {
namespace {

using shm::AppFlag;
using shm::LineFlag;
using shm::LineState;

constexpr Events kIn = EPOLLIN | EPOLLRDNORM;
constexpr Events kOut = EPOLLOUT | EPOLLWRNORM;

std::string pattern(std::size_t count, char first) {
  std::string bytes(count, 0);
  for (std::size_t i = 0; i < count; ++i)
    bytes[i] = static_cast<char>(first + static_cast<char>(i % 23));
  return bytes;
}

void set_state(TestSegment& t, LineState state) {
  t.line().state = static_cast<std::uint32_t>(state);
}

TEST(ConnectionRecv, TakesPeeksAndDiscards) {
  TestSegment t;
  EXPECT_EQ(t.recv(10), "");
  EXPECT_EQ(t.last, -EAGAIN);
  t.receive("abcdef");
  EXPECT_EQ(t.recv(3, RecvMode::kPeek), "abc");
  EXPECT_EQ(t.recv(2), "ab");
  t.recv(2, RecvMode::kDiscard);
  EXPECT_EQ(t.last, 2);
  EXPECT_EQ(t.recv(10), "ef");
  EXPECT_EQ(t.line().rx_head, 6u);
  EXPECT_EQ(t.line().rx_lock, 0u);
}

TEST(ConnectionRecv, CrossesARingSwitch) {
  TestSegment t;
  const std::string before = pattern(16'000, 'a');
  const std::string after = pattern(40'000, 'A');
  t.receive(before);
  EXPECT_EQ(t.recv(1000), before.substr(0, 1000));
  t.switch_rx(TestSegment::ring(2, 16));
  t.receive(after);
  t.looks();
  EXPECT_EQ(t.recv(14'000), before.substr(1000, 14'000));
  t.looks();
  EXPECT_EQ(t.recv(30'000), before.substr(15'000) + after.substr(0, 29'000));
  EXPECT_EQ(t.looks(), 1u) << "the old ring is empty: the engine may free it";
  EXPECT_EQ(t.recv(30'000), after.substr(29'000));
}

TEST(ConnectionRecv, FollowsSeveralSwitches) {
  TestSegment t;
  std::string expected;
  std::string got;
  for (std::uint32_t i = 0; i < 9; ++i) {
    const std::string piece = pattern(5'000 + i * 100, static_cast<char>('a' + i));
    t.receive(piece);
    expected += piece;
    got += t.recv(3'000);
    if (t.line().rx_head >= t.line().rx_switch[t.line().rx_epoch & 1]) {
      t.switch_rx(TestSegment::ring(2 + i, 17));
    }
  }
  while (t.connection.unread() != 0) got += t.recv(7'777);
  EXPECT_EQ(got, expected);
  EXPECT_GE(t.line().rx_epoch, 3u);
}

TEST(ConnectionRecv, TellsTheEngineAtEachQuarterOfTheRing) {
  TestSegment t;
  t.receive(pattern(16'384, 'a'));
  t.recv(4'095);
  EXPECT_EQ(t.looks(), 0u);
  t.recv(1);
  EXPECT_EQ(t.looks(), 1u);
  t.recv(4'000);
  EXPECT_EQ(t.looks(), 0u);
  t.recv(8'000);
  EXPECT_EQ(t.looks(), 1u);
}

TEST(ConnectionRecv, EndsAtTheFinAfterAllBytes) {
  TestSegment t;
  t.receive("last");
  t.line().flags = LineFlag::kRxFin;
  EXPECT_EQ(t.recv(10), "last");
  t.recv(10);
  EXPECT_EQ(t.last, 0);
  t.line().flags = LineFlag::kRxFin | LineFlag::kReset;
  t.line().error = EPIPE;
  t.recv(10);
  EXPECT_EQ(t.last, 0) << "after the end of the stream an error is for writers";
}

TEST(ConnectionRecv, ReportsAResetOnceAfterTheBytes) {
  TestSegment t;
  t.receive("x");
  t.line().error = ECONNRESET;
  t.line().flags = LineFlag::kReset;
  set_state(t, LineState::kClosed);
  EXPECT_EQ(t.recv(10), "x");
  t.recv(10);
  EXPECT_EQ(t.last, -ECONNRESET);
  t.recv(10);
  EXPECT_EQ(t.last, 0);
}

TEST(ConnectionRecv, ShutReadEndsTheStreamButNotItsBytes) {
  TestSegment t;
  t.receive("y");
  t.connection.shut_read();
  EXPECT_EQ(t.recv(10), "y");
  t.recv(10);
  EXPECT_EQ(t.last, 0);
}

TEST(ConnectionSend, PublishesBytesAndOneLook) {
  TestSegment t;
  EXPECT_EQ(t.send("hello"), 5);
  EXPECT_EQ(t.send("world"), 5);
  EXPECT_EQ(t.line().tx_tail, 10u);
  EXPECT_EQ(t.sent(0, 10, TestSegment::ring(1)), "helloworld");
  EXPECT_EQ(t.looks(), 1u) << "the second is covered by the first";
  EXPECT_EQ(t.segment.view.header().posted, 1u);
  EXPECT_EQ(t.line().tx_writing, 0u);
  EXPECT_NE(t.line().app_flags & AppFlag::kPush, 0u);
}

TEST(ConnectionSend, RingsASleepingEngineOnce) {
  TestSegment t;
  shm::fall_asleep(t.page.sleep_epoch);
  t.send("a");
  t.looks();
  t.send("b");
  EXPECT_EQ(t.link.rings, 1);
}

TEST(ConnectionSend, StopsAtAFullRingAndAsksForALargerOne) {
  TestSegment t;
  EXPECT_EQ(t.send(pattern(20'000, 'a')), 16'384);
  EXPECT_NE(t.line().app_flags & AppFlag::kWantTxRing, 0u);
  EXPECT_EQ(t.send("x"), -EAGAIN);
  t.line().tx_una = 100;
  EXPECT_EQ(t.send(pattern(200, 'b')), 100);
}

// The worked example of docs/formats/segment.md.
TEST(ConnectionSend, SwitchesToAnOfferedRing) {
  TestSegment t;
  t.send(pattern(9'000, 'a'));
  t.line().tx_una = 9'000;
  t.send(pattern(11'000, 'a'));
  EXPECT_EQ(t.line().tx_tail, 20'000u);
  const std::string big = pattern(65'536, 'b');
  t.line().tx_ring[1] = TestSegment::ring(3, 16).word;
  t.line().tx_offered = 1;
  EXPECT_EQ(t.send(big + "more"), 65'536);
  EXPECT_EQ(t.line().tx_switch, 20'000u);
  EXPECT_EQ(t.line().tx_taken, 1u);
  EXPECT_EQ(t.sent(20'000, 85'536, TestSegment::ring(3, 16)), big);
  EXPECT_EQ(t.send("x"), -EAGAIN) << "bytes of the old ring do not count against the new one";
  t.line().tx_una = 20'001;
  EXPECT_EQ(t.send("xy"), 1);
}

TEST(ConnectionSend, FailsAfterTheEnd) {
  TestSegment t;
  t.connection.shut_write();
  EXPECT_EQ(t.send("x"), -EPIPE);
  TestSegment u;
  u.line().error = ETIMEDOUT;
  u.line().flags = LineFlag::kReset;
  set_state(u, LineState::kClosed);
  EXPECT_EQ(u.send("x"), -ETIMEDOUT);
  EXPECT_EQ(u.send("x"), -EPIPE);
  EXPECT_EQ(u.line().tx_lock, 0u);
}

TEST(ConnectionSend, MoreCorksUntilTheNextSend) {
  TestSegment t;
  t.send("a", true);
  EXPECT_NE(t.line().app_flags & AppFlag::kCork, 0u);
  t.send("b");
  EXPECT_EQ(t.line().app_flags & AppFlag::kCork, 0u);
  t.connection.set_app_flags(AppFlag::kCork, true);
  t.send("c");
  EXPECT_NE(t.line().app_flags & AppFlag::kCork, 0u) << "TCP_CORK stays";
}

TEST(ConnectionReadiness, IsThatOfLinux) {
  TestSegment t;
  set_state(t, LineState::kConnecting);
  EXPECT_EQ(t.connection.readiness(), 0u);
  set_state(t, LineState::kEstablished);
  EXPECT_EQ(t.connection.readiness(), kOut);
  t.receive("x");
  EXPECT_EQ(t.connection.readiness(), kIn | kOut);
  t.line().flags = LineFlag::kRxFin;
  EXPECT_EQ(t.connection.readiness(), kIn | kOut | EPOLLRDHUP);
  t.connection.shut_write();
  EXPECT_EQ(t.connection.readiness(), kIn | kOut | EPOLLRDHUP | EPOLLHUP);
}

TEST(ConnectionReadiness, InputCountsFromTheLowWaterMark) {
  TestSegment t;
  t.connection.set_low_water(100);
  t.receive(pattern(99, 'a'));
  EXPECT_EQ(t.connection.readiness(), kOut);
  EXPECT_TRUE(t.connection.readable()) << "a call takes what is there";
  t.receive("x");
  EXPECT_EQ(t.connection.readiness(), kIn | kOut);
  t.recv(1);
  EXPECT_EQ(t.connection.readiness(), kOut);
  t.line().flags = LineFlag::kRxFin;
  EXPECT_EQ(t.connection.readiness(), kIn | kOut | EPOLLRDHUP);
}

TEST(ConnectionReadiness, AFullRingCountsWhateverTheLowWaterMark) {
  TestSegment t;
  t.connection.set_low_water(1'000'000);
  t.receive(pattern(12'287, 'a'));
  EXPECT_EQ(t.connection.readiness(), kOut);
  t.receive("x");  // three quarters of 16 KiB
  EXPECT_EQ(t.connection.readiness(), kIn | kOut);
}

TEST(ConnectionReadiness, AResetShowsEverything) {
  TestSegment t;
  t.line().error = ECONNRESET;
  t.line().flags = LineFlag::kReset;
  set_state(t, LineState::kClosed);
  EXPECT_EQ(t.connection.readiness(), kIn | kOut | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
  EXPECT_EQ(t.connection.take_error(), ECONNRESET);
  EXPECT_EQ(t.connection.readiness(), kIn | kOut | EPOLLRDHUP | EPOLLHUP);
}

TEST(ConnectionReadiness, WritableFromAThirdOfTheRing) {
  TestSegment t;
  t.send(pattern(16'384, 'a'));
  EXPECT_FALSE(t.connection.writable());
  t.line().tx_una = 5'460;
  EXPECT_FALSE(t.connection.writable());
  t.line().tx_una = 5'461;
  EXPECT_TRUE(t.connection.writable());
}

TEST(ConnectionConnect, TellsTheResultOnce) {
  TestSegment t;
  set_state(t, LineState::kConnecting);
  EXPECT_EQ(t.connection.connect_result(), -EINPROGRESS);
  EXPECT_EQ(t.send("x"), -EAGAIN);
  t.line().error = ECONNREFUSED;
  t.line().flags = LineFlag::kReset;
  set_state(t, LineState::kClosed);
  EXPECT_EQ(t.connection.connect_result(), -ECONNREFUSED);
  EXPECT_EQ(t.connection.connect_result(), -ECONNABORTED);
}

TEST(ConnectionClose, IsPostedInTheHomeLane) {
  TestSegment t;
  Lane other;
  other.open(&t.segment, 3, &t.bell);
  t.connection.set_lane(&other);
  t.send("x");
  EXPECT_EQ(t.segment.view.context(3).engine_tail, 1u);
  t.connection.close(true);
  ASSERT_EQ(t.looks(), 1u);
  EXPECT_EQ(t.segment.view.engine_queue(0)[0],
            shm::make_hint(shm::HintOp::kCloseReset, TestSegment::kLine));
}

}  // namespace
}  // namespace toe::libtoe
