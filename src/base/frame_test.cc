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

TEST(FramePool, AFrameGoesOnInFurtherChunks) {
  std::vector<std::uint8_t> memory(8 * 256);
  FramePool pool(memory, 256);
  Frame frame = pool.acquire();
  frame.length = 100;
  EXPECT_EQ(pool.count_parts(frame), 1u);
  std::vector<std::uint32_t> expected = {frame.chunk};
  for (const int length : {200, 0, 7}) {
    Frame part = pool.acquire();
    part.offset = 3;
    part.length = static_cast<std::uint16_t>(length);
    pool.append(frame, part);
    expected.push_back(part.chunk);
  }
  EXPECT_EQ(pool.count_parts(frame), 4u);
  EXPECT_EQ(pool.total_bytes(frame), 307u);
  std::vector<std::uint32_t> seen;
  Frame part = frame;
  do {
    seen.push_back(part.chunk);
  } while (pool.advance(part));
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(part.length, 7);
  EXPECT_EQ(pool.bytes(part).data(), pool.chunk(part.chunk) + 3);
  pool.release(frame);
  EXPECT_EQ(pool.free_count(), 8u) << "all parts return";
}

TEST(FramePool, AReusedChunkForgetsWhatItWasPartOf) {
  std::vector<std::uint8_t> memory(2 * 256);
  FramePool pool(memory, 256);
  Frame frame = pool.acquire();
  pool.append(frame, pool.acquire());
  pool.release(frame);
  const Frame again = pool.acquire();
  EXPECT_EQ(pool.count_parts(again), 1u);
  Frame second = again;
  pool.append(second, pool.acquire());
  EXPECT_EQ(pool.count_parts(second), 2u);
}

}  // namespace
}  // namespace toe
