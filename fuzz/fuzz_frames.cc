// Frames from a hostile wire: parse_frame under every checksum policy.
//
// First input byte: bits 0-1 the policy, bit 2 "repair the checksums first", so that the fuzzer
// gets past them; bits 3-7 say where the frame is cut for a second look at it in several buffers.
// The rest is the frame.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/check.h"
#include "wire/build.h"
#include "wire/format.h"
#include "wire/parse.h"

namespace {

using namespace toe::wire;
using Frame = std::vector<std::uint8_t>;

/// Makes the IPv4 header checksum right, if there is an untagged IPv4 header.
void repair_ip(Frame& frame) {
  if (frame.size() < kEthernetBytes + kIpv4Bytes || load16(&frame[12]) != kEtherIpv4) return;
  std::uint8_t* const ip = &frame[kEthernetBytes];
  const std::size_t header = (ip[0] & 0x0fu) * 4u;
  if (header < kIpv4Bytes || header > frame.size() - kEthernetBytes) return;
  store16(ip + 10, 0);
  store_raw(ip + 10, checksum_finish(checksum_partial(ip, header)));
}

/// What the parser promises of a segment that it accepts.
void check_segment(const Frame& frame, const TcpSegment& s) {
  TOE_CHECK(s.payload_offset + s.payload_length <= frame.size());
  TOE_CHECK(s.payload_offset >= kEthernetBytes + kIpv4Bytes + kTcpBytes);
  TOE_CHECK(s.vlan.count <= kMaxVlanTags);
  TOE_CHECK(s.options.sack_count <= kMaxSackBlocks);
  TOE_CHECK(s.options.wscale <= kMaxWindowShift);
  TOE_CHECK(s.src.is_v4() == s.dst.is_v4());
  TOE_CHECK(s.src_port != 0 && s.dst_port != 0 && s.ecn <= 3);
}

/// Whatever was accepted can be built again and parses to the same segment.
void check_rebuilt(const Frame& frame, const TcpSegment& s) {
  Frame again(kMaxHeaderBytes + s.payload_length);
  again.resize(
      build_segment(s, std::span(frame).subspan(s.payload_offset, s.payload_length), again));
  TOE_CHECK(!again.empty());
  TcpSegment t;
  TOE_CHECK(parse_frame(again, {RxChecksum::kVerify}, t) == ParseVerdict::kOk);
  TOE_CHECK(t.src == s.src && t.dst == s.dst && t.src_port == s.src_port);
  TOE_CHECK(t.dst_port == s.dst_port && t.seq == s.seq && t.ack == s.ack && t.flags == s.flags);
  TOE_CHECK(t.payload_length == s.payload_length && t.window == s.window && t.ecn == s.ecn);
  TOE_CHECK(t.options.mss == s.options.mss && t.options.tsval == s.options.tsval);
  TOE_CHECK(t.options.has_timestamp == s.options.has_timestamp);
  TOE_CHECK(t.options.wscale == s.options.wscale);
}

/// In several buffers it is the same frame, unless its headers are cut.
void check_cut(const Frame& frame, std::size_t where, const ParseOptions& options,
               ParseVerdict whole, const TcpSegment& s) {
  const std::size_t first = std::min(frame.size(), where * 4);
  const std::size_t second = std::min(frame.size(), first + where);
  // Copies of exact size, so that the address sanitizer sees any byte read beyond them.
  const auto at = [&](std::size_t i) { return frame.begin() + static_cast<long>(i); };
  const Frame parts[3] = {{at(0), at(first)}, {at(first), at(second)}, {at(second), frame.end()}};
  const std::span<const std::uint8_t> rest[2] = {parts[1], parts[2]};
  TcpSegment t;
  const ParseVerdict verdict = parse_frame(parts[0], rest, options, t);
  if (verdict == ParseVerdict::kHeadersSplit) return;
  TOE_CHECK(verdict == whole);
  if (verdict != ParseVerdict::kOk) return;
  TOE_CHECK(t.payload_offset == s.payload_offset && t.payload_length == s.payload_length);
  TOE_CHECK(t.payload_offset <= first && t.partial_checksum == s.partial_checksum);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Frame frame(data + 1, data + size);
  if ((data[0] & 4) != 0) repair_ip(frame);
  const auto policy = static_cast<RxChecksum>((data[0] & 3) % 3);
  TcpSegment segment;
  const ParseVerdict verdict = parse_frame(frame, {policy}, segment);
  TOE_CHECK(static_cast<std::size_t>(verdict) < kParseVerdicts);
  if (verdict == ParseVerdict::kOk) {
    check_segment(frame, segment);
    check_rebuilt(frame, segment);
  }
  check_cut(frame, data[0] >> 3, {policy}, verdict, segment);
  return 0;
}
