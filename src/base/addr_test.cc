#include "base/addr.h"

#include <gtest/gtest.h>

namespace toe {
namespace {

TEST(IpAddr, V4IsMapped) {
  const IpAddr a = IpAddr::v4(192, 0, 2, 7);
  EXPECT_TRUE(a.is_v4());
  EXPECT_EQ(a.bytes[10], 0xff);
  EXPECT_EQ(a.v4_bytes()[3], 7);
  const std::uint8_t raw[4] = {192, 0, 2, 7};
  EXPECT_EQ(a, IpAddr::v4(raw));
  EXPECT_EQ(a, IpAddr::v6(a.bytes.data()));
}

TEST(IpAddr, AnyOfBothFamilies) {
  EXPECT_TRUE(IpAddr{}.is_any());
  EXPECT_FALSE(IpAddr{}.is_v4());
  EXPECT_TRUE(IpAddr::v4(0, 0, 0, 0).is_any());
  EXPECT_FALSE(IpAddr::v4(0, 0, 0, 1).is_any());
  IpAddr a;
  a.bytes[0] = 0xfe;
  EXPECT_FALSE(a.is_any());
  a = {};
  a.bytes[15] = 1;
  EXPECT_FALSE(a.is_any());
}

}  // namespace
}  // namespace toe
