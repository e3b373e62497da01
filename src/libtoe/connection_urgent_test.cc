// Urgent data as a process sees it; the words of the line are the engine's.
#include <sys/epoll.h>

#include <cerrno>
#include <string>

#include <gtest/gtest.h>

#include "libtoe/test_segment.h"

namespace toe::libtoe {
namespace {

using shm::AppFlag;
using shm::LineFlag;

/// The engine's part: the last of `bytes` is urgent.
void receive_urgent(TestSegment& t, const std::string& bytes) {
  const std::uint64_t up = t.line().rx_tail + bytes.size();
  t.line().rx_urgent = up;
  t.line().rx_urgent_here = up;
  t.line().flags |= LineFlag::kRxUrgent;
  t.receive(bytes);
}

std::string take_urgent(TestSegment& t, RecvMode mode = RecvMode::kTake) {
  std::string byte(4, 0);
  const iovec part{byte.data(), byte.size()};
  IoCursor cursor(&part, 1);
  t.last = t.connection.recv_urgent(cursor, mode);
  byte.resize(t.last > 0 ? static_cast<std::size_t>(t.last) : 0);
  return byte;
}

TEST(ConnectionUrgent, ReadingStopsAtTheMarkAndPassesTheByte) {
  TestSegment t;
  receive_urgent(t, "abU");
  t.receive("cd");
  EXPECT_EQ(t.connection.unread(), 5u);
  EXPECT_EQ(t.connection.unread_before_mark(), 2u);
  EXPECT_FALSE(t.connection.at_mark());
  EXPECT_EQ(t.recv(10, RecvMode::kPeek), "ab");
  EXPECT_EQ(t.recv(10), "ab");
  EXPECT_TRUE(t.connection.at_mark());
  EXPECT_EQ(t.connection.unread(), 2u);
  EXPECT_EQ(t.connection.unread_before_mark(), 0u);
  EXPECT_EQ(t.recv(10, RecvMode::kPeek), "cd");
  EXPECT_TRUE(t.connection.at_mark());
  EXPECT_EQ(t.recv(10), "cd");
  EXPECT_FALSE(t.connection.at_mark());
  EXPECT_EQ(take_urgent(t), "");
  EXPECT_EQ(t.last, -EINVAL);
}

TEST(ConnectionUrgent, TheByteIsTakenOnce) {
  TestSegment t;
  take_urgent(t);
  EXPECT_EQ(t.last, -EINVAL);
  receive_urgent(t, "abU");
  EXPECT_NE(t.connection.readiness() & EPOLLPRI, 0u);
  EXPECT_EQ(take_urgent(t, RecvMode::kPeek), "U");
  EXPECT_EQ(take_urgent(t), "U");
  take_urgent(t);
  EXPECT_EQ(t.last, -EINVAL);
  EXPECT_EQ(t.connection.readiness() & EPOLLPRI, 0u);
  EXPECT_EQ(t.recv(10), "ab");
  EXPECT_TRUE(t.connection.at_mark());
  EXPECT_EQ(t.connection.readiness() & EPOLLIN, 0u);  // the byte alone is no stream
  t.recv(10);
  EXPECT_EQ(t.last, -EAGAIN);
  EXPECT_FALSE(t.connection.at_mark());
}

TEST(ConnectionUrgent, IsAnnouncedBeforeItComes) {
  TestSegment t;
  t.line().rx_urgent = 3;
  t.line().flags |= LineFlag::kRxUrgent;
  take_urgent(t);
  EXPECT_EQ(t.last, -EAGAIN);
  EXPECT_EQ(t.connection.readiness() & EPOLLPRI, 0u);
  t.receive("ab");
  EXPECT_EQ(t.recv(10), "ab");
  EXPECT_TRUE(t.connection.at_mark());
  t.recv(10);
  EXPECT_EQ(t.last, -EAGAIN);
  EXPECT_TRUE(t.connection.at_mark());
  t.line().flags |= LineFlag::kRxFin;
  take_urgent(t);
  EXPECT_EQ(t.last, 0);
}

TEST(ConnectionUrgent, BehindAGapItCanBeTaken) {
  TestSegment t;
  receive_urgent(t, "abU");
  t.line().rx_tail = 0;
  EXPECT_EQ(take_urgent(t), "U");
}

TEST(ConnectionUrgent, InLineItStaysInTheStream) {
  TestSegment t;
  t.connection.set_app_flags(AppFlag::kUrgentInline, true);
  receive_urgent(t, "abU");
  t.receive("cd");
  EXPECT_EQ(t.connection.unread_before_mark(), 5u);
  EXPECT_NE(t.connection.readiness() & EPOLLPRI, 0u);
  take_urgent(t);
  EXPECT_EQ(t.last, -EINVAL);
  EXPECT_EQ(t.recv(10), "ab");
  EXPECT_TRUE(t.connection.at_mark());
  EXPECT_EQ(t.recv(10), "Ucd");
}

TEST(ConnectionUrgent, ReplacedBytesAreSkipped) {
  TestSegment t;
  receive_urgent(t, "1");
  receive_urgent(t, "2");
  t.line().rx_skip_begin = 0;
  t.line().rx_skip_end = 1;
  EXPECT_TRUE(t.connection.at_mark());
  EXPECT_EQ(t.connection.unread(), 0u);
  t.receive("x");
  EXPECT_EQ(t.recv(10, RecvMode::kPeek), "x");
  EXPECT_EQ(t.recv(10), "x");
  EXPECT_EQ(t.line().rx_head, 3u);
}

TEST(ConnectionUrgent, SendingSaysWhereItEnds) {
  TestSegment t;
  const iovec part{const_cast<char*>("abU"), 3};
  IoCursor cursor(&part, 1);
  EXPECT_EQ(t.connection.send_urgent(cursor), 3);
  EXPECT_EQ(t.line().tx_urgent, 3u);
  EXPECT_NE(t.line().app_flags & AppFlag::kUrgentSent, 0u);
  t.send("more");
  EXPECT_EQ(t.line().tx_urgent, 3u);
}

TEST(ConnectionUrgent, NonsenseOfTheLineIsHarmless) {
  TestSegment t;
  t.line().flags |= LineFlag::kRxUrgent;
  t.line().rx_urgent = ~std::uint64_t{0};
  t.line().rx_urgent_here = ~std::uint64_t{0};
  t.line().rx_skip_begin = 0;
  t.line().rx_skip_end = 1'000'000;
  t.receive("ab");
  t.recv(10);
  take_urgent(t);
  EXPECT_LE(t.line().rx_head, t.line().rx_tail);
}

}  // namespace
}  // namespace toe::libtoe
