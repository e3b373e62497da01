#include "datapath/prr.h"

#include <algorithm>

namespace toe::datapath {

void prr_begin(flow::PrrState& prr, std::uint64_t flight) {
  prr = {};
  prr.flight = std::max<std::uint64_t>(flight, 1);
}

std::uint32_t prr_on_ack(flow::PrrState& prr, const PrrInput& in) {
  prr.delivered += in.delivered;
  const auto delivered = static_cast<std::int64_t>(prr.delivered);
  const auto sent = static_cast<std::int64_t>(prr.sent);
  const auto flight = static_cast<std::int64_t>(in.flight);
  const auto ssthresh = static_cast<std::int64_t>(in.ssthresh);
  std::int64_t allowed = 0;
  if (flight > ssthresh) {  // proportional reduction, rounded up
    const std::uint64_t share = (prr.delivered * in.ssthresh + prr.flight - 1) / prr.flight;
    allowed = static_cast<std::int64_t>(share) - sent;
  } else {  // slow start reduction bound; conservative while losses go on
    allowed = std::max(delivered - sent, static_cast<std::int64_t>(in.delivered));
    if (in.safe) allowed += in.mss;
    allowed = std::min(allowed, ssthresh - flight);
  }
  // The first retransmission leaves at once.
  if (prr.sent == 0) allowed = std::max<std::int64_t>(allowed, in.mss);
  allowed = std::max<std::int64_t>(allowed, 0);
  // What a peer's reports cannot justify: more than was in flight when the losses were found.
  const std::int64_t most = std::max(static_cast<std::int64_t>(prr.flight), ssthresh) + in.mss;
  const std::int64_t window = std::min({flight + allowed, most, std::int64_t{UINT32_MAX}});
  // RFC 5681 section 3.1: never less than a segment, or with nothing in flight nothing would leave.
  return static_cast<std::uint32_t>(std::max<std::int64_t>(window, in.mss));
}

}  // namespace toe::datapath
