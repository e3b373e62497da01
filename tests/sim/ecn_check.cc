#include "sim/ecn_check.h"

#include <algorithm>

namespace toe::sim {
namespace {

constexpr std::uint8_t kSetup = wire::kEce | wire::kCwr;

bool has(const wire::TcpSegment& s, std::uint8_t flag) { return (s.flags & flag) != 0; }

}  // namespace

std::string EcnCheck::handshake(int from, const wire::TcpSegment& s) {
  Connection& c = connection(from, s);
  if (!has(s, wire::kAck)) {
    if (c.stream[from].isn != s.seq) c = {};
    c.asked = c.asked || (s.flags & kSetup) == kSetup;
  } else {
    if (has(s, wire::kEce) && !c.asked) return "grants ECN that nobody asked for";
    c.granted = (s.flags & kSetup) == wire::kEce;
  }
  c.stream[from].isn = s.seq;
  c.stream[from].sent_end = c.stream[from].passed_end = 1;
  if (s.ecn != wire::kNotEct && !exact_) return "sends a SYN that is ECT";
  return "";
}

std::string EcnCheck::capability(const Connection& c, bool fresh, const wire::TcpSegment& s) const {
  const bool ect = s.ecn != wire::kNotEct;
  if (ect && s.ecn != wire::kEct0) return "sends something other than ECT(0)";
  if (!c.granted && (ect || (s.flags & kSetup) != 0)) return "uses ECN that was not negotiated";
  if (c.granted && fresh && !ect) return "sends new data that is not ECT";
  if (ect && !exact_ && s.payload_length == 0) return "sends ECT without data";
  if (ect && !exact_ && !fresh) return "sends data again as ECT";
  if (has(s, wire::kCwr) && !fresh) return "sends CWR on other than new data";
  return "";
}

std::string EcnCheck::sent(int from, const wire::TcpSegment& s) {
  if (has(s, wire::kSyn)) return handshake(from, s);
  Connection& c = connection(from, s);
  Stream& out = c.stream[from];
  Stream& in = c.stream[1 - from];
  const std::uint32_t begin = s.seq - out.isn;
  const bool fresh = s.payload_length != 0 && begin >= out.sent_end;
  const std::string wrong = capability(c, fresh, s);
  if (!wrong.empty() || has(s, wire::kRst)) return wrong;
  if (s.payload_length != 0) out.sent_end = std::max(out.sent_end, begin + s.payload_length);
  out.echoing = has(s, wire::kEce);
  if (out.echoing) in.owed = false;
  if (in.owed && s.ack - in.isn >= in.mark_end) return "does not echo a mark";
  return "";
}

void EcnCheck::passed(int from, const wire::TcpSegment& s) {
  if (has(s, wire::kSyn) || s.payload_length == 0) return;
  Connection& c = connection(from, s);
  Stream& in = c.stream[from];
  const std::uint32_t begin = s.seq - in.isn;
  const std::uint32_t end = begin + s.payload_length;
  // Another copy may arrive first; CWR may answer an earlier mark and end its echo.
  if (in.owed && (has(s, wire::kCwr) || (begin < in.mark_end && end > in.mark_begin))) {
    in.owed = false;
  }
  const bool first = begin >= in.passed_end;
  in.passed_end = std::max(in.passed_end, end);
  // DCTCP counts bytes, wherever they lie: DctcpEcho of the data path's tests proves it.
  if (exact_ || !c.granted || s.ecn != wire::kCe || !first) return;
  if (in.owed || c.stream[1 - from].echoing) return;
  in.owed = true;
  in.mark_begin = begin;
  in.mark_end = end;
}

}  // namespace toe::sim
