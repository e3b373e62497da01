// Segments and frames for tests of this folder.
#ifndef TOE_WIRE_TEST_SEGMENTS_H_
#define TOE_WIRE_TEST_SEGMENTS_H_

#include <span>
#include <string_view>
#include <vector>

#include "wire/build.h"
#include "wire/parse.h"

namespace toe::wire {

using FrameBytes = std::vector<std::uint8_t>;

inline IpAddr test_v6(std::uint8_t last) {
  const std::uint8_t raw[16] = {0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, last};
  return IpAddr::v6(raw);
}

/// 10.0.0.2:40000 -> 10.0.0.1:80, ACK; the same ports in IPv6.
inline TcpSegmentHeader test_header(bool ipv6 = false) {
  TcpSegmentHeader h;
  h.eth_src = {{0x02, 0, 0, 0, 0, 2}};
  h.eth_dst = {{0x02, 0, 0, 0, 0, 1}};
  h.src = ipv6 ? test_v6(2) : IpAddr::v4(10, 0, 0, 2);
  h.dst = ipv6 ? test_v6(1) : IpAddr::v4(10, 0, 0, 1);
  h.src_port = 40000;
  h.dst_port = 80;
  h.seq = 0x01020304;
  h.ack = 0xfffefdfc;
  h.flags = kAck;
  h.window = 501;
  return h;
}

inline FrameBytes test_frame(const TcpSegmentHeader& header, std::string_view payload = {}) {
  FrameBytes frame(kMaxHeaderBytes + payload.size());
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(payload.data());
  frame.resize(build_segment(header, {bytes, payload.size()}, frame));
  return frame;
}

}  // namespace toe::wire

#endif  // TOE_WIRE_TEST_SEGMENTS_H_
