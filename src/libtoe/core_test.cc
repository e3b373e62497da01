// Cursor, descriptor table, yield policy, listener: the small parts.
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "libtoe/address.h"
#include "libtoe/file.h"
#include "libtoe/listener.h"
#include "libtoe/runtime.h"
#include "libtoe/test_segment.h"
#include "libtoe/wait_context.h"

namespace toe::libtoe {
namespace {

TEST(IoCursor, WalksOverBuffersAndEmptyOnes) {
  char a[3] = {};
  char b[5] = {};
  const iovec parts[] = {{a, 3}, {nullptr, 0}, {b, 5}};
  IoCursor cursor(parts, 3);
  EXPECT_EQ(cursor.left(), 8u);
  std::uint8_t memory[16];
  for (std::uint8_t i = 0; i < 16; ++i) memory[i] = i;
  cursor.fill_from({memory, 16}, 14, 6);
  EXPECT_EQ(cursor.left(), 2u);
  EXPECT_EQ(a[0], 14);
  EXPECT_EQ(a[2], 0);
  EXPECT_EQ(b[2], 3);
  cursor.skip_all(2);
  EXPECT_EQ(cursor.left(), 0u);
  EXPECT_EQ(cursor.piece(10).iov_len, 0u);
}

TEST(FdTable, CountsNamesOfAFile) {
  FdTable::start();
  File file(Role::kFresh);
  File* former = nullptr;
  file.open();
  ASSERT_TRUE(FdTable::set(40, &file, former));
  ASSERT_TRUE(file.hold());
  ASSERT_TRUE(FdTable::set(41, &file, former));
  EXPECT_EQ(former, nullptr);
  EXPECT_EQ(FdTable::get(41), &file);
  EXPECT_GE(FdTable::end(), 42);
  EXPECT_EQ(FdTable::clear(40), &file);
  EXPECT_FALSE(file.drop());
  EXPECT_EQ(FdTable::clear(40), nullptr);
  EXPECT_EQ(FdTable::get(40), nullptr);
  EXPECT_EQ(FdTable::clear(41), &file);
  EXPECT_TRUE(file.drop());
}

// A thread that duplicates a descriptor while another closes it.
TEST(FdTable, AFileThatIsClosedGetsNoFurtherNumber) {
  File file(Role::kFresh);
  file.open();
  ASSERT_TRUE(file.drop());
  EXPECT_TRUE(file.closed());
  EXPECT_FALSE(file.hold());
  EXPECT_TRUE(file.closed());
}

// Two threads that change what one number names: nothing may stay open for ever.
TEST(FdTable, TellsWhatANumberNamedBefore) {
  FdTable::start();
  File one(Role::kFresh);
  File other(Role::kFresh);
  File* former = nullptr;
  ASSERT_TRUE(FdTable::set(42, &one, former));
  ASSERT_TRUE(FdTable::set(42, &other, former));
  EXPECT_EQ(former, &one);
  EXPECT_EQ(FdTable::clear(42), &other);
}

TEST(FdTable, NumbersOutOfRangeAreNobodys) {
  FdTable::start();
  File file(Role::kFresh);
  EXPECT_EQ(FdTable::get(-1), nullptr);
  EXPECT_EQ(FdTable::get(1 << 30), nullptr);
  File* former = nullptr;
  EXPECT_FALSE(FdTable::set(1 << 30, &file, former));
  EXPECT_EQ(FdTable::clear(-1), nullptr);
}

TEST(YieldPolicy, YieldsWhileWaitsAreShortAndSmall) {
  YieldPolicy policy;
  for (int i = 0; i < 10; ++i) policy.on_wait_end(60'000, 50'000, 1);
  EXPECT_FALSE(policy.should_yield());
  policy.on_wait_end(10'000, 50'000, 1);
  EXPECT_TRUE(policy.should_yield());
  for (int i = 0; i < 10; ++i) policy.on_wait_end(10'000, 50'000, 16);
  EXPECT_FALSE(policy.should_yield()) << "batches: sleeping is cheaper";
}

TEST(Lane, PostsOneLookPerLineAndEveryCloseAndAccept) {
  TestSegment t;
  t.lane.post(8);
  t.lane.post(8);
  t.lane.post(8, shm::HintOp::kAccept);
  t.lane.post(8, shm::HintOp::kClose);
  EXPECT_EQ(t.segment.view.context(0).engine_tail, 3u);
  EXPECT_EQ(t.segment.view.line(8).hinted_engine, 1u);
}

TEST(Lane, TakesHintsAndClearsTheirMark) {
  TestSegment t;
  shm::Context& words = t.segment.view.context(0);
  shm::HintWriter engine(t.segment.view.app_queue(0), &words.app_tail, &words.app_head);
  ASSERT_TRUE(shm::mark_hinted(t.line().hinted_app, 0));
  engine.append(shm::make_hint(shm::HintOp::kLook, TestSegment::kLine));
  ASSERT_TRUE(t.lane.pending());
  std::uint32_t line = 0;
  ASSERT_TRUE(t.lane.take(line));
  EXPECT_EQ(line, TestSegment::kLine);
  EXPECT_EQ(t.line().hinted_app, 0u);
  EXPECT_FALSE(t.lane.take(line));
}

/// The engine's part: `entry` becomes the next connection of listener `listening`.
void announce(TestSegment& t, std::uint32_t listening, std::uint32_t entry,
              std::uint32_t generation) {
  shm::Line& line = t.segment.view.line(listening);
  const shm::RingRef ref{line.rx_ring[0]};
  auto* ring = reinterpret_cast<shm::AcceptEntry*>(t.segment.view.ring(ref));
  t.segment.view.line(entry).claim = shm::make_claim(generation, shm::kUnclaimed);
  ring[line.rx_tail % (ref.bytes() / sizeof(shm::AcceptEntry))] =
      shm::make_claim(generation, entry);
  ++line.rx_tail;
}

TEST(Listener, TakesEachConnectionOnce) {
  TestSegment t;
  shm::Line& line = t.segment.view.line(9);
  line.rx_ring[0] = TestSegment::ring(4, 12).word;
  Listener listener;
  listener.attach(&t.lane, 9);
  EXPECT_FALSE(listener.ready());
  EXPECT_FALSE(listener.take());
  std::set<std::uint32_t> taken;
  for (std::uint32_t round = 0; round < 3; ++round) {
    for (std::uint32_t i = 0; i < 500; ++i) announce(t, 9, 100 + i, 2 * round + 1);
    EXPECT_TRUE(listener.ready());
    for (std::uint32_t i = 0; i < 500; ++i) EXPECT_EQ(listener.take(), 100 + i);
  }
  EXPECT_FALSE(listener.take());
  EXPECT_EQ(t.segment.view.line(150).claim, shm::make_claim(5, 1));
  listener.accept(150, 0x1234);
  EXPECT_EQ(t.segment.view.line(150).cookie, 0x1234u);
  EXPECT_EQ(t.looks(), 1u);
}

TEST(Listener, NeverHandsOutALineThatCannotBe) {
  TestSegment t;
  shm::Line& line = t.segment.view.line(9);
  line.rx_ring[0] = TestSegment::ring(4, 12).word;
  auto* ring = reinterpret_cast<shm::AcceptEntry*>(t.segment.view.ring(TestSegment::ring(4, 12)));
  Listener listener;
  listener.attach(&t.lane, 9);
  ring[0] = shm::kLines;
  ring[1] = 0;
  line.rx_tail = 2;
  announce(t, 9, 77, 1);
  EXPECT_EQ(listener.take(), 77u);
}

TEST(Listener, MovesOnBehindAClaimerThatDied) {
  TestSegment t;
  t.segment.view.line(9).rx_ring[0] = TestSegment::ring(4, 12).word;
  Listener listener;
  listener.attach(&t.lane, 9);
  for (std::uint32_t i = 0; i < 3; ++i) announce(t, 9, 70 + i, 1);
  t.segment.view.line(70).claim = shm::make_claim(1, 8);  // killed before it moved rx_head
  EXPECT_EQ(listener.take(), 71u);
  EXPECT_EQ(listener.take(), 72u);
  EXPECT_FALSE(listener.take());
  EXPECT_FALSE(listener.ready());
  EXPECT_EQ(t.segment.view.line(70).claim, shm::make_claim(1, 8)) << "the engine ends it";
}

TEST(Listener, AnOldEntryDoesNotClaimWhatTheLineStandsForNow) {
  TestSegment t;
  t.segment.view.line(9).rx_ring[0] = TestSegment::ring(4, 12).word;
  Listener listener;
  listener.attach(&t.lane, 9);
  announce(t, 9, 70, 1);
  t.segment.view.line(70).claim = shm::make_claim(3, shm::kUnclaimed);  // another connection
  EXPECT_FALSE(listener.take());
  EXPECT_EQ(t.segment.view.line(70).claim, shm::make_claim(3, shm::kUnclaimed));
}

TEST(Listener, EachConnectionIsOneProcessesWhoeverIsFaster) {
  TestSegment t;
  t.segment.view.line(9).rx_ring[0] = TestSegment::ring(4, 16).word;
  Lane lanes[2];
  Listener listeners[2];
  std::vector<std::uint32_t> taken[2];
  for (std::uint32_t i = 0; i < 2; ++i) {
    lanes[i].open(&t.segment, 1 + i, &t.bell);
    listeners[i].attach(&lanes[i], 9);
  }
  constexpr std::uint32_t kCount = 5000;
  for (std::uint32_t i = 0; i < kCount; ++i) announce(t, 9, 100 + i, 1);
  std::thread threads[2];
  for (std::uint32_t i = 0; i < 2; ++i) {
    threads[i] = std::thread([&, i] {
      while (const auto line = listeners[i].take()) taken[i].push_back(*line);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::uint32_t> all(taken[0].begin(), taken[0].end());
  all.insert(taken[1].begin(), taken[1].end());
  EXPECT_EQ(all.size(), kCount);
  EXPECT_EQ(taken[0].size() + taken[1].size(), kCount);
}

TEST(Address, MapsBothFamilies) {
  sockaddr_in six4{};
  six4.sin_family = AF_INET;
  six4.sin_port = htons(80);
  six4.sin_addr.s_addr = htonl(0x0a000001);
  std::uint8_t mapped[16];
  std::uint16_t port = 0;
  ASSERT_TRUE(to_mapped(reinterpret_cast<sockaddr*>(&six4), sizeof(six4), mapped, port));
  EXPECT_EQ(port, 80);
  EXPECT_EQ(mapped[12], 10);
  EXPECT_FALSE(is_loopback(mapped));
  sockaddr_in6 out{};
  socklen_t length = sizeof(out);
  ASSERT_EQ(from_mapped(mapped, 80, AF_INET6, {reinterpret_cast<sockaddr*>(&out), &length}), 0);
  EXPECT_EQ(length, sizeof(out));
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&out.sin6_addr));
  EXPECT_EQ(ntohs(out.sin6_port), 80);
}

TEST(Address, TruncatesAsGetpeernameDoes) {
  const std::uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1};
  sockaddr_in out;
  std::memset(&out, 0xaa, sizeof(out));
  socklen_t length = 4;
  ASSERT_EQ(from_mapped(mapped, 80, AF_INET, {reinterpret_cast<sockaddr*>(&out), &length}), 0);
  EXPECT_EQ(length, sizeof(out));
  EXPECT_EQ(ntohs(out.sin_port), 80);
  EXPECT_EQ(out.sin_addr.s_addr, 0xaaaaaaaau);
}

}  // namespace
}  // namespace toe::libtoe
