#include "wire/parse.h"

#include <string>

#include <gtest/gtest.h>

#include "wire/checksum.h"
#include "wire/format.h"
#include "wire/test_segments.h"

namespace toe::wire {
namespace {

constexpr std::size_t kIp = kEthernetBytes;
constexpr std::size_t kTcp = kIp + kIpv4Bytes;
constexpr std::size_t kTcp6 = kIp + kIpv6Bytes;

ParseVerdict parse(const FrameBytes& frame, TcpSegment& out,
                   RxChecksum checksum = RxChecksum::kVerify) {
  // A copy of exact size, so that the address sanitizer sees any byte read beyond it.
  const FrameBytes exact(frame.begin(), frame.end());
  return parse_frame(exact, {checksum}, out);
}

ParseVerdict verdict_of(const FrameBytes& frame, RxChecksum checksum = RxChecksum::kVerify) {
  TcpSegment out;
  return parse(frame, out, checksum);
}

void fix_ip_checksum(FrameBytes& frame) {
  store16(&frame[kIp + 10], 0);
  const std::size_t header = (frame[kIp] & 0x0fu) * 4u;
  store_raw(&frame[kIp + 10], checksum_finish(checksum_partial(&frame[kIp], header)));
}

/// IPv4 frame with TCP options as given (a multiple of four bytes); checksums right.
FrameBytes with_options(const std::vector<std::uint8_t>& options, std::uint8_t flags = kAck) {
  TcpSegmentHeader h = test_header();
  h.flags = flags;
  const std::string text(options.begin(), options.end());
  FrameBytes frame = test_frame(h, text);  // the options start out as payload
  frame[kTcp + 12] = static_cast<std::uint8_t>((kTcpBytes + options.size()) / 4 << 4);
  store16(&frame[kTcp + 16], 0);
  const std::size_t bytes = frame.size() - kTcp;
  store_raw(&frame[kTcp + 16],
            checksum_finish(pseudo_address_sum(h.src, h.dst) + pseudo_length_sum(bytes) +
                            checksum_partial(&frame[kTcp], bytes)));
  return frame;
}

/// IPv4 frame with options as given, a multiple of four bytes.
FrameBytes with_ip_options(const FrameBytes& options) {
  FrameBytes frame = test_frame(test_header(), "abc");
  frame.insert(frame.begin() + kTcp, options.begin(), options.end());
  frame[kIp] = static_cast<std::uint8_t>(0x45 + options.size() / 4);
  store16(&frame[kIp + 2], static_cast<std::uint16_t>(frame.size() - kIp));
  fix_ip_checksum(frame);
  return frame;
}

/// IPv6 frame with `extension` between IP header and TCP; `first` is the first one's number.
FrameBytes with_extension(std::uint8_t first, const std::vector<std::uint8_t>& extension) {
  FrameBytes frame = test_frame(test_header(true), "abc");
  frame.insert(frame.begin() + kTcp6, extension.begin(), extension.end());
  frame[kIp + 6] = first;
  store16(&frame[kIp + 4], static_cast<std::uint16_t>(frame.size() - kTcp6));
  return frame;
}

TEST(ParseFrame, ReadsEveryFieldOfAnIpv4Segment) {
  TcpSegmentHeader h = test_header();
  h.flags = kAck | kPsh | kEce;
  h.ecn = kCe;
  h.urgent = 7;
  TcpSegment out;
  ASSERT_EQ(parse(test_frame(h, "hello"), out), ParseVerdict::kOk);
  EXPECT_EQ(out.eth_src, h.eth_src);
  EXPECT_EQ(out.eth_dst, h.eth_dst);
  EXPECT_EQ(out.src, h.src);
  EXPECT_EQ(out.dst, h.dst);
  EXPECT_EQ(out.src_port, 40000);
  EXPECT_EQ(out.dst_port, 80);
  EXPECT_EQ(out.seq, h.seq);
  EXPECT_EQ(out.ack, h.ack);
  EXPECT_EQ(out.flags, h.flags);
  EXPECT_EQ(out.ecn, kCe);
  EXPECT_EQ(out.window, 501);
  EXPECT_EQ(out.urgent, 7);
  EXPECT_EQ(out.vlan.count, 0);
  EXPECT_EQ(out.payload_offset, kTcp + kTcpBytes);
  EXPECT_EQ(out.payload_length, 5);
  EXPECT_EQ(out.seq_length(), 5u);
  EXPECT_FALSE(out.partial_checksum);
  EXPECT_FALSE(out.options.has_timestamp);
}

TEST(ParseFrame, FindsCeWhateverTheDscp) {
  FrameBytes frame = test_frame(test_header());
  frame[kIp + 1] = 0xb8 | kCe;
  fix_ip_checksum(frame);
  TcpSegment out;
  ASSERT_EQ(parse(frame, out), ParseVerdict::kOk);
  EXPECT_EQ(out.ecn, kCe);

  FrameBytes frame6 = test_frame(test_header(true));
  frame6[kIp] = 0x6b;
  frame6[kIp + 1] = 0x80 | (kCe << 4) | 0x0f;  // rest of DSCP, ECN, start of the flow label
  ASSERT_EQ(parse(frame6, out), ParseVerdict::kOk);
  EXPECT_EQ(out.ecn, kCe);
}

TEST(ParseFrame, IgnoresEthernetPadding) {
  FrameBytes frame = test_frame(test_header(), "x");
  frame.resize(frame.size() + 5, 0xee);
  TcpSegment out;
  ASSERT_EQ(parse(frame, out), ParseVerdict::kOk);
  EXPECT_EQ(out.payload_length, 1);
  EXPECT_EQ(frame[out.payload_offset], 'x');
}

TEST(ParseFrame, EveryTruncationIsRefused) {
  for (const bool ipv6 : {false, true}) {
    TcpSegmentHeader h = test_header(ipv6);
    h.vlan = {{{kTpidServiceVlan, 5}, {kTpidVlan, 6}}, 2};
    h.options.has_timestamp = true;
    const FrameBytes frame = test_frame(h, "payload");
    for (std::size_t n = 0; n < frame.size(); ++n) {
      EXPECT_NE(verdict_of(FrameBytes(frame.begin(), frame.begin() + static_cast<long>(n))),
                ParseVerdict::kOk)
          << n;
    }
  }
}

TEST(ParseFrame, TooShort) {
  EXPECT_EQ(verdict_of({}), ParseVerdict::kTooShort);
  EXPECT_EQ(verdict_of(FrameBytes(13)), ParseVerdict::kTooShort);
  FrameBytes frame = test_frame(test_header());
  frame.resize(kIp + 19);
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kTooShort);
}

TEST(ParseFrame, TcpHeaderCutByTheIpLength) {
  FrameBytes frame = test_frame(test_header());
  store16(&frame[kIp + 2], kIpv4Bytes + 19);
  fix_ip_checksum(frame);
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kTooShort);
}

