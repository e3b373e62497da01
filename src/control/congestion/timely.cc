// TIMELY (Mittal et al., SIGCOMM 2015): a rate steered by the round-trip time and its gradient.
// Below a low threshold the rate grows, above a high one it falls in proportion; between them it
// follows the gradient. Thresholds are delays on top of the least round-trip time, so that they
// suit long paths as well. A loss halves the rate.
#include <algorithm>

#include "control/congestion/rate.h"

namespace toe::control {
namespace {

using Sample = Congestion::Sample;
using Params = Congestion::Params;

constexpr double kAlpha = 0.02;            // weight of a new difference
constexpr double kBeta = 0.8;              // multiplicative decrease
constexpr double kLeastRtt = 11e3;         // ns: gradients are taken relative to at least this
constexpr double kLowDelay = 19e3;         // ns: low threshold above the least RTT, at least
constexpr double kHighDelay = 139e3;       // ns: high threshold above the least RTT, at least
constexpr double kLowShare = 0.25;         // of the least RTT, for long paths
constexpr std::uint32_t kHyperRounds = 5;  // good rounds before the step grows
constexpr double kHyperStep = 5;

TimelyState& self(CongestionState& state) { return *std::get_if<TimelyState>(&state); }

void start(CongestionState& state, const CongestionSettings&, const Sample& sample,
           Params& params) {
  TimelyState s;
  start_rate(s.rate, sample, params);
  state = s;
}

// The rate by the gradient; `least` is the least round-trip time.
double by_gradient(TimelyState& s, double least, const Sample& sample) {
  const double gradient = s.rtt_diff / least;
  if (gradient <= 0) {
    const double n = ++s.good_rounds >= kHyperRounds ? kHyperStep : 1;
    return s.rate.rate + n * rate_step(sample);
  }
  s.good_rounds = 0;
  return s.rate.rate * (1 - kBeta * std::min(gradient, 1.0));
}

double next_rate(TimelyState& s, double rtt, double least, const Sample& sample) {
  const double low = least + std::max(kLowDelay, kLowShare * least);
  const double high = least + std::max(kHighDelay, least);
  if (rtt < low) {
    return s.rate.slow_start ? s.rate.rate * 2 : s.rate.rate + rate_step(sample);
  }
  s.rate.slow_start = false;
  if (rtt <= high) return by_gradient(s, least, sample);
  s.good_rounds = 0;
  return s.rate.rate * (1 - kBeta * (1 - high / rtt));
}

void on_round(CongestionState& state, const Sample& sample, Params& params) {
  TimelyState& s = self(state);
  const bool used = rate_was_used(s.rate, sample);
  if (sample.round_samples == 0) return;  // nothing was measured
  const auto rtt = static_cast<double>(sample.round_rtt.ns);
  const double least = std::max(static_cast<double>(sample.min_rtt.ns), kLeastRtt);
  if (s.last_rtt > 0) s.rtt_diff = (1 - kAlpha) * s.rtt_diff + kAlpha * (rtt - s.last_rtt);
  s.last_rtt = rtt;
  const double old = s.rate.rate;
  double rate = std::max(next_rate(s, rtt, least, sample), old / 2);
  if (rate > old && !used) rate = old;
  if (rate < old) s.rate.before = old;
  set_rate(s.rate, rate, sample, params);
}

void on_loss(CongestionState& state, const Sample& sample, Params& params) {
  self(state).good_rounds = 0;
  halve_rate(self(state).rate, sample, params);
}

void on_undo(CongestionState& state, const Sample& sample, Params& params) {
  restore_rate(self(state).rate, sample, params);
}

void keep(CongestionState&, const Sample& sample, Params& params) {
  params.ssthresh = sample.ssthresh;
}

constexpr Congestion kTimely{"timely", true,    false, start,   on_round,
                             keep,     on_loss, keep,  on_loss, on_undo};

}  // namespace

const Congestion& timely() { return kTimely; }

}  // namespace toe::control
