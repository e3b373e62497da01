#include "base/frame.h"

#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace toe {
namespace {

TEST(FramePool, HandsOutEveryChunkOnce) {
  std::vector<std::uint8_t> memory(8 * 256 + 100);  // the rest makes no chunk
  FramePool pool(memory, 256);
  ASSERT_EQ(pool.chunks(), 8u);
  std::set<std::uint32_t> seen;
  for (int i = 0; i < 8; ++i) {
    const Frame frame = pool.acquire();
    ASSERT_TRUE(frame.valid());
    EXPECT_EQ(frame.offset, FramePool::kHeadroom);
    EXPECT_EQ(frame.length, 0);
    EXPECT_TRUE(seen.insert(frame.chunk).second);
  }
  EXPECT_FALSE(pool.acquire().valid());
  for (const std::uint32_t chunk : seen) pool.release({chunk, 0, 0, kNoChunk});
  EXPECT_EQ(pool.free_count(), 8u);
  EXPECT_TRUE(pool.acquire().valid());
}

TEST(FramePool, BytesAreTheFramesPartOfItsChunk) {
  std::vector<std::uint8_t> memory(4 * 256);
  FramePool pool(memory, 256);
  Frame frame = pool.acquire();
  frame.length = 10;
  EXPECT_EQ(pool.bytes(frame).size(), 10u);
  EXPECT_EQ(pool.bytes(frame).data(), memory.data() + frame.chunk * 256 + FramePool::kHeadroom);
  pool.bytes(frame)[9] = 1;
  EXPECT_EQ(pool.chunk(frame.chunk)[FramePool::kHeadroom + 9], 1);
}

}  // namespace
}  // namespace toe
