// Stage scripts: one flow, a virtual clock and the protocol stage, for tests of this folder.
//
// A test names the fields of a segment that differ from what the peer would send next. What leaves
// is written as "FLAGS seq+length aACK", flags in the order F R P U A E(CE) C(WR), SACK blocks
// behind as "begin-end", an urgent pointer as "uN", " ect" if it is ECN-capable; take_sent()
// forgets it.
#ifndef TOE_DATAPATH_TEST_STAGE_H_
#define TOE_DATAPATH_TEST_STAGE_H_

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "datapath/protocol.h"
#include "datapath/protocol_check.h"
#include "shm/segment_format.h"
#include "wire/segment.h"

namespace toe::datapath {

/// A received segment; what is not named is what fits: next in order, acknowledges what was
/// acknowledged before, window unchanged.
struct In {
  std::optional<std::int64_t> seq = {};
  std::optional<std::int64_t> ack = {};
  std::optional<std::uint32_t> window = {};
  std::uint16_t length = 0;
  std::uint8_t flags = wire::kAck;
  std::optional<std::uint32_t> tsval = {};
  std::uint32_t tsecr = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> sack = {};
  std::uint16_t urgent = 0;  ///< the pointer; sets URG
  std::uint8_t ecn = wire::kNotEct;
};

inline constexpr std::uint16_t kTestMss = 1000;
inline constexpr std::uint16_t kPayloadOffset = 54;

class Script {
 public:
  ProtocolOptions options;
  Counters counters;
  RecoveryPools pools{4};
  ProtocolSlice s;
  Time now{seconds(1000).ns};
  Outcome last;              ///< outcome of the last received segment, update or timer
  std::uint16_t events = 0;  ///< all event bits raised
  std::optional<flow::Event::Close> closed = {};
  std::uint32_t error = 0;
  std::uint16_t sent_window = 0;  ///< window field of the last segment that left

  Script() {
    s.mss = kTestMss;
    s.cwnd = 10 * kTestMss;
    s.snd_wnd = s.max_snd_wnd = 60000;
    s.snd_ring_bytes = s.rcv_ring_bytes = 16384;
    s.rcv_limit = s.rcv_adv = 16384;
    s.rcv_mss = kTestMss;
    s.srtt = millis(10);
    s.rttvar = millis(1);
    s.rto = millis(210);
    Outcome out;
    Step step{options, counters, pools, s, now, out};
    on_start(step);
    finish(out);
  }

  // --- happenings ---
  void recv(const In& in) {
    RxSummary seg;
    seg.seq = static_cast<std::uint32_t>(in.seq.value_or(static_cast<std::int64_t>(s.rcv_nxt)));
    seg.ack = static_cast<std::uint32_t>(in.ack.value_or(static_cast<std::int64_t>(s.snd_una)));
    seg.window = static_cast<std::uint16_t>(in.window.value_or(s.snd_wnd) >> s.snd_wscale);
    seg.payload_offset = kPayloadOffset;
    seg.payload_length = in.length;
    seg.flags = in.flags;
    seg.ecn = in.ecn;
    seg.has_timestamp = s.ts_on;
    seg.tsval = in.tsval.value_or(s.ts_recent);
    seg.tsecr = in.tsecr;
    seg.urgent = in.urgent;
    if (in.urgent != 0) seg.flags |= wire::kUrg;
    seg.app_head = s.rcv_head;
    seg.urgent_inline = (app_flags_ & shm::kUrgentInline) != 0;
    for (const auto& [begin, end] : in.sack) {
      seg.sack[seg.sack_count++] = {static_cast<std::uint32_t>(begin),
                                    static_cast<std::uint32_t>(end)};
    }
    step([&](Step& t) { on_segment(t, seg); });
  }
  /// The application's positions and flags, otherwise as they were.
  bool app(const AppUpdate& update) {
    bool good = false;
    step([&](Step& t) { good = on_app(t, update); });
    return good;
  }
  AppUpdate same() const {
    AppUpdate u;
    u.tx_tail = s.snd_end;
    u.rx_head = s.rcv_head;
    u.app_flags = app_flags_;
    return u;
  }
  bool write(std::uint64_t bytes, std::uint32_t flags = 0) {
    AppUpdate u = same();
    u.tx_tail += bytes;
    u.app_flags |= flags;
    return app(u);
  }
  bool read(std::uint64_t bytes) {
    AppUpdate u = same();
    u.rx_head += bytes;
    return app(u);
  }
  bool shut_write() { return set_flags(app_flags_ | shm::kShutWrite); }
  bool set_flags(std::uint32_t flags) {
    app_flags_ = flags;
    return app(same());
  }
  void orphan(bool reset) {
    step([&](Step& t) { on_orphan(t, reset); });
  }
  void abort(std::uint32_t why, bool reset) {
    step([&](Step& t) { on_abort(t, why, reset); });
  }
  void set_mss(std::uint16_t mss) {
    step([&](Step& t) { on_mss(t, mss); });
  }
  void offer_rx_ring(std::uint32_t bytes) {
    step([&](Step& t) { switch_rx_ring(t, bytes); });
  }
  /// Serves timers and delayed ACKs in order until `until`, as control and the worker do.
  void run_to(Time until) {
    for (;;) {
      const Time next = std::min(armed, ack_due);
      if (next > until) break;
      now = std::max(now, next);
      if (ack_due <= now) {
        ack_due = Time::never();
        step([](Step& t) { on_delayed_ack(t); });
      } else {
        armed = Time::never();
        step([](Step& t) { on_timer(t); });
      }
      if (++fired_ > 1000) break;
    }
    now = std::max(now, until);
  }
  void pass(Nanos time) { run_to(now + time); }

