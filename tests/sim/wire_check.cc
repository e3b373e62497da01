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
    const bool again = (s.flags & wire::kAck) != 0 && out.begun;
    if ((s.flags & wire::kAck) == 0) c = {};
    c.again = again;
    out.begun = true;
    out.isn = s.seq;
    out.wscale = s.options.wscale;
  }
  if (!out.begun || c.again) return "";
  if (const std::string wrong = order(out, s); !wrong.empty()) return wrong;
  if ((s.flags & wire::kAck) == 0 || !in.begun) return "";
  if (const std::string wrong = acknowledgement(in, s); !wrong.empty()) return wrong;
  return window(out, in, s);
}

std::string WireCheck::order(Stream& out, const wire::TcpSegment& s) {
  const std::uint32_t begin = out.offset(s.seq);
  const std::uint32_t end = begin + s.seq_length();
  if (s.seq_length() == 0) return "";  // a probe lies before what was sent
  if (s.payload_length != 0 && begin + s.payload_length > out.promised) {
    return "sends beyond the peer's window";
  }
  if ((s.flags & wire::kSyn) == 0 && begin > out.sent_end) return "leaves bytes out";
  if (out.fin_end != 0 && end > out.fin_end) return "sends behind its FIN";
  if ((s.flags & wire::kFin) != 0) {
    if (out.fin_end == 0 && end < out.sent_end) return "sends a FIN before what it has sent";
    if (out.fin_end != 0 && end != out.fin_end) return "moves its FIN";
    out.fin_end = end;
  }
  out.sent_end = std::max(out.sent_end, end);
  return "";
}

std::string WireCheck::acknowledgement(Stream& in, const wire::TcpSegment& s) {
  const std::uint32_t ack = in.offset(s.ack);
  if (!in.holds(0, ack)) return "acknowledges bytes that never came";
  if (ack < in.acked) return "takes an acknowledgement back";
  in.acked = ack;
  for (std::uint8_t i = 0; i < s.options.sack_count; ++i) {
    const wire::SackBlock& block = s.options.sack[i];
    if (in.offset(block.start) >= in.offset(block.end)) return "an empty SACK block";
    if (!in.holds(in.offset(block.start), in.offset(block.end))) {
      return "reports bytes that never came";
    }
  }
  return "";
}

std::string WireCheck::window(const Stream& out, Stream& in, const wire::TcpSegment& s) {
  const std::uint32_t shift = (s.flags & wire::kSyn) != 0 ? 0 : out.wscale;
  const std::uint32_t edge = in.offset(s.ack) + (std::uint32_t{s.window} << shift);
  if (in.fin_end != 0 && in.acked == in.fin_end) return "";  // nothing more to come: no window
  // Less than one unit may be lost by rounding (RFC 7323 section 2.4).
  if (edge + (1u << shift) <= in.promised) return "takes a part of its window back";
  in.promised = std::max(in.promised, edge);
  return "";
}

void WireCheck::passed(int from, const wire::TcpSegment& s) {
  Stream& out = connection(from, s).stream[from];
  if (!out.begun || (s.flags & wire::kRst) != 0 || s.seq_length() == 0) return;
  out.add(out.offset(s.seq), out.offset(s.seq) + s.seq_length());
}

}  // namespace toe::sim
