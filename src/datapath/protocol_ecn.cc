// Explicit congestion notification (RFC 3168, RFC 8257): what only connections with ECN do, out of
// the way of all others. docs/design/0005 says how the parts fit.
#include <algorithm>
#include <utility>

#include "datapath/protocol_detail.h"
#include "datapath/prr.h"
#include "wire/segment.h"

namespace toe::datapath {
namespace {

using flow::CaState;

/// `ecn_beta` of an algorithm whose window is no limit: its rate is reduced, by control.
constexpr std::uint16_t kKeepWindow = 1024;

void set(ProtocolSlice& s, std::uint8_t bits) { s.ecn = static_cast<std::uint8_t>(s.ecn | bits); }
void clear(ProtocolSlice& s, std::uint8_t bits) {
  s.ecn = static_cast<std::uint8_t>(s.ecn & ~bits);
}

/// RFC 3168 section 6.1.2: once per window. In a repair of losses cwnd was reduced already.
void hear_echo(Step& t, std::uint64_t ack) {
  ProtocolSlice& s = t.s;
  if (s.snd_max == s.snd_una) return;
  t.counters.ece_in.add();
  s.ce_acked += ack - s.snd_una;
  s.loss.undo.possible = false;  // a reduction now has a reason that no retransmission disproves
  if (s.ca_state >= CaState::kRecovery || ack <= std::max(s.mark_end, s.recover)) return;
  if (s.ca_state == CaState::kCwr) s.cwnd = s.cc.ssthresh;
  s.ca_state = CaState::kOpen;
  s.mark_end = s.snd_max;
  set(s, flow::kEcnCwrDue);
  t.counters.mark_reductions.add();
  t.out.events |= Outcome::kMarks;
  if (s.cc.ecn_beta >= kKeepWindow) return;
  s.cc.ssthresh = share_of_cwnd(s, s.cc.ecn_beta);
  s.ca_state = CaState::kCwr;
  s.cwnd_acked = 0;
  prr_begin(s.loss.prr, s.snd_max - s.snd_una - s.discount);
}

/// Section 6.1.3. Marks and CWR may come in one burst: a latch that no ACK has told of stays.
void take_cwr(Step& t) {
  t.counters.cwr_in.add();
  if ((t.s.ecn & flow::kEcnEchoed) != 0) clear(t.s, flow::kEcnEcho | flow::kEcnEchoed);
}

/// RFC 8257 section 3.2. Bytes stored out of order count when an ACK takes them in.
void mirror(Step& t, bool marked, std::uint64_t bytes) {
  ProtocolSlice& s = t.s;
  const bool before = (s.ecn & flow::kEcnEcho) != 0;
  if (marked) {
    const std::uint64_t most = std::max(s.rcv_limit, s.rcv_nxt) - s.last_ack_sent;
    s.ce_pending = static_cast<std::uint32_t>(std::min(s.ce_pending + bytes, most));
    set(s, flow::kEcnEcho);
  } else {
    clear(s, flow::kEcnEcho);
  }
  if (marked != before) s.ack_now = true;
  if (unacked(s).mixed()) s.ack_now = s.sack_due = true;
}

bool echo_due(ProtocolSlice& s) {
  if (s.cc.exact_marks) {
    const Unacked u = unacked(s);
    s.ce_pending -= static_cast<std::uint32_t>(u.marked);
    if (u.all != 0) return u.marked != 0;
  }
  return (s.ecn & flow::kEcnEcho) != 0;
}

}  // namespace

void take_ecn_flags(Step& t, const RxSummary& seg, std::uint64_t ack) {
  // As Linux: some peers put it on an ACK alone. With data it counts as far as the data does.
  if ((seg.flags & wire::kCwr) != 0 && seg.payload_length == 0) take_cwr(t);
  if ((seg.flags & wire::kEce) != 0) hear_echo(t, ack);
}

void take_ecn_field(Step& t, const RxSummary& seg, std::uint64_t bytes) {
  ProtocolSlice& s = t.s;
  const bool marked = seg.ecn == wire::kCe;
  if (seg.ecn != wire::kNotEct) set(s, flow::kEcnSeen);
  if (marked) t.counters.ce_in.add();
  if ((seg.flags & wire::kCwr) != 0) {
    take_cwr(t);
    s.ack_now = true;  // as Linux: the peer's window may be small now
  }
  if (s.cc.exact_marks) return mirror(t, marked, bytes);
  if (!marked || (s.ecn & flow::kEcnEcho) != 0) return;
  set(s, flow::kEcnEcho);
  s.ack_now = true;
}

void put_ecn(Step& t) {
  ProtocolSlice& s = t.s;
  Outcome& out = t.out;
  const bool fresh = out.payload_length != 0 && out.seq >= s.snd_max;
  if (fresh || s.cc.exact_marks) out.ecn = wire::kEct0;
  if (fresh && (s.ecn & flow::kEcnCwrDue) != 0) {
    out.tcp_flags |= wire::kCwr;
    clear(s, flow::kEcnCwrDue);
  }
  if (!echo_due(s)) return;
  out.tcp_flags |= wire::kEce;
  set(s, flow::kEcnEchoed);
}

void cwr_advance(Step& t, std::uint64_t delivered) {
  ProtocolSlice& s = t.s;
  if (s.snd_una <= s.mark_end) {
    s.cwnd = prr_window(s, delivered, true);
    return;
  }
  s.cwnd = s.cc.ssthresh;
  s.ca_state = CaState::kOpen;
  s.cwnd_acked = 0;
}

}  // namespace toe::datapath
