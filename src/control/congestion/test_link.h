// A shared bottleneck for tests of congestion control: flows with endless data, the protocol
// stage's fixed rule in small, one queue with a tail drop and a marking threshold. Segment by
// segment, deterministic for a seed.
#ifndef TOE_CONTROL_CONGESTION_TEST_LINK_H_
#define TOE_CONTROL_CONGESTION_TEST_LINK_H_

#include <algorithm>
#include <cstdint>
#include <queue>
#include <utility>
#include <vector>

#include "control/congestion/congestion.h"
#include "control/congestion/rate.h"

namespace toe::control {

struct LinkPlan {
  double bits_per_s = 100e6;
  Nanos rtt = millis(20);            ///< without queueing
  std::uint32_t queue = 250'000;     ///< bytes that may wait
  std::uint32_t marked_above = ~0u;  ///< bytes waiting above which segments are marked
  std::uint32_t mss = 1448;
  CongestionSettings settings{};
};

class TestLink {
 public:
  struct Flow {
    const Congestion* algorithm;
    CongestionState state;
    Congestion::Params cc;
    std::uint32_t cwnd = 0, cwnd_acked = 0, in_flight = 0;
    std::uint64_t sent = 0, passed = 0, acked = 0, ce_acked = 0, lost = 0;
    std::uint64_t round_end = 0, recover = 0;
    Nanos srtt{0}, min_rtt{INT64_MAX}, round_rtt{0};
    std::uint32_t samples = 0;
    bool limited = false, asleep = false;
    Time next_send{};
  };

  explicit TestLink(const LinkPlan& plan) : plan_(plan) {}

  /// A flow that begins at `at`, its handshake just done.
  void add(const Congestion& algorithm, Time at) {
    Flow f{};
    f.algorithm = &algorithm;
    f.cwnd = 10 * plan_.mss;
    f.srtt = f.min_rtt = plan_.rtt;
    start_congestion(algorithm, plan_.settings, sample(f), f.state, f.cc);
    flows_.push_back(std::move(f));
    events_.push({at, flows_.size() - 1, Kind::kWake, at, false});
  }

  void run(Time until) {
    while (!events_.empty() && events_.top().at <= until) {
      const Happening e = events_.top();
      events_.pop();
      now_ = e.at;
      Flow& f = flows_[e.flow];
      if (e.kind == Kind::kAck) on_ack(f, e);
      if (e.kind == Kind::kLost) on_lost(f);
      if (e.kind == Kind::kWake) f.asleep = false;
      send(f, e.flow);
    }
    now_ = until;
  }

  Flow& flow(std::size_t i) { return flows_[i]; }
  std::vector<double> acked() const {
    std::vector<double> v;
    for (const Flow& f : flows_) v.push_back(static_cast<double>(f.acked));
    return v;
  }
  /// Most bytes that ever waited since the last call.
  double take_longest_queue() { return std::exchange(longest_, 0); }

 private:
  enum class Kind { kAck, kLost, kWake };
  struct Happening {
    Time at;
    std::size_t flow;
    Kind kind;
    Time sent;
    bool marked;
    bool operator<(const Happening& o) const { return at > o.at; }
  };

  Congestion::Sample sample(const Flow& f) const {
    Congestion::Sample s;
    s.now = now_;
    s.cwnd = f.cwnd;
    s.ssthresh = f.cc.ssthresh;
    s.mss = plan_.mss;
    s.in_flight = f.in_flight;
    s.srtt = f.srtt;
    s.min_rtt = f.min_rtt;
    s.acked = f.acked;
    s.ce_acked = f.ce_acked;
    s.round_rtt = f.round_rtt;
    s.round_samples = f.samples;
    s.cwnd_limited = f.limited;
    return s;
  }

  void tell(Flow& f, Congestion::Step step) {
    const Congestion::Sample s = sample(f);
    step(f.state, s, f.cc);
    if (!f.algorithm->has_rate) set_pace(plan_.settings, s, f.cc);
  }

  void measure(Flow& f, Nanos rtt) {
    f.min_rtt = std::min(f.min_rtt, rtt);
    f.srtt = (f.srtt * 7 + rtt) / 8;
    f.round_rtt = f.samples == 0 ? rtt : std::min(f.round_rtt, rtt);
    if (++f.samples == flow::kRoundRttSamples && f.cc.watch_rtt && f.cwnd < f.cc.ssthresh) {
      tell(f, f.algorithm->on_rtt);
    }
  }

