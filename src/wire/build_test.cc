#include "wire/build.h"

#include <string>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "wire/checksum.h"
#include "wire/format.h"
#include "wire/test_segments.h"

namespace toe::wire {
namespace {

std::vector<std::uint8_t> options_of(const TcpSegmentHeader& h) {
  const FrameBytes frame = test_frame(h);
  return {frame.end() - static_cast<long>(tcp_options_length(h)), frame.end()};
}

TcpSegmentHeader syn_with_all() {
  TcpSegmentHeader h = test_header();
  h.flags = kSyn;
  h.options.mss = 1460;
  h.options.sack_permitted = h.options.has_timestamp = h.options.has_wscale = true;
  h.options.wscale = 7;
  h.options.tsval = 0x11223344;
  return h;
}

TEST(Build, SynOptionsStandAsLinuxWritesThem) {
  TcpSegmentHeader h = syn_with_all();
  EXPECT_EQ(options_of(h), (std::vector<std::uint8_t>{2,    4,    5, 0xb4, 4, 2, 8, 10, 0x11, 0x22,
                                                      0x33, 0x44, 0, 0,    0, 0, 1, 3,  3,    7}));
  h.options.sack_permitted = false;
  EXPECT_EQ(options_of(h), (std::vector<std::uint8_t>{2,    4,    5, 0xb4, 1, 1, 8, 10, 0x11, 0x22,
                                                      0x33, 0x44, 0, 0,    0, 0, 1, 3,  3,    7}));
  h.options.has_timestamp = false;
  EXPECT_EQ(options_of(h), (std::vector<std::uint8_t>{2, 4, 5, 0xb4, 1, 3, 3, 7}));
  h.options.sack_permitted = true;
  EXPECT_EQ(options_of(h), (std::vector<std::uint8_t>{2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7}));
}

TEST(Build, OtherSegmentsCarryAlignedTimestampsAndSackOnly) {
  TcpSegmentHeader h = syn_with_all();
  h.flags = kAck;
  EXPECT_EQ(options_of(h),
            (std::vector<std::uint8_t>{1, 1, 8, 10, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0}));
  h.options.sack_count = 4;  // three fit beside timestamps
  for (std::uint32_t i = 0; i < 4; ++i) h.options.sack[i] = {i, i + 1};
  EXPECT_EQ(tcp_options_length(h), 12u + 4 + 24);
  h.options.has_timestamp = false;
  EXPECT_EQ(tcp_options_length(h), 4u + 32);
}

TEST(Build, PacketsAreAtomicWithTtl64) {
  const FrameBytes frame = test_frame(test_header(), "x");
  EXPECT_EQ(load16(&frame[14 + 4]), 0);
  EXPECT_EQ(load16(&frame[14 + 6]), kIpDontFragment);
  EXPECT_EQ(frame[14 + 8], 64);
  EXPECT_EQ(test_frame(test_header(true))[14 + 7], 64);
}

TEST(Build, RefusesAShortBuffer) {
  const TcpSegmentHeader h = test_header();
  FrameBytes out(header_length(h) + 3, 0xa5);
  EXPECT_EQ(build_headers(h, {}, std::span(out).first(header_length(h) - 1)), 0u);
  const std::uint8_t payload[4] = {};
  EXPECT_EQ(build_segment(h, payload, out), 0u);
  EXPECT_EQ(out, FrameBytes(out.size(), 0xa5));
  EXPECT_EQ(build_segment(h, std::span(payload).first(3), out), out.size());
}

TEST(Build, ReplyTurnsTheSegmentRound) {
  TcpSegmentHeader h = syn_with_all();
  h.vlan = {{{kTpidVlan, 9}, {}}, 1};
  const TcpSegmentHeader r = reply_header(h);
  EXPECT_EQ(r.eth_dst, h.eth_src);
  EXPECT_EQ(r.eth_src, h.eth_dst);
  EXPECT_EQ(r.src, h.dst);
  EXPECT_EQ(r.dst, h.src);
  EXPECT_EQ(r.src_port, h.dst_port);
  EXPECT_EQ(r.dst_port, h.src_port);
  EXPECT_EQ(r.vlan.count, 1);
  EXPECT_EQ(r.vlan.tag[0], h.vlan.tag[0]);
  EXPECT_EQ(r.flags, 0);
  EXPECT_FALSE(r.options.has_timestamp);
}

template <typename T>
T draw() {
  return *rc::gen::arbitrary<T>();
}

std::uint8_t draw_flags(const std::vector<int>& choices) {
  return static_cast<std::uint8_t>(*rc::gen::elementOf(choices));
}

IpAddr draw_address(bool ipv6) {
  if (!ipv6) {
    return IpAddr::v4(*rc::gen::inRange<std::uint8_t>(1, 127), draw<std::uint8_t>(),
                      draw<std::uint8_t>(), draw<std::uint8_t>());
  }
  IpAddr a;
  for (auto& byte : a.bytes) byte = draw<std::uint8_t>();
  a.bytes[0] = *rc::gen::inRange<std::uint8_t>(1, 255);
  return a;
}

void draw_options(TcpSegmentHeader& h) {
  TcpOptions& o = h.options;
  o.has_timestamp = draw<bool>();
  if (o.has_timestamp) {
    o.tsval = draw<std::uint32_t>();
    o.tsecr = draw<std::uint32_t>();
  }
  if ((h.flags & kSyn) != 0) {
    o.mss = draw<std::uint16_t>();
    o.sack_permitted = draw<bool>();
    o.has_wscale = draw<bool>();
    if (o.has_wscale) o.wscale = *rc::gen::inRange<std::uint8_t>(0, kMaxWindowShift + 1);
  } else {
    o.sack_count = *rc::gen::inRange<std::uint8_t>(0, o.has_timestamp ? 4 : 5);
    for (std::size_t i = 0; i < o.sack_count; ++i) {
      o.sack[i] = {draw<std::uint32_t>(), draw<std::uint32_t>()};
    }
  }
}

TcpSegmentHeader draw_header() {
  const bool ipv6 = draw<bool>();
  TcpSegmentHeader h = test_header(ipv6);
  h.src = draw_address(ipv6);
  h.dst = draw_address(ipv6);
  h.vlan.count = *rc::gen::inRange<std::uint8_t>(0, 3);
  for (std::size_t i = 0; i < h.vlan.count; ++i) h.vlan.tag[i] = {kTpidVlan, draw<std::uint16_t>()};
  h.src_port = *rc::gen::inRange<std::uint16_t>(1, 0xffff);
  h.dst_port = *rc::gen::inRange<std::uint16_t>(1, 0xffff);
  h.seq = draw<std::uint32_t>();
  h.ack = draw<std::uint32_t>();
  h.flags = draw_flags(
      {kSyn, kSyn | kAck, kAck, kAck | kPsh, kFin | kAck, kRst, kAck | kEce | kCwr, kAck | kUrg});
  h.ecn = *rc::gen::inRange<std::uint8_t>(0, 4);
  h.window = draw<std::uint16_t>();
  h.urgent = draw<std::uint16_t>();
  draw_options(h);
  return h;
}

std::string draw_payload() {
  const auto size = *rc::gen::inRange<std::size_t>(0, 1500);
  return *rc::gen::container<std::string>(size, rc::gen::arbitrary<char>());
}

void assert_same_options(const TcpOptions& a, const TcpOptions& b) {
  RC_ASSERT(a.mss == b.mss);
  RC_ASSERT(a.has_wscale == b.has_wscale && a.wscale == b.wscale);
  RC_ASSERT(a.sack_permitted == b.sack_permitted);
  RC_ASSERT(a.has_timestamp == b.has_timestamp);
  RC_ASSERT(a.tsval == b.tsval && a.tsecr == b.tsecr);
  RC_ASSERT(a.sack_count == b.sack_count);
  RC_ASSERT(std::equal(a.sack, a.sack + a.sack_count, b.sack));
}

void assert_same_header(const TcpSegmentHeader& a, const TcpSegmentHeader& b) {
  RC_ASSERT(a.eth_src == b.eth_src && a.eth_dst == b.eth_dst);
  RC_ASSERT(a.vlan.count == b.vlan.count);
  RC_ASSERT(std::equal(a.vlan.tag, a.vlan.tag + a.vlan.count, b.vlan.tag));
  RC_ASSERT(a.src == b.src && a.dst == b.dst);
  RC_ASSERT(a.src_port == b.src_port && a.dst_port == b.dst_port);
  RC_ASSERT(a.seq == b.seq && a.ack == b.ack);
  RC_ASSERT(a.flags == b.flags && a.ecn == b.ecn);
  RC_ASSERT(a.window == b.window && a.urgent == b.urgent);
  assert_same_options(a.options, b.options);
}

TEST(Build, PropertyParseReturnsWhatWasBuilt) {
  EXPECT_TRUE(rc::check([] {
    const TcpSegmentHeader h = draw_header();
    const std::string payload = draw_payload();
    const FrameBytes frame = test_frame(h, payload);
    TcpSegment out;
    RC_ASSERT(parse_frame(frame, {}, out) == ParseVerdict::kOk);
    assert_same_header(h, out);
    RC_ASSERT(std::string(frame.begin() + out.payload_offset, frame.end()) == payload);
    RC_ASSERT(out.payload_length == payload.size());
  }));
}

TEST(Build, PropertyOneWrongBitIsNeverTakenForTheSame) {
  EXPECT_TRUE(rc::check([] {
    const TcpSegmentHeader h = draw_header();
    FrameBytes frame = test_frame(h, draw_payload());
    const std::size_t l3 = kEthernetBytes + kVlanTagBytes * h.vlan.count;
    // The IPv6 header but its addresses is not covered by any checksum.
    const std::size_t first = h.src.is_v4() ? l3 : l3 + 8;
    const auto at = *rc::gen::inRange(first, frame.size());
    frame[at] ^= static_cast<std::uint8_t>(1u << *rc::gen::inRange(0, 8));
    TcpSegment out;
    RC_ASSERT(parse_frame(frame, {}, out) != ParseVerdict::kOk);
  }));
}

/// What the template path must produce, made by the general builder.
FrameBytes expected_frame(TcpSegmentHeader h, const SegmentFields& f, const std::string& payload) {
  h.seq = f.seq;
  h.ack = f.ack;
  h.flags = f.flags;
  h.window = f.window;
  h.ecn = f.ecn;
  h.urgent = (f.flags & kUrg) != 0 ? f.urgent : 0;
  h.options.tsval = f.tsval;
  h.options.tsecr = f.tsecr;
  return test_frame(h, payload);
}

SegmentFields draw_fields(const std::string& payload) {
  SegmentFields f;
  f.seq = draw<std::uint32_t>();
  f.ack = draw<std::uint32_t>();
  f.tsval = draw<std::uint32_t>();
  f.tsecr = draw<std::uint32_t>();
  f.window = draw<std::uint16_t>();
  f.urgent = draw<std::uint16_t>();
  f.flags = draw_flags(
      {kAck, kAck | kPsh, kFin | kAck, kRst | kAck, kAck | kCwr | kPsh, kAck | kUrg | kPsh});
  f.ecn = *rc::gen::inRange<std::uint8_t>(0, 4);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(payload.data());
  f.payload = {static_cast<std::uint16_t>(payload.size()), checksum_partial(bytes, payload.size())};
  return f;
}

TEST(Template, PropertyWritesWhatTheGeneralBuilderWrites) {
  EXPECT_TRUE(rc::check([] {
    TcpSegmentHeader h = draw_header();
    h.options.sack_count = 0;
    const HeaderTemplate t = make_template(h);
    const std::string payload = draw_payload();
    const SegmentFields f = draw_fields(payload);

    FrameBytes frame(t.length, 0xa5);
    write_headers(t, f, frame.data());
    frame.insert(frame.end(), payload.begin(), payload.end());
    RC_ASSERT(frame == expected_frame(h, f, payload));
  }));
}

TEST(Template, LengthsOfEveryShape) {
  for (const bool ipv6 : {false, true}) {
    for (std::uint8_t tags = 0; tags <= kMaxVlanTags; ++tags) {
      for (const bool timestamps : {false, true}) {
        TcpSegmentHeader h = test_header(ipv6);
        h.vlan = {{{kTpidVlan, 1}, {kTpidVlan, 2}}, tags};
        h.options.has_timestamp = timestamps;
        const HeaderTemplate t = make_template(h);
        EXPECT_EQ(t.length, header_length(h));
        EXPECT_EQ(t.l3_offset, 14 + 4 * tags);
        EXPECT_EQ(t.l4_offset, t.l3_offset + (ipv6 ? 40 : 20));
        EXPECT_EQ(t.tcp_length(), timestamps ? 32 : 20);
        EXPECT_LE(t.length, HeaderTemplate::kBytes);
      }
    }
  }
}

TEST(Template, WritesNoByteBeyondItsLength) {
  for (std::uint8_t tags = 0; tags <= kMaxVlanTags; ++tags) {
    TcpSegmentHeader h = test_header();
    h.vlan.count = tags;
    const HeaderTemplate t = make_template(h);
    FrameBytes frame(t.length + 8u, 0xa5);
    write_headers(t, {}, frame.data());
    for (std::size_t i = t.length; i < frame.size(); ++i) EXPECT_EQ(frame[i], 0xa5);
  }
}

}  // namespace
}  // namespace toe::wire