TEST(ParseFrame, NotUnicast) {
  FrameBytes frame = test_frame(test_header());
  frame[0] = 0xff;
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kNotUnicast);
  TcpSegmentHeader h = test_header();
  h.dst = IpAddr::v4(224, 0, 0, 1);
  EXPECT_EQ(verdict_of(test_frame(h)), ParseVerdict::kNotUnicast);
  h = test_header(true);
  h.dst.bytes[0] = 0xff;
  EXPECT_EQ(verdict_of(test_frame(h)), ParseVerdict::kNotUnicast);
}

// Answers of control go back to where a frame came from: never to a group.
TEST(ParseFrame, EthernetSourceOfAGroup) {
  FrameBytes frame = test_frame(test_header());
  frame[6] |= 1;
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadAddress);
}

TEST(ParseFrame, VlanTagsComeOutRawAndBounded) {
  TcpSegmentHeader h = test_header();
  h.vlan = {{{kTpidServiceVlan, 0x2064}, {kTpidVlan, 0x0007}}, 2};
  FrameBytes frame = test_frame(h, "z");
  TcpSegment out;
  ASSERT_EQ(parse(frame, out), ParseVerdict::kOk);
  ASSERT_EQ(out.vlan.count, 2);
  EXPECT_EQ(out.vlan.tag[0], (VlanTag{kTpidServiceVlan, 0x2064}));
  EXPECT_EQ(out.vlan.tag[0].id(), 100);
  EXPECT_EQ(out.vlan.tag[1], (VlanTag{kTpidVlan, 7}));
  EXPECT_EQ(frame[out.payload_offset], 'z');

  const FrameBytes third = {0x81, 0x00, 0x00, 0x01};
  frame.insert(frame.begin() + 12, third.begin(), third.end());
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kTooManyVlanTags);
}

