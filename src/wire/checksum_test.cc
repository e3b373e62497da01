#include "wire/checksum.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace toe::wire {
namespace {

using Data = std::vector<std::uint8_t>;

/// Straight from RFC 1071 section 4.1, on big-endian words; the result in memory order.
std::uint16_t naive_finish(const Data& data) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < data.size(); ++i) {
    sum += (i % 2 == 0) ? std::uint64_t{data[i]} << 8 : std::uint64_t{data[i]};
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  const auto field = static_cast<std::uint16_t>(~sum & 0xffff);
  return static_cast<std::uint16_t>((field << 8) | (field >> 8));
}

Data draw_data(std::size_t limit) {
  const auto size = *rc::gen::inRange<std::size_t>(0, limit);
  return *rc::gen::container<Data>(size, rc::gen::arbitrary<std::uint8_t>());
}

TEST(Checksum, MatchesTheExampleOfRfc1071) {
  const Data data = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  const std::uint32_t sum = checksum_partial(data.data(), data.size());
  EXPECT_EQ(checksum_swap(sum), 0xddf2u);
  EXPECT_EQ(checksum_finish(sum), naive_finish(data));
}

TEST(Checksum, EmptyMessageSumsToZero) {
  EXPECT_EQ(checksum_partial(nullptr, 0), 0u);
  EXPECT_EQ(checksum_finish(0), 0xffffu);
}

TEST(Checksum, EveryLengthAroundTheBlockSize) {
  for (std::size_t n = 0; n < 200; ++n) {
    const Data data(n, 0xff);
    ASSERT_EQ(checksum_finish(checksum_partial(data.data(), n)), naive_finish(data)) << n;
  }
}

TEST(Checksum, LargestInputKeepsItsCarries) {
  const Data data(1u << 20, 0xff);
  EXPECT_EQ(checksum_partial(data.data(), data.size()), 0xffffu);
}

TEST(Checksum, PropertyEqualsNaiveAtAnyAlignment) {
  EXPECT_TRUE(rc::check([] {
    const Data data = draw_data(3000);
    const auto offset = *rc::gen::inRange<std::size_t>(0, 9);
    Data shifted(offset + data.size());
    std::copy(data.begin(), data.end(), shifted.begin() + static_cast<std::ptrdiff_t>(offset));
    RC_ASSERT(checksum_finish(checksum_partial(shifted.data() + offset, data.size())) ==
              naive_finish(data));
  }));
}

TEST(Checksum, PropertyCopyIsExactAndSumsTheSame) {
  EXPECT_TRUE(rc::check([] {
    const Data data = draw_data(3000);
    Data copy(data.size() + 1, 0xa5);
    const std::uint32_t sum = copy_and_checksum(copy.data(), data.data(), data.size());
    RC_ASSERT(sum == checksum_partial(data.data(), data.size()));
    RC_ASSERT(std::equal(data.begin(), data.end(), copy.begin()));
    RC_ASSERT(copy.back() == 0xa5);
  }));
}

TEST(Checksum, PropertyPiecesAppendAtAnyPoint) {
  EXPECT_TRUE(rc::check([] {
    const Data data = draw_data(500);
    const auto cut = *rc::gen::inRange<std::size_t>(0, data.size() + 1);
    const std::uint32_t first = checksum_partial(data.data(), cut);
    const std::uint32_t rest = checksum_partial(data.data() + cut, data.size() - cut);
    RC_ASSERT(checksum_finish(checksum_append(first, cut, rest)) == naive_finish(data));
  }));
}

TEST(Checksum, FoldKeepsSumsOfManyParts) {
  std::uint32_t sum = 0;
  for (int i = 0; i < 65537; ++i) sum += 0xffff;
  EXPECT_EQ(checksum_fold(sum), 0xffffu);
  EXPECT_EQ(checksum_fold(0xffffffffffffffffu), 0xffffu);
}

}  // namespace
}  // namespace toe::wire
