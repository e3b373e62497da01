#include "netlab/frame_view.h"

#include <gtest/gtest.h>

#include "harness/random.h"
#include "wire/test_segments.h"

namespace toe::netlab {
namespace {

using wire::FrameBytes;

TEST(FrameView, FindsPayloadBehindTagsAndOptions) {
  for (const bool ipv6 : {false, true}) {
    for (std::uint8_t tags = 0; tags <= 2; ++tags) {
      wire::TcpSegmentHeader header = wire::test_header(ipv6);
      header.options.has_timestamp = true;
      header.vlan.count = tags;
      for (wire::VlanTag& tag : header.vlan.tag) tag = {wire::kTpidVlan, 100};
      FrameBytes frame = wire::test_frame(header, "hello");
      frame.resize(frame.size() + 20);  // padding is no payload
      const FrameView view = look(frame);
      EXPECT_EQ(view.version, ipv6 ? 6 : 4);
      EXPECT_TRUE(view.tcp);
      EXPECT_EQ(view.payload, 5u);
    }
  }
}

TEST(FrameView, TakesAnyBytes) {
  test::Random random(5);
  for (int round = 0; round < 20'000; ++round) {
    FrameBytes frame = wire::test_frame(wire::test_header(random.chance(0.5)), "some payload");
    for (int i = 0; i < 4; ++i) {
      frame[random.below(frame.size())] = static_cast<std::uint8_t>(random.next());
    }
    frame.resize(random.below(frame.size() + 1));
    const FrameBytes exact(frame.begin(), frame.end());  // sanitizers see its end
    const FrameView view = look(exact);
    ASSERT_LE(view.transport, exact.size());
    ASSERT_LE(view.payload, exact.size());
    ASSERT_LE(first_checked_byte(exact, view), exact.size());
    FrameBytes marked = exact;
    if (permits_mark(exact, view)) mark_congestion(marked, view);
  }
}

TEST(FrameView, IsNoIpWithoutIp) {
  FrameBytes arp(42, 0);
  arp[12] = 0x08;
  arp[13] = 0x06;
  const FrameView view = look(arp);
  EXPECT_EQ(view.version, 0);
  EXPECT_FALSE(view.tcp);
  EXPECT_FALSE(permits_mark(arp, view));
  EXPECT_EQ(first_checked_byte(arp, view), arp.size());
}

}  // namespace
}  // namespace toe::netlab