TEST(ParseFrame, NotIp) {
  FrameBytes frame = test_frame(test_header());
  store16(&frame[12], 0x0806);
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kNotIp);
}

TEST(ParseFrame, BadIpVersion) {
  FrameBytes frame = test_frame(test_header());
  frame[kIp] = 0x65;
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadIpVersion);
  frame = test_frame(test_header(true));
  frame[kIp] = 0x45;
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadIpVersion);
}

TEST(ParseFrame, BadIpHeaderLength) {
  FrameBytes frame = test_frame(test_header());
  frame[kIp] = 0x44;
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadIpHeaderLength);
  frame[kIp] = 0x4f;  // 60 bytes of header in a packet of 40
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadIpHeaderLength);
}

TEST(ParseFrame, BadIpTotalLength) {
  FrameBytes frame = test_frame(test_header());
  store16(&frame[kIp + 2], static_cast<std::uint16_t>(frame.size() - kIp + 1));
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadIpTotalLength);
  frame = test_frame(test_header(true));
  store16(&frame[kIp + 4], 0);
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadIpTotalLength);
}

TEST(ParseFrame, BadIpChecksum) {
  FrameBytes frame = test_frame(test_header());
  frame[kIp + 8] ^= 1;
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadIpChecksum);
  EXPECT_EQ(verdict_of(frame, RxChecksum::kTrust), ParseVerdict::kBadIpChecksum);
}

TEST(ParseFrame, Ipv4Fragments) {
  FrameBytes frame = test_frame(test_header());
  store16(&frame[kIp + 6], kIpMoreFragments);
  fix_ip_checksum(frame);
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kFragmentFirst);
  store16(&frame[kIp + 6], 1);
  fix_ip_checksum(frame);
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kFragmentLater);
}

TEST(ParseFrame, BadAddress) {
  TcpSegmentHeader h = test_header();
  for (const IpAddr src : {IpAddr::v4(0, 0, 0, 0), IpAddr::v4(127, 0, 0, 1),
                           IpAddr::v4(224, 0, 0, 5), IpAddr::v4(255, 255, 255, 255)}) {
    h.src = src;
    EXPECT_EQ(verdict_of(test_frame(h)), ParseVerdict::kBadAddress);
  }
  FrameBytes frame = test_frame(test_header(true));
  const IpAddr mapped = IpAddr::v4(10, 0, 0, 2);
  std::copy(mapped.bytes.begin(), mapped.bytes.end(), frame.begin() + kIp + 8);
  EXPECT_EQ(verdict_of(frame, RxChecksum::kTrust), ParseVerdict::kBadAddress);
  std::fill_n(frame.begin() + kIp + 8, 16, std::uint8_t{0});
  EXPECT_EQ(verdict_of(frame, RxChecksum::kTrust), ParseVerdict::kBadAddress);
  frame[kIp + 8 + 15] = 1;
  EXPECT_EQ(verdict_of(frame, RxChecksum::kTrust), ParseVerdict::kBadAddress);
}

TEST(ParseFrame, SkipsIpv4Options) {
  const FrameBytes frame = with_ip_options({0x94, 0x04, 0x00, 0x00});  // router alert
  TcpSegment out;
  ASSERT_EQ(parse(frame, out), ParseVerdict::kOk);
  EXPECT_EQ(out.payload_offset, kTcp + 4 + kTcpBytes);
  EXPECT_EQ(out.payload_length, 3);
}

TEST(ParseFrame, Ipv4OptionsAreReadAsFarAsAHostMust) {
  const auto verdict = [](const FrameBytes& options) {
    return verdict_of(with_ip_options(options));
  };
  EXPECT_EQ(verdict({1, 1, 1, 7, 7, 4, 0, 0, 0, 0, 0, 0}), ParseVerdict::kOk) << "record route";
  EXPECT_EQ(verdict({0, 131, 7, 4}), ParseVerdict::kOk) << "behind the end is padding";
  EXPECT_EQ(verdict({131, 7, 4, 10, 0, 0, 9, 0}), ParseVerdict::kSourceRoute);
  EXPECT_EQ(verdict({1, 137, 7, 8, 10, 0, 0, 9}), ParseVerdict::kSourceRoute) << "at its end, too";
  EXPECT_EQ(verdict({7, 1, 0, 0}), ParseVerdict::kBadIpOption);
  EXPECT_EQ(verdict({7, 0, 0, 0}), ParseVerdict::kBadIpOption);
  EXPECT_EQ(verdict({1, 1, 7, 3}), ParseVerdict::kBadIpOption);
  EXPECT_EQ(verdict({1, 1, 1, 7}), ParseVerdict::kBadIpOption);
}