  void grow(Flow& f) {
    const std::uint32_t mss = plan_.mss;
    if (!f.limited || f.passed < f.recover) return;
    if (f.cwnd < f.cc.ssthresh) {
      f.cwnd = std::min(f.cwnd + mss / f.cc.slow_start_divisor, f.cc.ssthresh);
    } else {
      f.cwnd_acked += mss;
      const std::uint32_t step = std::max(f.cc.cwnd_cnt == 0 ? f.cwnd : f.cc.cwnd_cnt, mss);
      if (f.cwnd_acked >= step) {
        f.cwnd_acked -= step;
        f.cwnd += mss;
      }
    }
    f.cwnd = std::min(f.cwnd, f.cc.cwnd_cap);
  }

  void reduce(Flow& f, std::uint32_t beta, Congestion::Step step) {
    f.cc.ssthresh =
        std::max(static_cast<std::uint32_t>(std::uint64_t{f.cwnd} * beta / 1024), 2 * plan_.mss);
    f.cwnd = f.cc.ssthresh;
    f.cwnd_acked = 0;
    f.recover = f.sent;
    tell(f, step);
  }

  void end_round(Flow& f) {
    if (f.passed < f.round_end) return;
    if (f.limited || f.cc.every_round) tell(f, f.algorithm->on_round);
    f.samples = 0;
    f.round_end = f.sent;
    f.limited = false;
  }

  void on_ack(Flow& f, const Happening& e) {
    f.in_flight -= plan_.mss;
    f.acked += plan_.mss;
    f.passed += plan_.mss;
    if (e.marked) f.ce_acked += plan_.mss;
    measure(f, now_ - e.sent);
    if (e.marked && f.passed > f.recover) reduce(f, f.cc.ecn_beta, f.algorithm->on_marks);
    grow(f);
    end_round(f);
  }

  void on_lost(Flow& f) {
    f.in_flight -= plan_.mss;
    f.passed += plan_.mss;
    f.lost += plan_.mss;
    if (f.passed > f.recover) reduce(f, f.cc.loss_beta, f.algorithm->on_loss);
    end_round(f);
  }

  void send(Flow& f, std::size_t number) {
    while (f.in_flight + plan_.mss <= f.cwnd) {
      if (f.cc.pacing_bytes_per_s != 0 && f.next_send > now_) {
        if (!f.asleep) events_.push({f.next_send, number, Kind::kWake, now_, false});
        f.asleep = true;
        return;
      }
      if (f.cc.pacing_bytes_per_s != 0) {
        const double gap = 1e9 * plan_.mss / static_cast<double>(f.cc.pacing_bytes_per_s);
        f.next_send = std::max(f.next_send, now_) + Nanos{static_cast<std::int64_t>(gap)};
      }
      transmit(f, number);
    }
    f.limited = true;
  }

  void transmit(Flow& f, std::size_t number) {
    f.in_flight += plan_.mss;
    f.sent += plan_.mss;
    const double wait = std::max(0.0, seconds_of(free_ - now_));
    const double waiting = wait * plan_.bits_per_s / 8;
    longest_ = std::max(longest_, waiting);
    // Jitter of a segment's time on the wire, so that arrivals do not keep in step for ever.
    noise_ = noise_ * 6364136223846793005u + 1442695040888963407u;
    const double wire = plan_.mss * 8 / plan_.bits_per_s;
    const double jitter = wire * static_cast<double>(noise_ >> 40) / (1u << 24);
    const auto after = [&](double s) {
      return now_ + plan_.rtt + Nanos{static_cast<std::int64_t>((s + jitter) * 1e9)};
    };
    if (waiting + plan_.mss > plan_.queue) {
      events_.push({after(wait), number, Kind::kLost, now_, false});
      return;
    }
    free_ = std::max(free_, now_) + Nanos{static_cast<std::int64_t>(wire * 1e9)};
    events_.push({after(wait + wire), number, Kind::kAck, now_, waiting > plan_.marked_above});
  }

  LinkPlan plan_;
  Time now_{};
  Time free_{};  ///< when the link has sent what waits
  double longest_ = 0;
  std::uint64_t noise_ = 1;
  std::vector<Flow> flows_;
  std::priority_queue<Happening> events_;
};

/// Jain's fairness index: 1 = equal shares.
inline double jain(const std::vector<double>& shares) {
  double sum = 0, squares = 0;
  for (const double x : shares) {
    sum += x;
    squares += x * x;
  }
  return squares == 0 ? 0 : sum * sum / (static_cast<double>(shares.size()) * squares);
}

}  // namespace toe::control

#endif  // TOE_CONTROL_CONGESTION_TEST_LINK_H_
