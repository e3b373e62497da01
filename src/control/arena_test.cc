#include "control/arena.h"

#include <map>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "shm/segment_view.h"

namespace toe::control {
namespace {

TEST(RingArena, HandsOutTheWholeArenaAndTakesItBack) {
  RingArena arena;
  std::vector<shm::RingRef> rings;
  for (shm::RingRef r = arena.allocate(shm::kMaxRingBytes); r.valid();
       r = arena.allocate(shm::kMaxRingBytes)) {
    rings.push_back(r);
  }
  EXPECT_EQ(rings.size(), RingArena::kArenaBytes / shm::kMaxRingBytes);
  EXPECT_EQ(arena.free_bytes(), 0u);
  EXPECT_FALSE(arena.allocate(shm::kMinRingBytes).valid());
  for (const shm::RingRef r : rings) arena.free(r);
  EXPECT_EQ(arena.used_bytes(), 0u);
}

TEST(RingArena, SmallestRingsFillItToo) {
  RingArena arena;
  std::uint32_t n = 0;
  while (arena.allocate(shm::kMinRingBytes).valid()) ++n;
  EXPECT_EQ(n, RingArena::kArenaBytes / shm::kMinRingBytes);
}

TEST(RingArena, LowestAddressComesFirst) {
  RingArena arena;
  const shm::RingRef a = arena.allocate(shm::kMinRingBytes);
  const shm::RingRef b = arena.allocate(shm::kMinRingBytes);
  EXPECT_EQ(a.offset(), shm::kArenaOffset);
  EXPECT_EQ(b.offset(), shm::kArenaOffset + shm::kMinRingBytes);
  arena.free(a);
  EXPECT_EQ(arena.allocate(shm::kMinRingBytes).word, a.word);
}

TEST(RingArena, RemembersWhatMayHoldPages) {
  RingArena arena;
  const shm::RingRef small = arena.allocate(shm::kMinRingBytes);
  EXPECT_FALSE(arena.soiled(small));
  arena.set_soiled(small, true);
  arena.free(small);
  const shm::RingRef large = arena.allocate(4 * shm::kMinRingBytes);
  EXPECT_EQ(large.offset(), small.offset());
  EXPECT_TRUE(arena.soiled(large)) << "a quarter of it";
  arena.set_soiled(large, false);
  arena.free(large);
  EXPECT_FALSE(arena.soiled(arena.allocate(shm::kMinRingBytes)));
}

// Whatever is allocated and freed in whatever order: rings are in bounds, aligned to their size
// and disjoint; afterwards the arena is whole again.
TEST(RingArena, RingsNeverOverlap) {
  EXPECT_TRUE(rc::check([] {
    RingArena arena;
    std::map<std::uint64_t, shm::RingRef> live;  // by offset
    std::uint64_t used = 0;
    const auto steps = *rc::gen::inRange(1, 400);
    for (int i = 0; i < steps; ++i) {
      if (live.empty() || *rc::gen::inRange(0, 3) != 0) {
        const std::uint32_t bytes = shm::kMinRingBytes << *rc::gen::inRange(0, 11);
        const shm::RingRef r = arena.allocate(bytes);
        if (!r.valid()) continue;
        RC_ASSERT(shm::SegmentView::ring_in_bounds(r));
        RC_ASSERT(r.bytes() == bytes);
        RC_ASSERT(r.offset() % bytes == 0);
        const auto after = live.lower_bound(r.offset());
        RC_ASSERT(after == live.end() || after->first >= r.offset() + bytes);
        if (after != live.begin()) {
          const auto before = std::prev(after);
          RC_ASSERT(before->first + before->second.bytes() <= r.offset());
        }
        live[r.offset()] = r;
        used += bytes;
      } else {
        auto it = live.begin();
        std::advance(it, *rc::gen::inRange<std::size_t>(0, live.size()));
        arena.free(it->second);
        used -= it->second.bytes();
        live.erase(it);
      }
      RC_ASSERT(arena.used_bytes() == used);
    }
    for (const auto& [offset, ring] : live) arena.free(ring);
    RC_ASSERT(arena.used_bytes() == 0u);
    RC_ASSERT(arena.allocate(shm::kMaxRingBytes).offset() == shm::kArenaOffset);
  }));
}

}  // namespace
}  // namespace toe::control