TEST(ParseFrame, Ipv6OptionsSayThemselvesWhetherTheyMayBePassedOver) {
  const auto verdict = [](std::uint8_t header, const FrameBytes& options) {
    FrameBytes extension = {kProtoTcp, 0};
    extension.insert(extension.end(), options.begin(), options.end());
    return verdict_of(with_extension(header, extension));
  };
  for (const std::uint8_t header : {kProtoHopByHop, kProtoDestination}) {
    EXPECT_EQ(verdict(header, {0, 0, 0, 0, 0, 0}), ParseVerdict::kOk);
    EXPECT_EQ(verdict(header, {1, 0, 5, 2, 0, 0}), ParseVerdict::kOk) << "router alert";
    EXPECT_EQ(verdict(header, {0x3e, 4, 1, 2, 3, 4}), ParseVerdict::kOk) << "unknown: skip";
    for (const int action : {0x40, 0x80, 0xc0}) {
      const auto type = static_cast<std::uint8_t>(action | 0x1e);
      EXPECT_EQ(verdict(header, {type, 4, 1, 2, 3, 4}), ParseVerdict::kUnknownIpOption);
    }
    EXPECT_EQ(verdict(header, {1, 5, 0, 0, 0, 0}), ParseVerdict::kBadIpOption);
    EXPECT_EQ(verdict(header, {0, 0, 0, 0, 0, 1}), ParseVerdict::kBadIpOption);
  }
  EXPECT_EQ(verdict_of(with_extension(kProtoDestination, {kProtoHopByHop, 0, 1, 4, 0, 0, 0, 0,
                                                          kProtoTcp, 0, 1, 4, 0, 0, 0, 0})),
            ParseVerdict::kBadExtensionHeader)
      << "hop-by-hop options stand in front";
}

TEST(ParseFrame, WalksIpv6ExtensionHeaders) {
  const FrameBytes frame = with_extension(kProtoHopByHop, {kProtoDestination,
                                                           0,
                                                           1,
                                                           4,
                                                           0,
                                                           0,
                                                           0,
                                                           0,  //
                                                           kProtoRouting,
                                                           1,
                                                           1,
                                                           12,
                                                           0,
                                                           0,
                                                           0,
                                                           0,  //
                                                           0,
                                                           0,
                                                           0,
                                                           0,
                                                           0,
                                                           0,
                                                           0,
                                                           0,  //
                                                           kProtoFragment,
                                                           0,
                                                           4,
                                                           0,
                                                           0,
                                                           0,
                                                           0,
                                                           0,  //
                                                           kProtoTcp,
                                                           0,
                                                           0,
                                                           0,
                                                           1,
                                                           2,
                                                           3,
                                                           4});  //
  TcpSegment out;
  ASSERT_EQ(parse(frame, out), ParseVerdict::kOk);
  EXPECT_EQ(out.payload_length, 3);
  EXPECT_EQ(frame[out.payload_offset], 'a');
}

TEST(ParseFrame, Ipv6Fragments) {
  EXPECT_EQ(verdict_of(with_extension(kProtoFragment, {kProtoTcp, 0, 0, 1, 0, 0, 0, 1})),
            ParseVerdict::kFragmentFirst);
  EXPECT_EQ(verdict_of(with_extension(kProtoFragment, {kProtoTcp, 0, 0, 8, 0, 0, 0, 1})),
            ParseVerdict::kFragmentLater);
}

TEST(ParseFrame, RoutingPending) {
  EXPECT_EQ(verdict_of(with_extension(kProtoRouting, {kProtoTcp, 0, 0, 1, 0, 0, 0, 0})),
            ParseVerdict::kRoutingPending);
}

TEST(ParseFrame, BadExtensionHeader) {
  EXPECT_EQ(verdict_of(with_extension(kProtoHopByHop, {kProtoTcp, 200, 0, 0, 0, 0, 0, 0})),
            ParseVerdict::kBadExtensionHeader);
  FrameBytes chain;
  for (int i = 0; i <= kMaxExtensionHeaders; ++i) {
    chain.insert(chain.end(), {kProtoDestination, 0, 1, 4, 0, 0, 0, 0});
  }
  EXPECT_EQ(verdict_of(with_extension(kProtoDestination, chain)),
            ParseVerdict::kBadExtensionHeader);
}