  // --- results ---
  std::vector<std::string> take_sent() { return std::exchange(sent_, {}); }
  std::uint64_t window_bytes() const { return std::uint64_t{sent_window} << s.rcv_wscale; }
  Time armed = Time::never();    ///< when control looks at the flow
  Time ack_due = Time::never();  ///< the flow's entry in the delayed-ACK queue
  bool hold_back = false;        ///< nothing leaves: the TX walk does not come

  /// The TX walk: serves the flow as long as it asks for it.
  void transmit() {
    for (int i = 0; scheduled_ && i < 1000; ++i) {
      scheduled_ = false;
      Outcome out;
      Step t{options, counters, pools, s, now, out};
      next_segment(t);
      if (out.transmit) note(out);
      finish(out);
      check();
    }
  }

 private:
  void check() {
    const char* broken = s.closed ? nullptr : broken_invariant(s, pools);
    EXPECT_STREQ(broken, nullptr);
  }
  static std::string blocks(const SackReport& sack) {
    std::string text;
    for (std::uint8_t i = 0; i < sack.count; ++i) {
      text += ' ' + std::to_string(sack.block[i].start) + '-' + std::to_string(sack.block[i].end);
    }
    return text;
  }
  template <typename Call>
  void step(Call call) {
    last = Outcome{};
    Step t{options, counters, pools, s, now, last};
    call(t);
    finish(last);
    check();
    if (!hold_back) transmit();
  }
  void finish(const Outcome& out) {
    events |= out.events;
    if ((out.events & Outcome::kClosed) != 0) {
      closed = out.close;
      error = out.error;
    }
    if ((out.events & Outcome::kArm) != 0) armed = std::min(armed, out.arm_at);
    if (out.delay_ack && ack_due == Time::never()) ack_due = s.ack_at;
    scheduled_ = scheduled_ || out.schedule;
  }
  void note(const Outcome& out) {
    std::string text;
    if ((out.tcp_flags & wire::kFin) != 0) text += 'F';
    if ((out.tcp_flags & wire::kRst) != 0) text += 'R';
    if ((out.tcp_flags & wire::kPsh) != 0) text += 'P';
    if ((out.tcp_flags & wire::kUrg) != 0) text += 'U';
    if ((out.tcp_flags & wire::kAck) != 0) text += 'A';
    if ((out.tcp_flags & wire::kEce) != 0) text += 'E';
    if ((out.tcp_flags & wire::kCwr) != 0) text += 'C';
    sent_.push_back(text + ' ' + std::to_string(static_cast<std::int64_t>(out.seq)) + '+' +
                    std::to_string(out.payload_length) + " a" + std::to_string(out.ack) +
                    blocks(out.sack) + (out.urgent != 0 ? " u" + std::to_string(out.urgent) : "") +
                    (out.ecn == wire::kEct0 ? " ect" : ""));
    sent_window = out.window;
  }

  std::uint32_t app_flags_ = 0;
  bool scheduled_ = false;
  int fired_ = 0;
  std::vector<std::string> sent_;
};

/// A flow with SACK and timestamps, a round trip of 10 ms and ten segments of window.
struct LossScript : Script {
  LossScript() {
    s.sack_on = true;
    s.min_rtt = millis(10);
    s.min_rtt_at = now;
    s.snd_ring_bytes = 1 << 20;
  }
  std::uint32_t stamp() const {
    return static_cast<std::uint32_t>(now.ns / 1'000'000) + s.ts_offset;
  }
  /// Ten segments leave; a round trip passes.
  void flight() {
    write(10'000);
    take_sent();
    pass(millis(10));
  }
};

using Sent = std::vector<std::string>;

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_TEST_STAGE_H_
