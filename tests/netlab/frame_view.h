// The little that a wire has to know of a frame's headers. Any bytes are taken; what is not
// understood is "no IP".
#ifndef TOE_NETLAB_FRAME_VIEW_H_
#define TOE_NETLAB_FRAME_VIEW_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace toe::netlab {

struct FrameView {
  int version = 0;            ///< 4, 6, or 0: no IP
  std::size_t ip = 0;         ///< offset of the IP header
  std::size_t transport = 0;  ///< offset behind it; IPv6 extension headers count as transport
  bool tcp = false;
  std::size_t payload = 0;  ///< bytes behind the TCP header
};

FrameView look(std::span<const std::uint8_t> frame);

/// RFC 3168: the sender permits marks. True for frames marked already.
bool permits_mark(std::span<const std::uint8_t> frame, const FrameView& view);
/// Sets "congestion experienced" and keeps IPv4's header checksum right (RFC 1624).
/// REQUIRES: permits_mark.
void mark_congestion(std::span<std::uint8_t> frame, const FrameView& view);

/// The first byte that a checksum covers which endpoints verify: of IPv4's header, of TCP's or
/// UDP's segment in IPv6. The frame's length if there is none.
std::size_t first_checked_byte(std::span<const std::uint8_t> frame, const FrameView& view);

}  // namespace toe::netlab

#endif  // TOE_NETLAB_FRAME_VIEW_H_