TEST(ParseFrame, NotTcp) {
  FrameBytes frame = test_frame(test_header());
  frame[kIp + 9] = 17;
  fix_ip_checksum(frame);
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kNotTcp);
  EXPECT_EQ(verdict_of(with_extension(58, {})), ParseVerdict::kNotTcp);
}

TEST(ParseFrame, BadDataOffset) {
  FrameBytes frame = test_frame(test_header());
  frame[kTcp + 12] = 0x40;
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadDataOffset);
  frame[kTcp + 12] = 0x60;
  EXPECT_EQ(verdict_of(frame), ParseVerdict::kBadDataOffset);
}

TEST(ParseFrame, ChecksumPolicies) {
  const TcpSegmentHeader h = test_header();
  FrameBytes right = test_frame(h, "data");
  FrameBytes wrong = right;
  wrong[kTcp + kTcpBytes] ^= 0x40;
  FrameBytes partial = right;
  const std::uint64_t pseudo =
      pseudo_address_sum(h.src, h.dst) + pseudo_length_sum(partial.size() - kTcp);
  store_raw(&partial[kTcp + 16], static_cast<std::uint16_t>(checksum_fold(pseudo)));

  EXPECT_EQ(verdict_of(right), ParseVerdict::kOk);
  EXPECT_EQ(verdict_of(wrong), ParseVerdict::kBadTcpChecksum);
  EXPECT_EQ(verdict_of(partial), ParseVerdict::kBadTcpChecksum);
  TcpSegment out;
  EXPECT_EQ(parse(right, out, RxChecksum::kAcceptPartial), ParseVerdict::kOk);
  EXPECT_FALSE(out.partial_checksum);
  EXPECT_EQ(parse(wrong, out, RxChecksum::kAcceptPartial), ParseVerdict::kBadTcpChecksum);
  EXPECT_EQ(parse(partial, out, RxChecksum::kAcceptPartial), ParseVerdict::kOk);
  EXPECT_TRUE(out.partial_checksum);
  EXPECT_EQ(parse(wrong, out, RxChecksum::kTrust), ParseVerdict::kOk);
  EXPECT_FALSE(out.partial_checksum);
}

TEST(ParseFrame, BadPort) {
  TcpSegmentHeader h = test_header();
  h.src_port = 0;
  EXPECT_EQ(verdict_of(test_frame(h)), ParseVerdict::kBadPort);
  h = test_header();
  h.dst_port = 0;
  EXPECT_EQ(verdict_of(test_frame(h)), ParseVerdict::kBadPort);
}

TEST(ParseFrame, BadFlags) {
  TcpSegmentHeader h = test_header();
  for (const int flags : {0, kPsh | kUrg, kSyn | kFin, kSyn | kRst, kSyn | kFin | kAck, 0xff}) {
    h.flags = static_cast<std::uint8_t>(flags);
    EXPECT_EQ(verdict_of(test_frame(h)), ParseVerdict::kBadFlags) << flags;
  }
  for (const int flags : {+kSyn, kSyn | kAck, +kRst, kRst | kAck, +kFin, kFin | kAck, +kAck}) {
    h.flags = static_cast<std::uint8_t>(flags);
    EXPECT_EQ(verdict_of(test_frame(h)), ParseVerdict::kOk) << flags;
  }
}

TEST(ParseFrame, BadOption) {
  EXPECT_EQ(verdict_of(with_options({253, 0, 1, 1})), ParseVerdict::kBadOption);
  EXPECT_EQ(verdict_of(with_options({253, 1, 1, 1})), ParseVerdict::kBadOption);
  EXPECT_EQ(verdict_of(with_options({253, 5, 1, 1})), ParseVerdict::kBadOption);
  EXPECT_EQ(verdict_of(with_options({1, 1, 1, 8})), ParseVerdict::kBadOption);
}

