// Urgent data (RFC 9293 section 3.8.5, RFC 6093) as Linux does it: one byte that the pointer stands
// behind, the newest of them only.
#include <algorithm>

#include "datapath/protocol_detail.h"
#include "wire/segment.h"

namespace toe::datapath {
namespace {

constexpr std::uint64_t kFarthest = 0xffff;  ///< that the header's pointer can say

/// Where the application's reading goes on. It may lie.
std::uint64_t reader_at(const ProtocolSlice& s, const RxSummary& seg) {
  const bool true_word = seg.app_head >= s.rcv_head && seg.app_head <= rx_tail(s);
  const std::uint64_t head = true_word ? seg.app_head : s.rcv_head;
  const flow::Range& skip = s.urgent.skip;
  return head >= skip.begin && head < skip.end ? skip.end : head;
}

/// A newer urgent byte comes. As Linux: a reader that stands before the old one, which is there,
/// passes it over; one that has not got so far will find it in the stream.
void replace(ProtocolSlice& s, const RxSummary& seg) {
  if (!s.urgent_seen || seg.urgent_inline) return;
  const std::uint64_t head = reader_at(s, seg);
  if (head + 1 != s.urgent.rcv_up || head >= rx_tail(s)) return;
  flow::Range& skip = s.urgent.skip;
  skip = {skip.end == head && skip.begin < skip.end ? skip.begin : head, head + 1};
}

void tell(Step& t) {
  const ProtocolSlice& s = t.s;
  publish(t);
  t.out.hint_rx = true;
  t.out.urgent_news = true;
  t.out.urgent_here = !s.urgent_wait;
  t.out.rx_urgent = s.urgent.rcv_up;
  t.out.rx_skip = s.urgent.skip;
}

}  // namespace

void take_urgent_pointer(Step& t, const RxSummary& seg, std::int64_t seq) {
  ProtocolSlice& s = t.s;
  // RFC 6093 section 3.1 as Linux has it: the pointer is one past the byte, and 0 is as good as 1.
  const std::int64_t up = seq + std::max<std::int64_t>(seg.urgent, 1);
  if (up <= static_cast<std::int64_t>(s.rcv_nxt)) return;  // said before
  if (s.urgent_seen && up <= static_cast<std::int64_t>(s.urgent.rcv_up)) return;
  replace(s, seg);
  s.urgent.rcv_up = static_cast<std::uint64_t>(up);
  s.urgent_seen = s.urgent_wait = true;
  t.counters.urgent_in.add();
  tell(t);
}

void take_urgent_byte(Step& t) {
  ProtocolSlice& s = t.s;
  const std::uint64_t at = s.urgent.rcv_up - 1;
  const bool in_order = rx_tail(s) > at;
  const bool copied = at >= t.out.copy_pos && at - t.out.copy_pos < t.out.copy_length;
  if (s.closed || (!in_order && !copied)) return;
  s.urgent_wait = false;
  tell(t);
}

bool urgent_unacknowledged(const ProtocolSlice& s) { return s.urgent.snd_up > s.snd_una; }

void note_urgent_sent(ProtocolSlice& s, const AppUpdate& u) {
  // Beyond tx_tail: it is being written; a look will follow.
  if (u.tx_urgent <= s.urgent.snd_up || u.tx_urgent > u.tx_tail) return;
  s.urgent.snd_up = u.tx_urgent;
  s.urgent_sent = true;
}

void mark_urgent(Step& t) {
  const ProtocolSlice& s = t.s;
  const std::uint64_t up = s.urgent.snd_up;
  const auto pos = static_cast<std::int64_t>(t.out.seq);  // a probe may stand before position 0
  if (!urgent_unacknowledged(s) || pos >= static_cast<std::int64_t>(up)) return;
  const std::uint64_t distance = up - t.out.seq;
  // As Linux: too far to be said is said only while it lies behind all that was sent.
  if (distance > kFarthest && t.out.seq + kFarthest <= s.snd_max) return;
  t.out.urgent = static_cast<std::uint16_t>(std::min(distance, kFarthest));
  t.out.tcp_flags |= wire::kUrg;
}

void announce_in_probe(ProtocolSlice& s) {
  s.urgent_due =
      s.urgent_sent && urgent_unacknowledged(s) && s.urgent.snd_up - s.snd_una <= kFarthest;
}

}  // namespace toe::datapath
