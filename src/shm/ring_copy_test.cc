#include "shm/ring_copy.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace toe::shm {
namespace {

RC_GTEST_PROP(RingCopy, BytesComeBackFromWhereTheyWerePut, ()) {
  std::vector<std::uint8_t> memory(4096, 0xee);
  const RingMemory ring{memory.data(), 4096};
  const auto position = *rc::gen::arbitrary<std::uint64_t>();
  const auto bytes =
      *rc::gen::container<std::vector<std::uint8_t>>(rc::gen::arbitrary<std::uint8_t>());
  const std::size_t count = std::min<std::size_t>(bytes.size(), 4096);
  copy_to_ring(ring, position, bytes.data(), count);
  std::vector<std::uint8_t> out(count);
  copy_from_ring(ring, position, out.data(), count);
  RC_ASSERT(std::equal(out.begin(), out.end(), bytes.begin()));
  for (std::size_t i = 0; i < count; ++i) RC_ASSERT(memory[(position + i) % 4096] == bytes[i]);
}

TEST(RingCopy, WrapsAtTheEnd) {
  std::uint8_t memory[8] = {};
  const RingMemory ring{memory, 8};
  copy_to_ring(ring, 30, "abcd", 4);  // offset 6
  EXPECT_EQ(std::string(reinterpret_cast<char*>(memory), 2), "cd");
  EXPECT_EQ(std::string(reinterpret_cast<char*>(memory) + 6, 2), "ab");
}

TEST(RingCopy, TakesTheWholeRing) {
  std::uint8_t memory[8] = {};
  std::uint8_t out[8] = {};
  const RingMemory ring{memory, 8};
  copy_to_ring(ring, 5, "12345678", 8);
  copy_from_ring(ring, 5, out, 8);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(out), 8), "12345678");
}

}  // namespace
}  // namespace toe::shm