TEST(ParseFrame, SkipsUnknownOptionsAndOddLengths) {
  TcpSegment out;
  const std::vector<std::uint8_t> options = {253, 3, 9,     // unknown
                                             8,   4, 1, 2,  // timestamps of another length
                                             2,   3, 9,     // MSS of another length
                                             0,   77};      // end: what follows is not read
  ASSERT_EQ(parse(with_options(options, kSyn), out), ParseVerdict::kOk);
  EXPECT_FALSE(out.options.has_timestamp);
  EXPECT_EQ(out.options.mss, 0);
}

TEST(ParseFrame, ReadsSynOptions) {
  TcpSegment out;
  const std::vector<std::uint8_t> options = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0,
                                             0, 9, 0, 0,    0, 8, 1, 3,  3, 200};
  ASSERT_EQ(parse(with_options(options, kSyn), out), ParseVerdict::kOk);
  EXPECT_EQ(out.options.mss, 1460);
  EXPECT_TRUE(out.options.sack_permitted);
  EXPECT_TRUE(out.options.has_timestamp);
  EXPECT_EQ(out.options.tsval, 9u);
  EXPECT_EQ(out.options.tsecr, 8u);
  EXPECT_TRUE(out.options.has_wscale);
  EXPECT_EQ(out.options.wscale, kMaxWindowShift);  // RFC 7323: larger counts as 14

  ASSERT_EQ(parse(with_options(options, kAck), out), ParseVerdict::kOk);
  EXPECT_EQ(out.options.mss, 0);
  EXPECT_FALSE(out.options.sack_permitted);
  EXPECT_FALSE(out.options.has_wscale);
  EXPECT_TRUE(out.options.has_timestamp);
}

TEST(ParseFrame, ReadsSackBlocks) {
  TcpSegmentHeader h = test_header();
  h.options.sack_count = 2;
  h.options.sack[0] = {100, 200};
  h.options.sack[1] = {0xfffffff0u, 50};
  TcpSegment out;
  ASSERT_EQ(parse(test_frame(h), out), ParseVerdict::kOk);
  ASSERT_EQ(out.options.sack_count, 2);
  EXPECT_EQ(out.options.sack[0], h.options.sack[0]);
  EXPECT_EQ(out.options.sack[1], h.options.sack[1]);
}

TEST(ParseFrame, OptionsOfAnEarlierParseDoNotShine) {
  TcpSegmentHeader h = test_header();
  h.options.has_timestamp = true;
  h.options.sack_count = 1;
  h.options.sack[0] = {1, 2};
  TcpSegment out;
  ASSERT_EQ(parse(test_frame(h), out), ParseVerdict::kOk);
  ASSERT_EQ(parse(test_frame(test_header()), out), ParseVerdict::kOk);
  EXPECT_FALSE(out.options.has_timestamp);
  EXPECT_EQ(out.options.sack_count, 0);
}

TEST(ParseFrame, SeqLengthCountsSynAndFin) {
  TcpSegmentHeader h = test_header();
  TcpSegment out;
  h.flags = kSyn;
  ASSERT_EQ(parse(test_frame(h), out), ParseVerdict::kOk);
  EXPECT_EQ(out.seq_length(), 1u);
  h.flags = kFin | kAck;
  ASSERT_EQ(parse(test_frame(h, "ab"), out), ParseVerdict::kOk);
  EXPECT_EQ(out.seq_length(), 3u);
}

TEST(ParseVerdictText, EveryVerdictHasANameOfItsOwn) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kParseVerdicts; ++i) {
    names.emplace_back(verdict_name(static_cast<ParseVerdict>(i)));
    EXPECT_FALSE(std::string(verdict_sentence(static_cast<ParseVerdict>(i))).empty());
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  EXPECT_STREQ(verdict_name(ParseVerdict::kOk), "ok");
  EXPECT_STREQ(verdict_name(ParseVerdict::kBadOption), "bad_option");
}

// --- Frames in several buffers ---

/// `frame` cut at the given places, each part a copy of exact size.
std::vector<FrameBytes> cut(const FrameBytes& frame, std::vector<std::size_t> places) {
  std::vector<FrameBytes> parts;
  std::size_t from = 0;
  places.push_back(frame.size());
  for (const std::size_t to : places) {
    parts.emplace_back(frame.begin() + static_cast<long>(from),
                       frame.begin() + static_cast<long>(to));
    from = to;
  }
  return parts;
}

