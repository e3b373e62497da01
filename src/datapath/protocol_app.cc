// The application's side: positions, flags, the send ring's switch.
#include <algorithm>

#include "datapath/protocol_detail.h"
#include "shm/segment_format.h"

namespace toe::datapath {
namespace {

/// Positions may only grow, and only within what exists. The application may lie.
bool plausible(const ProtocolSlice& s, const AppUpdate& u) {
  if (u.rx_head < s.rcv_head || u.rx_head > rx_tail(s)) return false;
  if (u.tx_tail < s.snd_end || (s.fin_queued && u.tx_tail != s.snd_end)) return false;
  if (!u.tx_switched) {
    const std::uint64_t first = std::max(std::min(s.snd_una, s.snd_end), s.snd_switch);
    return u.tx_tail - first <= s.snd_ring_bytes;
  }
  return u.tx_switch >= s.snd_end && u.tx_switch <= u.tx_tail &&
         u.tx_tail - u.tx_switch <= u.tx_ring_bytes;
}

/// The application switched to the offered ring.
bool take_switch(Step& t, const AppUpdate& u) {
  ProtocolSlice& s = t.s;
  const std::uint64_t first = std::max(std::min(s.snd_una, s.snd_end), s.snd_switch);
  if (u.tx_switch - first > s.snd_ring_bytes) return false;
  s.snd_switch = u.tx_switch;
  s.snd_ring_bytes = u.tx_ring_bytes;
  s.tx_ring_asked = false;
  s.tx_ring_want = false;
  t.out.tx_switch = u.tx_switch;
  t.out.events |= Outcome::kTxSwitch;
  t.counters.ring_switches_tx.add();
  return true;
}

/// Bounds as Linux has them (TCP_KEEPIDLE and its kin).
void take_options(Step& t, const AppUpdate& u) {
  ProtocolSlice& s = t.s;
  const auto bounded = [](std::uint32_t v, std::uint32_t most) { return std::clamp(v, 1u, most); };
  if (u.keep_idle_s != 0) s.keep_idle = seconds(bounded(u.keep_idle_s, 32767));
  if (u.keep_interval_s != 0) s.keep_interval = seconds(bounded(u.keep_interval_s, 32767));
  if (u.keep_count != 0) s.keep_count = bounded(u.keep_count, 127);
  s.user_timeout = millis(u.user_timeout_ms);
  if (s.keepalive) s.keepalive_at = t.now + s.keep_idle;
}

void take_flags(Step& t, const AppUpdate& u) {
  ProtocolSlice& s = t.s;
  s.nodelay = (u.app_flags & shm::kNoDelay) != 0;
  s.cork = (u.app_flags & shm::kCork) != 0;
  s.tx_ring_want = (u.app_flags & shm::kWantTxRing) != 0;
  if ((u.app_flags & shm::kPush) != 0) s.snd_push = u.tx_tail;
  if ((u.app_flags & shm::kQuickAck) != 0) s.pingpong = false;
  if ((u.app_flags & shm::kShutWrite) != 0) s.fin_queued = true;
  s.shut_both = s.fin_queued && (u.app_flags & shm::kShutRead) != 0;
  if ((u.app_flags & shm::kUrgentSent) != 0) note_urgent_sent(s, u);
  if (u.options_changed) take_options(t, u);
  const bool keepalive = (u.app_flags & shm::kKeepAlive) != 0;
  if (keepalive != s.keepalive) {
    s.keepalive = keepalive;
    s.keepalive_at = keepalive ? t.now + s.keep_idle : Time::never();
  }
}

/// The ring holds the program back: it said so, or it waits for room. One that asks poll() before
/// it writes never sees a full ring: it is not told of less than a third (Connection::writable).
bool holds_back(const ProtocolSlice& s) {
  const std::uint64_t first = std::max(std::min(s.snd_una, s.snd_end), s.snd_switch);
  return s.tx_ring_want || (s.snd_end - first) * 3 > std::uint64_t{s.snd_ring_bytes} * 2;
}

}  // namespace

bool on_app(Step& t, const AppUpdate& update) {
  ProtocolSlice& s = t.s;
  if (s.closed) return true;
  if (!plausible(s, update)) return false;
  if (update.tx_switched && !take_switch(t, update)) return false;
  take_flags(t, update);
  s.snd_end = update.tx_tail;
  if (update.rx_head != s.rcv_head) {
    s.rcv_head = update.rx_head;
    update_rcv_limit(s);
    s.ack_now = s.ack_now || (window_update_due(s) && s.rcv_fin == UINT64_MAX);
  }
  if (!s.tx_ring_asked && s.snd_ring_bytes < 2 * std::uint64_t{s.cwnd} && holds_back(s)) {
    s.tx_ring_asked = true;
    t.out.events |= Outcome::kWantTxRing;
  }
  settle(t);
  return true;
}

}  // namespace toe::datapath
