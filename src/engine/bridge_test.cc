#include "engine/bridge.h"

#include <poll.h>

#include <gtest/gtest.h>

#include "engine/engine_page.h"

namespace toe::engine {
namespace {

bool readable(int fd) {
  pollfd wait{fd, POLLIN, 0};
  return ::poll(&wait, 1, 0) == 1;
}

class BridgeTest : public ::testing::Test {
 protected:
  BridgeTest() {
    Result<EnginePage> page = EnginePage::make();
    EXPECT_TRUE(page.ok());
    page_ = std::move(page.value());
    Result<std::unique_ptr<Bridge>> bridge = Bridge::make(page_.page());
    EXPECT_TRUE(bridge.ok());
    bridge_ = std::move(bridge.value());
  }
  EnginePage page_;
  std::unique_ptr<Bridge> bridge_;
};

TEST_F(BridgeTest, OrdersWakeOnlyASleepingWorker) {
  bridge_->send(control::Request{});
  EXPECT_FALSE(readable(bridge_->orders.event_fd()));
  page_.page().sleep_epoch.store(1);
  bridge_->send(control::Request{});
  EXPECT_TRUE(readable(bridge_->orders.event_fd()));
  bridge_->orders.clear_event();
  EXPECT_FALSE(readable(bridge_->orders.event_fd()));
}

TEST_F(BridgeTest, AFullRingKeepsEverythingInOrder) {
  constexpr std::uint32_t kCount = 3 * kOrderRing;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    control::Request request;
    request.line = i;
    bridge_->send(request);
  }
  Order order;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    if (!bridge_->orders.pop(order)) {
      bridge_->orders.flush();
      ASSERT_TRUE(bridge_->orders.pop(order)) << i;
    }
    ASSERT_EQ(order.request.line, i);
  }
  EXPECT_TRUE(bridge_->orders.flush());
  EXPECT_TRUE(bridge_->orders.empty());
}

TEST_F(BridgeTest, WhatFoundNoRoomWakesTheWorkerToo) {
  for (std::size_t i = 0; i < 2 * kOrderRing + 1; ++i) bridge_->send(control::Request{});
  EXPECT_FALSE(bridge_->settle()) << "the ring is full";
  page_.page().sleep_epoch.store(1);
  for (const bool all : {false, true}) {
    Order order;
    while (bridge_->orders.pop(order)) {
    }
    bridge_->orders.clear_event();
    EXPECT_EQ(bridge_->settle(), all);
    EXPECT_TRUE(readable(bridge_->orders.event_fd()));
  }
  bridge_->orders.clear_event();
  Order order;
  EXPECT_TRUE(bridge_->orders.pop(order));
  EXPECT_TRUE(bridge_->settle());
  EXPECT_FALSE(readable(bridge_->orders.event_fd())) << "nothing waits";
}

TEST_F(BridgeTest, NotesCarryTheCallsOfTheWorld) {
  WorldBridge world(*bridge_);
  const std::uint8_t message[] = {1, 2, 3};
  world.reply(ClientId{7}, message);
  world.drop_client(ClientId{8}, "why");
  EXPECT_FALSE(readable(bridge_->notes.event_fd()));
  world.after_step(false);
  EXPECT_TRUE(readable(bridge_->notes.event_fd()));
  Note note;
  ASSERT_TRUE(bridge_->notes.pop(note));
  EXPECT_EQ(note.kind, Note::Kind::kReply);
  EXPECT_EQ(note.client, ClientId{7});
  ASSERT_EQ(note.length, 3u);
  EXPECT_EQ(note.bytes[2], 3);
  delete[] note.bytes;
  ASSERT_TRUE(bridge_->notes.pop(note));
  EXPECT_STREQ(note.reason, "why");
}

TEST_F(BridgeTest, AFreedSegmentLeavesAfterTheDataPathHasForgottenIt) {
  WorldBridge world(*bridge_);
  Note note;
  world.free_segment(SegmentId{5});
  world.after_step(true);
  EXPECT_FALSE(bridge_->notes.pop(note));
  world.after_step(false);
  EXPECT_FALSE(bridge_->notes.pop(note));
  world.after_step(true);
  ASSERT_TRUE(bridge_->notes.pop(note));
  EXPECT_EQ(note.kind, Note::Kind::kFreeSegment);
  EXPECT_EQ(note.segment, SegmentId{5});
  world.free_segment(SegmentId{6});
  int steps = 0;  // a worker that is never idle
  while (!bridge_->notes.pop(note) && steps < 100'000) {
    world.after_step(false);
    ++steps;
  }
  EXPECT_EQ(note.segment, SegmentId{6});
  EXPECT_GT(steps, 100);
}

}  // namespace
}  // namespace toe::engine