ParseVerdict parse_cut(const FrameBytes& frame, const std::vector<std::size_t>& places,
                       TcpSegment& out) {
  const auto parts = cut(frame, places);
  const std::vector<std::span<const std::uint8_t>> rest(parts.begin() + 1, parts.end());
  return parse_frame(parts[0], rest, {}, out);
}

TEST(ParseParts, CutAnywhereBehindTheHeadersItIsTheSameSegment) {
  for (const bool ipv6 : {false, true}) {
    TcpSegmentHeader h = test_header(ipv6);
    h.options.has_timestamp = true;
    FrameBytes frame = test_frame(h, std::string(301, 'x') + "odd");
    frame.resize(frame.size() + 9, 0xee);  // what lies behind the IP length is nobody's
    TcpSegment whole;
    ASSERT_EQ(parse(frame, whole), ParseVerdict::kOk);
    for (std::size_t first = 0; first <= frame.size(); ++first) {
      const bool split = first < whole.payload_offset;
      for (const std::size_t second : {first, (first + frame.size()) / 2, frame.size()}) {
        TcpSegment out;
        ASSERT_EQ(parse_cut(frame, {first, second}, out),
                  split ? ParseVerdict::kHeadersSplit : ParseVerdict::kOk)
            << first << ' ' << second;
        if (split) continue;
        ASSERT_EQ(out.payload_offset, whole.payload_offset);
        ASSERT_EQ(out.payload_length, whole.payload_length);
        ASSERT_EQ(out.options.tsval, whole.options.tsval);
      }
    }
  }
}

TEST(ParseParts, ExtensionHeadersAndOptionsMustEndInTheFirstToo) {
  TcpSegment out;
  const FrameBytes extended = with_extension(kProtoDestination, {kProtoTcp, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(parse_cut(extended, {kTcp6 + 4}, out), ParseVerdict::kHeadersSplit);
  EXPECT_EQ(parse_cut(extended, {kTcp6 + 8 + kTcpBytes}, out), ParseVerdict::kOk);
  FrameBytes optional = test_frame(test_header());
  optional.insert(optional.begin() + kTcp, 8, 1);
  optional[kIp] = 0x47;
  store16(&optional[kIp + 2], static_cast<std::uint16_t>(optional.size() - kIp));
  fix_ip_checksum(optional);
  EXPECT_EQ(parse_cut(optional, {kTcp + 4}, out), ParseVerdict::kHeadersSplit);
  EXPECT_EQ(parse_cut(optional, {optional.size()}, out), ParseVerdict::kOk);
}

TEST(ParseParts, WrongBytesInAnyPartAreFound) {
  const FrameBytes good = test_frame(test_header(), std::string(90, 'y'));
  for (std::size_t at = kTcp + kTcpBytes; at < good.size(); ++at) {
    FrameBytes bad = good;
    bad[at] ^= 0x10;
    TcpSegment out;
    ASSERT_EQ(parse_cut(bad, {kTcp + kTcpBytes + 11, good.size() - 20}, out),
              ParseVerdict::kBadTcpChecksum);
  }
}

TEST(ParseParts, AnIpLengthBeyondAllPartsIsRefused) {
  FrameBytes frame = test_frame(test_header(), std::string(90, 'y'));
  frame.pop_back();
  TcpSegment out;
  EXPECT_EQ(parse_cut(frame, {80, 100}, out), ParseVerdict::kBadIpTotalLength);
}

TEST(ParseParts, OfAPoolAreBoundedInNumber) {
  std::vector<std::uint8_t> memory(8 * 256);
  FramePool pool(memory, 256);
  const FrameBytes bytes = test_frame(test_header(), std::string(5, 'z'));
  Frame frame = pool.acquire();
  frame.length = static_cast<std::uint16_t>(bytes.size() - 5);
  std::copy_n(bytes.begin(), frame.length, pool.bytes(frame).begin());
  TcpSegment out;
  for (std::size_t i = 5; i > 0; --i) {
    Frame part = pool.acquire();
    part.length = 1;
    pool.bytes(part)[0] = bytes[bytes.size() - i];
    pool.append(frame, part);
  }
  EXPECT_EQ(parse_frame(pool, frame, {}, out), ParseVerdict::kOk);
  EXPECT_EQ(out.payload_length, 5);
  pool.append(frame, pool.acquire());
  EXPECT_EQ(parse_frame(pool, frame, {}, out), ParseVerdict::kTooManyParts);
}

}  // namespace
}  // namespace toe::wire
