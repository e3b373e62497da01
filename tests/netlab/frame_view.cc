#include "netlab/frame_view.h"

#include <algorithm>

#include "wire/bytes.h"
#include "wire/format.h"
#include "wire/segment.h"

namespace toe::netlab {
namespace {

constexpr std::uint8_t kProtoUdp = 17;

/// Offset behind the tags, with the type found there; 0 if the frame is too short.
std::size_t skip_ethernet(std::span<const std::uint8_t> frame, std::uint16_t& type) {
  std::size_t at = wire::kEthernetBytes;
  if (frame.size() < at) return 0;
  type = wire::load16(&frame[at - 2]);
  for (std::size_t tags = 0; tags < wire::kMaxVlanTags; ++tags) {
    if (type != wire::kTpidVlan && type != wire::kTpidServiceVlan) break;
    at += wire::kVlanTagBytes;
    if (frame.size() < at) return 0;
    type = wire::load16(&frame[at - 2]);
  }
  return at;
}

std::uint8_t protocol(std::span<const std::uint8_t> frame, const FrameView& view) {
  return view.version == 4 ? frame[view.ip + 9] : frame[view.ip + 6];
}

/// Where the packet ends, as its header says; frames may be padded.
std::size_t packet_end(std::span<const std::uint8_t> frame, const FrameView& view) {
  const std::size_t said = view.version == 4 ? view.ip + wire::load16(&frame[view.ip + 2])
                                             : view.transport + wire::load16(&frame[view.ip + 4]);
  return std::min(said, frame.size());
}

bool look_ip(std::span<const std::uint8_t> frame, std::uint16_t type, FrameView& view) {
  if (type == wire::kEtherIpv4 && frame.size() >= view.ip + wire::kIpv4Bytes) {
    const std::size_t length = (frame[view.ip] & 0x0fu) * 4u;
    if (frame[view.ip] >> 4 != 4 || length < wire::kIpv4Bytes) return false;
    view.version = 4;
    view.transport = view.ip + length;
  } else if (type == wire::kEtherIpv6 && frame.size() >= view.ip + wire::kIpv6Bytes) {
    if (frame[view.ip] >> 4 != 6) return false;
    view.version = 6;
    view.transport = view.ip + wire::kIpv6Bytes;
  }
  return view.version != 0 && view.transport <= frame.size();
}

}  // namespace

FrameView look(std::span<const std::uint8_t> frame) {
  FrameView view;
  std::uint16_t type = 0;
  view.ip = skip_ethernet(frame, type);
  if (view.ip == 0 || !look_ip(frame, type, view)) return {};
  const std::size_t end = packet_end(frame, view);
  if (protocol(frame, view) != wire::kProtoTcp || end < view.transport + wire::kTcpBytes) {
    return view;
  }
  view.tcp = true;
  const std::size_t header = (frame[view.transport + 12] >> 4) * 4u;
  view.payload = end > view.transport + header ? end - view.transport - header : 0;
  return view;
}

bool permits_mark(std::span<const std::uint8_t> frame, const FrameView& view) {
  if (view.version == 0) return false;
  const unsigned traffic_class =
      view.version == 4 ? frame[view.ip + 1] : (wire::load16(&frame[view.ip]) >> 4) & 0xffu;
  return (traffic_class & 3u) != wire::kNotEct;
}

void mark_congestion(std::span<std::uint8_t> frame, const FrameView& view) {
  std::uint8_t* ip = &frame[view.ip];
  if (view.version == 6) {
    ip[1] = static_cast<std::uint8_t>(ip[1] | wire::kCe << 4);
    return;
  }
  const auto before = wire::load_raw<std::uint16_t>(ip);
  ip[1] = static_cast<std::uint8_t>(ip[1] | wire::kCe);
  const auto after = wire::load_raw<std::uint16_t>(ip);
  const auto checksum = wire::load_raw<std::uint16_t>(ip + 10);
  const std::uint32_t sum =
      (~checksum & 0xffffu) + (~static_cast<std::uint32_t>(before) & 0xffffu) + after;
  wire::store_raw(ip + 10, wire::checksum_finish(sum));
}

std::size_t first_checked_byte(std::span<const std::uint8_t> frame, const FrameView& view) {
  if (view.version == 4) return view.ip;
  const bool sums = view.version == 6 && (view.tcp || protocol(frame, view) == kProtoUdp);
  return sums ? view.transport : frame.size();
}

}  // namespace toe::netlab
