#include "sim/wire_check.h"

#include <algorithm>

namespace toe::sim {

bool WireCheck::Stream::holds(std::uint32_t begin, std::uint32_t end) const {
  auto at = arrived.upper_bound(begin);
  if (at == arrived.begin()) return false;
  --at;
  return at->second >= end;
}

void WireCheck::Stream::add(std::uint32_t begin, std::uint32_t end) {
  auto at = arrived.lower_bound(begin);
  if (at != arrived.begin() && std::prev(at)->second >= begin) --at;
  while (at != arrived.end() && at->first <= end) {
    begin = std::min(begin, at->first);
    end = std::max(end, at->second);
    at = arrived.erase(at);
  }
  arrived[begin] = end;
}

std::string WireCheck::sent(int from, const wire::TcpSegment& s) {
  Connection& c = connection(from, s);
  Stream& out = c.stream[from];
  Stream& in = c.stream[1 - from];
  if ((s.flags & wire::kRst) != 0) return "";
  if ((s.flags & wire::kSyn) != 0 && (!out.begun || out.isn != s.seq)) {
    if ((s.flags & wire::kAck) == 0) c = {};
    out.begun = true;
    out.isn = s.seq;
    out.wscale = s.options.wscale;
  }
  if (!out.begun || (s.flags & wire::kAck) == 0 || !in.begun) return "";

  const std::uint32_t ack = in.offset(s.ack);
  if (!in.holds(0, ack)) return "acknowledges bytes that never came";
  for (std::uint8_t i = 0; i < s.options.sack_count; ++i) {
    const wire::SackBlock& block = s.options.sack[i];
    if (in.offset(block.start) >= in.offset(block.end)) return "an empty SACK block";
    if (!in.holds(in.offset(block.start), in.offset(block.end))) {
      return "reports bytes that never came";
    }
  }
  const std::uint32_t shift = (s.flags & wire::kSyn) != 0 ? 0 : out.wscale;
  in.promised = std::max(in.promised, ack + (std::uint32_t{s.window} << shift));
  const std::uint32_t end = out.offset(s.seq) + s.payload_length;
  if (s.payload_length != 0 && end > out.promised) return "sends beyond the peer's window";
  return "";
}

void WireCheck::passed(int from, const wire::TcpSegment& s) {
  Stream& out = connection(from, s).stream[from];
  if (!out.begun || (s.flags & wire::kRst) != 0 || s.seq_length() == 0) return;
  out.add(out.offset(s.seq), out.offset(s.seq) + s.seq_length());
}

}  // namespace toe::sim
