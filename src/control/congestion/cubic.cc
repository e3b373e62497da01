// CUBIC (RFC 9438), evaluated once per round trip: the curve one round ahead gives the growth that
// the coming round may bring, which becomes "bytes acknowledged per segment of growth".
#include <algorithm>
#include <cmath>

#include "control/congestion/congestion.h"

namespace toe::control {
namespace {

using Sample = Congestion::Sample;
using Params = Congestion::Params;

constexpr double kC = 0.4;                                // RFC 9438 section 5
constexpr double kBeta = 0.7;                             // section 4.6
constexpr double kAlpha = 3 * (1 - kBeta) / (1 + kBeta);  // section 4.3
constexpr std::uint32_t kLossBeta = 717;                  // 0.7 * 1024
constexpr std::uint32_t kUnlimited = 0xffffffffu;
constexpr double kSlowest = 100;  // at least one segment of growth per 100 windows

double seconds_of(Nanos t) { return static_cast<double>(t.ns) * 1e-9; }

std::uint32_t to_bytes(double segments, std::uint32_t mss) {
  const double bytes = segments * mss;
  return bytes >= 4e9 ? kUnlimited : static_cast<std::uint32_t>(bytes);
}

// The window in segments before the reduction that the sample shows.
double window_before(const Sample& sample) {
  if (sample.mss == 0 || sample.ssthresh == kUnlimited) return 0;
  return static_cast<double>(sample.ssthresh) / sample.mss / kBeta;
}

void begin_epoch(CongestionState& state, double cwnd, Time now) {
  state.in_epoch = true;
  state.epoch = now;
  state.w_est = cwnd;
  if (cwnd >= state.w_max) {
    state.w_max = cwnd;
    state.k = 0;
  } else {
    state.k = std::cbrt((state.w_max - cwnd) / kC);
  }
}

// Section 5.8: time in which the application, not cwnd, was the limit does not count. Rounds
// are reported only while cwnd limits, so a gap of more than two round trips is such time.
void skip_idle(CongestionState& state, const Sample& sample) {
  const Nanos gap = sample.now - state.last_round;
  if (gap > sample.srtt * 2) state.epoch = state.epoch + (gap - sample.srtt);
}

void end_epoch(CongestionState& state, double before, const Sample& sample, Params& params) {
  state.in_epoch = false;
  state.cwnd_prior = before;
  params.ssthresh = sample.ssthresh;
  params.cwnd_cnt = 0;  // as Reno until the first round of the new stage
  params.cwnd_cap = kUnlimited;
}

void start(CongestionState& state, Params& params) {
  state = {};
  params = {};
  params.loss_beta = kLossBeta;
}

void on_round(CongestionState& state, const Sample& sample, Params& params) {
  params.ssthresh = sample.ssthresh;
  if (sample.mss == 0 || sample.cwnd < sample.ssthresh) {
    params.cwnd_cap = kUnlimited;
    return;
  }
  const double cwnd = std::max(1.0, static_cast<double>(sample.cwnd) / sample.mss);
  if (!state.in_epoch) {
    begin_epoch(state, cwnd, sample.now);
  } else {
    skip_idle(state, sample);
  }
  state.last_round = sample.now;

  const double t = seconds_of((sample.now - state.epoch) + sample.srtt);
  const double d = t - state.k;
  double target = kC * d * d * d + state.w_max;  // section 4.2, Figure 1
  // Reno-friendly region (section 4.3): what Reno would have one round from now.
  const double alpha = state.w_est >= state.cwnd_prior ? 1.0 : kAlpha;
  state.w_est += alpha;
  target = std::max(target, state.w_est);
  target = std::clamp(target, cwnd, 1.5 * cwnd);  // section 4.2

  const double growth = std::max(target - cwnd, 1 / kSlowest);
  params.cwnd_cnt = std::max(sample.mss, to_bytes(cwnd / growth, sample.mss));
  params.cwnd_cap = to_bytes(std::ceil(std::max(target, cwnd + 1)), sample.mss);
}

void on_loss(CongestionState& state, const Sample& sample, Params& params) {
  const double before = window_before(sample);
  // Fast convergence (section 4.7).
  state.w_max = before < state.w_max ? before * (1 + kBeta) / 2 : before;
  end_epoch(state, before, sample, params);
}

void on_timeout(CongestionState& state, const Sample& sample, Params& params) {
  // Section 4.8: the next stage begins with K = 0 and W_max = its first cwnd.
  state.w_max = 0;
  end_epoch(state, window_before(sample), sample, params);
}

constexpr Congestion kCubic{"cubic", start, on_round, on_loss, on_timeout};

}  // namespace

const Congestion& cubic() { return kCubic; }

}  // namespace toe::control
