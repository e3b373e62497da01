#include "datapath/protocol_check.h"

#include <algorithm>

namespace toe::datapath {
namespace {

struct Rule {
  bool holds;
  const char* text;
};

template <std::size_t kCount>
const char* first_broken(const Rule (&rules)[kCount]) {
  for (const Rule& rule : rules) {
    if (!rule.holds) return rule.text;
  }
  return nullptr;
}

}  // namespace

const char* broken_invariant(const flow::ProtocolSlice& s) {
  const std::uint64_t sent = s.snd_max - s.snd_una;
  const Time deadline =
      std::min(std::min(s.rto_at, s.probe_at), std::min(s.persist_at, s.keepalive_at));
  const std::uint64_t fin = s.fin_queued ? 1 : 0;
  const std::uint64_t tail = std::min(s.rcv_nxt, s.rcv_fin);
  const Rule rules[] = {
      {s.snd_una <= s.snd_nxt, "snd_una <= snd_nxt"},
      {s.snd_nxt <= s.snd_max, "snd_nxt <= snd_max"},
      {s.snd_max <= s.snd_end + fin, "snd_max <= snd_end"},
      {s.discount <= sent, "bytes not in flight are outstanding"},
      {s.mss > 0, "mss is not zero"},
      {s.cwnd > 0, "cwnd is not zero"},
      {s.rcv_head <= tail, "the application has not consumed what did not come"},
      {tail <= s.rcv_limit, "what was received lies in the rings"},
      {s.rcv_adv <= std::max(s.rcv_limit, s.rcv_nxt), "no promise beyond the rings"},
      {s.last_ack_sent <= s.rcv_nxt, "last_ack_sent <= rcv_nxt"},
      {s.board == 0 || sent > 0, "a scoreboard only while bytes are outstanding"},
      {sent == 0 || s.rto_at != Time::never(), "outstanding bytes have a timeout"},
      {s.probe_at == Time::never() || s.probe_at <= s.rto_at,
       "the probe is not behind the timeout"},
      {s.armed_until <= deadline, "control looks in time"},
      {s.fin_acked ? s.snd_una == s.snd_end + 1 : s.snd_una <= s.snd_end,
       "FIN is acknowledged last"},
  };
  return first_broken(rules);
}

const char* broken_invariant(const flow::ProtocolSlice& s, RecoveryPools& pools) {
  const char* broken = broken_invariant(s);
  if (broken != nullptr || !pools.ranges.holds(s.ranges, &s)) return broken;
  const ReceiveRanges& r = pools.ranges.at(s.ranges);
  std::uint64_t last = s.rcv_nxt;
  for (std::uint32_t i = 0; i < r.ranges.count(); ++i) {
    const flow::Range& range = r.ranges.at(i);
    if (range.begin <= last) return "ranges are beyond rcv_nxt, sorted and not adjacent";
    if (range.end <= range.begin) return "ranges are not empty";
    last = range.end;
  }
  if (r.ranges.empty()) return "a record of ranges only while there are some";
  return last <= s.rcv_limit ? nullptr : "ranges lie in the rings";
}

const char* broken_progress(const flow::ProtocolSlice& before, const flow::ProtocolSlice& s) {
  const Rule rules[] = {
      {before.snd_una <= s.snd_una, "snd_una does not move back"},
      {before.snd_max <= s.snd_max, "snd_max does not move back"},
      {before.snd_end <= s.snd_end, "snd_end does not move back"},
      {before.rcv_nxt <= s.rcv_nxt, "rcv_nxt does not move back"},
      {before.rcv_adv <= s.rcv_adv, "the right edge of the window does not move back"},
      {before.rcv_limit <= s.rcv_limit, "the rings do not shrink"},
      {before.rcv_head <= s.rcv_head, "rcv_head does not move back"},
      {before.rcv_fin == UINT64_MAX || before.rcv_fin == s.rcv_fin, "the peer's FIN does not move"},
      {!before.fin_queued || (s.fin_queued && before.snd_end == s.snd_end),
       "nothing is written behind the FIN"},
  };
  return first_broken(rules);
}

}  // namespace toe::datapath
