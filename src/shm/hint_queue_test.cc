#include "shm/hint_queue.h"

#include <memory>

#include <gtest/gtest.h>

namespace toe::shm {
namespace {

struct Queue {
  std::unique_ptr<std::atomic<std::uint32_t>[]> slots =
      std::make_unique<std::atomic<std::uint32_t>[]>(kQueueEntries);
  std::atomic<std::uint32_t> tail{0};
  std::atomic<std::uint32_t> head{0};
};

TEST(HintQueue, PassesEntriesInOrder) {
  Queue queue;
  HintWriter writer(queue.slots.get(), &queue.tail, &queue.head);
  HintReader reader(queue.slots.get(), &queue.tail, &queue.head);
  EXPECT_FALSE(reader.pending());
  EXPECT_TRUE(writer.append(make_hint(HintOp::kAccept, 7)));
  EXPECT_TRUE(writer.append(make_hint(HintOp::kLook, 9)));
  EXPECT_TRUE(reader.pending());
  std::uint32_t entry = 0;
  ASSERT_EQ(reader.take(entry), Taken::kEntry);
  EXPECT_EQ(hint_op(entry), HintOp::kAccept);
  EXPECT_EQ(hint_line(entry), 7u);
  ASSERT_EQ(reader.take(entry), Taken::kEntry);
  EXPECT_EQ(hint_line(entry), 9u);
  EXPECT_EQ(reader.take(entry), Taken::kNone);
}

TEST(HintQueue, WorksAcrossTheWrapOfItsIndices) {
  Queue queue;
  queue.head = queue.tail = 0xfffffffeu;
  HintWriter writer(queue.slots.get(), &queue.tail, &queue.head);
  HintReader reader(queue.slots.get(), &queue.tail, &queue.head);
  std::uint32_t entry = 0;
  for (std::uint32_t i = 1; i <= 5; ++i) ASSERT_TRUE(writer.append(i));
  for (std::uint32_t i = 1; i <= 5; ++i) {
    ASSERT_EQ(reader.take(entry), Taken::kEntry);
    EXPECT_EQ(entry, i);
  }
  EXPECT_EQ(queue.tail.load(), 3u);
}

TEST(HintQueue, IsBounded) {
  Queue queue;
  HintWriter writer(queue.slots.get(), &queue.tail, &queue.head);
  for (std::uint32_t i = 0; i < kQueueEntries; ++i) ASSERT_TRUE(writer.append(i));
  EXPECT_FALSE(writer.append(1));
  EXPECT_EQ(queue.tail.load(), kQueueEntries);
}

TEST(HintQueue, NoticesAnIndexThatCannotBeTrue) {
  Queue queue;
  HintReader reader(queue.slots.get(), &queue.tail, &queue.head);
  queue.tail = kQueueEntries + 1;
  std::uint32_t entry = 0;
  EXPECT_EQ(reader.take(entry), Taken::kBroken);
}

TEST(HintQueue, TrustsNoSharedIndexOfItsOwn) {
  Queue queue;
  HintWriter writer(queue.slots.get(), &queue.tail, &queue.head);
  HintReader reader(queue.slots.get(), &queue.tail, &queue.head);
  ASSERT_TRUE(writer.append(3));
  queue.head = 12345;  // scribbled over by the other side
  std::uint32_t entry = 0;
  EXPECT_EQ(reader.take(entry), Taken::kEntry);
  EXPECT_EQ(entry, 3u);
  EXPECT_EQ(queue.head.load(), 1u);
}

TEST(HintMark, LetsOneHintThroughUntilCleared) {
  std::atomic<std::uint64_t> mask{0};
  EXPECT_TRUE(mark_hinted(mask, 63));
  EXPECT_FALSE(mark_hinted(mask, 63));
  EXPECT_TRUE(mark_hinted(mask, 0));
  clear_hinted(mask, 63);
  EXPECT_EQ(mask.load(), 1u);
  EXPECT_TRUE(mark_hinted(mask, 63));
}

}  // namespace
}  // namespace toe::shm
