#include "control/congestion/rate.h"

#include <algorithm>

namespace toe::control {
namespace {

constexpr double kUsed = 1.2;         // a rate up to so much above what was sent counts as used
constexpr double kLeastSegments = 4;  // of the guard window

}  // namespace

std::uint64_t to_rate(double bytes_per_s) {
  return static_cast<std::uint64_t>(std::clamp(bytes_per_s, kLeastRate, kMostRate));
}

void set_rate(RateState& r, double rate, const Congestion::Sample& sample,
              Congestion::Params& params) {
  // Less than a segment per round trip is what timeouts are for.
  const double srtt = std::max(seconds_of(sample.srtt), 1e-6);
  r.rate = std::clamp(std::max(rate, sample.mss / srtt), kLeastRate, kMostRate);
  params.pacing_bytes_per_s = to_rate(r.rate);
  params.ssthresh = sample.ssthresh;
  params.cwnd_cnt = sample.mss;  // the window opens as fast as in slow start
  const double guard = std::max(2 * r.rate * srtt, kLeastSegments * sample.mss);
  params.cwnd_cap = guard >= 4e9 ? kUnlimitedWindow : static_cast<std::uint32_t>(guard);
}

void start_rate(RateState& r, const Congestion::Sample& sample, Congestion::Params& params) {
  r = {};
  r.last = sample.now;
  r.acked = sample.acked;
  params = {};
  params.loss_beta = params.ecn_beta = kKeepWindow;
  params.every_round = true;
  const double window = sample.srtt.ns > 0 ? sample.cwnd / seconds_of(sample.srtt) : 0;
  set_rate(r, std::max(kFirstRate, window), sample, params);
  r.before = r.rate;
}

void halve_rate(RateState& r, const Congestion::Sample& sample, Congestion::Params& params) {
  r.slow_start = false;
  r.before = r.rate;
  set_rate(r, r.rate / 2, sample, params);
}

void restore_rate(RateState& r, const Congestion::Sample& sample, Congestion::Params& params) {
  set_rate(r, std::max(r.rate, r.before), sample, params);
}

bool rate_was_used(RateState& r, const Congestion::Sample& sample) {
  const double interval = seconds_of(sample.now - r.last);
  const auto sent = static_cast<double>(sample.acked - r.acked);
  r.last = sample.now;
  r.acked = sample.acked;
  return sent * kUsed >= r.rate * interval;
}

double rate_step(const Congestion::Sample& sample) {
  if (sample.srtt.ns <= 0) return kRateStep;
  return std::min(kRateStep, sample.mss / seconds_of(sample.srtt));
}

}  // namespace toe::control
