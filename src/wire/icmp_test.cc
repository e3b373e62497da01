#include "wire/icmp.h"

#include <cerrno>
#include <vector>

#include <gtest/gtest.h>

#include "wire/build.h"
#include "wire/format.h"

namespace toe::wire {
namespace {

using Bytes = std::vector<std::uint8_t>;

const IpAddr kHere = IpAddr::v4(10, 0, 0, 1);
const IpAddr kThere = IpAddr::v4(10, 9, 0, 2);

IpAddr v6(std::uint8_t last) {
  std::uint8_t raw[16] = {0xfd};
  raw[15] = last;
  return IpAddr::v6(raw);
}

/// The IP packet of a segment as it left, cut to `keep` bytes behind the IP header.
Bytes sent_packet(const IpAddr& src, const IpAddr& dst, std::size_t keep) {
  TcpSegmentHeader h;
  h.src = src;
  h.dst = dst;
  h.src_port = 80;
  h.dst_port = 4000;
  h.seq = 0x01020304;
  h.flags = kAck;
  Bytes frame(kMaxHeaderBytes + 1000);
  const Bytes payload(1000, 'x');
  frame.resize(build_segment(h, payload, frame));
  frame.erase(frame.begin(), frame.begin() + kEthernetBytes);
  frame.resize((src.is_v4() ? kIpv4Bytes : kIpv6Bytes) + keep);
  return frame;
}

Bytes icmp4(std::uint8_t type, std::uint8_t code, std::uint16_t mtu, const Bytes& quote) {
  Bytes m(kIpv4Bytes + 8);
  m[0] = 0x45;
  m[kIpv4Bytes] = type;
  m[kIpv4Bytes + 1] = code;
  store16(&m[kIpv4Bytes + 6], mtu);
  m.insert(m.end(), quote.begin(), quote.end());
  store_raw(&m[kIpv4Bytes + 2],
            checksum_finish(checksum_partial(&m[kIpv4Bytes], m.size() - kIpv4Bytes)));
  return m;
}

Bytes icmp6(std::uint8_t type, std::uint8_t code, std::uint32_t mtu, const Bytes& quote) {
  Bytes m(8);
  m[0] = type;
  m[1] = code;
  store32(&m[4], mtu);
  m.insert(m.end(), quote.begin(), quote.end());
  return m;
}

TEST(Icmp, FragmentationNeeded) {
  IcmpReport r;
  ASSERT_TRUE(parse_icmp4(icmp4(3, 4, 1280, sent_packet(kHere, kThere, 8)), r));
  EXPECT_EQ(r.kind, IcmpReport::Kind::kTooBig);
  EXPECT_EQ(r.mtu, 1280);
  EXPECT_EQ(r.length, 1040);
  EXPECT_EQ(r.src, kHere);
  EXPECT_EQ(r.dst, kThere);
  EXPECT_EQ(r.src_port, 80);
  EXPECT_EQ(r.dst_port, 4000);
  EXPECT_EQ(r.seq, 0x01020304u);
}

TEST(Icmp, UnreachablesAsErrno) {
  const Bytes quote = sent_packet(kHere, kThere, 8);
  IcmpReport r;
  const std::pair<std::uint8_t, int> expected[] = {
      {0, ENETUNREACH}, {1, EHOSTUNREACH}, {2, ENOPROTOOPT}, {3, ECONNREFUSED}, {13, EHOSTUNREACH}};
  for (const auto& [code, error] : expected) {
    ASSERT_TRUE(parse_icmp4(icmp4(3, code, 0, quote), r));
    EXPECT_EQ(r.kind, IcmpReport::Kind::kUnreachable);
    EXPECT_EQ(r.error, error);
  }
  EXPECT_FALSE(parse_icmp4(icmp4(3, 16, 0, quote), r));
  EXPECT_FALSE(parse_icmp4(icmp4(11, 0, 0, quote), r));  // time exceeded
}

TEST(Icmp, Version6) {
  const Bytes quote = sent_packet(v6(1), v6(2), 20);
  IcmpReport r;
  ASSERT_TRUE(parse_icmp6(icmp6(2, 0, 1280, quote), r));
  EXPECT_EQ(r.kind, IcmpReport::Kind::kTooBig);
  EXPECT_EQ(r.mtu, 1280);
  EXPECT_EQ(r.src, v6(1));
  EXPECT_EQ(r.dst_port, 4000);
  ASSERT_TRUE(parse_icmp6(icmp6(2, 0, 0x10000, quote), r));
  EXPECT_EQ(r.mtu, UINT16_MAX);
  ASSERT_TRUE(parse_icmp6(icmp6(1, 4, 0, quote), r));
  EXPECT_EQ(r.error, ECONNREFUSED);
  EXPECT_FALSE(parse_icmp6(icmp6(128, 0, 0, quote), r));
}

TEST(Icmp, DamagedOrForeignMessagesAreRefused) {
  IcmpReport r;
  Bytes bad_sum = icmp4(3, 4, 1280, sent_packet(kHere, kThere, 8));
  bad_sum[kIpv4Bytes + 7] ^= 1;
  EXPECT_FALSE(parse_icmp4(bad_sum, r));
  Bytes udp = sent_packet(kHere, kThere, 8);
  udp[9] = 17;
  EXPECT_FALSE(parse_icmp4(icmp4(3, 4, 1280, udp), r));
  Bytes later = sent_packet(kHere, kThere, 8);
  later[7] = 1;  // a later fragment holds no ports
  EXPECT_FALSE(parse_icmp4(icmp4(3, 4, 1280, later), r));
  Bytes mapped = sent_packet(v6(1), v6(2), 8);
  mapped[8] = 0;
  mapped[18] = mapped[19] = 0xff;  // an IPv4 address in IPv6 clothes
  EXPECT_FALSE(parse_icmp6(icmp6(2, 0, 1280, mapped), r));
}

TEST(Icmp, EveryTruncationIsRefused) {
  IcmpReport r;
  const Bytes four = icmp4(3, 4, 1280, sent_packet(kHere, kThere, 8));
  for (std::size_t n = 0; n < four.size(); ++n) {
    Bytes cut(four.begin(), four.begin() + static_cast<std::ptrdiff_t>(n));
    if (n >= kIpv4Bytes + 4) {
      store16(&cut[kIpv4Bytes + 2], 0);
      store_raw(&cut[kIpv4Bytes + 2],
                checksum_finish(checksum_partial(&cut[kIpv4Bytes], n - kIpv4Bytes)));
    }
    EXPECT_FALSE(parse_icmp4(cut, r)) << n;
  }
  const Bytes six = icmp6(2, 0, 1280, sent_packet(v6(1), v6(2), 8));
  for (std::size_t n = 0; n < six.size(); ++n) {
    EXPECT_FALSE(parse_icmp6({six.data(), n}, r)) << n;
  }
}

}  // namespace
}  // namespace toe::wire
