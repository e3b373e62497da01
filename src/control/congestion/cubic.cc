// CUBIC (RFC 9438) with HyStart++ (RFC 9406), evaluated once per round trip: the curve one round
// ahead gives the growth that the coming round may bring, which becomes "bytes acknowledged per
// segment of growth".
#include <algorithm>
#include <cmath>

#include "control/congestion/rate.h"

namespace toe::control {
namespace {

using Sample = Congestion::Sample;
using Params = Congestion::Params;

constexpr double kC = 0.4;                                // RFC 9438 section 5
constexpr double kBeta = 0.7;                             // section 4.6
constexpr double kAlpha = 3 * (1 - kBeta) / (1 + kBeta);  // section 4.3
constexpr std::uint16_t kReduction = 717;                 // 0.7 * 1024
constexpr double kSlowest = 100;  // at least one segment of growth per 100 windows
// While no loss has told what the path bears: at least so much of the window per round trip (as
// Linux; a slow start that ended too early would else be followed by seconds of linear growth).
constexpr double kUnknownGrowth = 0.05;

CubicState& self(CongestionState& state) { return *std::get_if<CubicState>(&state); }

std::uint32_t to_bytes(double segments, std::uint32_t mss) {
  const double bytes = segments * mss;
  return bytes >= 4e9 ? kUnlimitedWindow : static_cast<std::uint32_t>(bytes);
}

// The window in segments before the reduction that the sample shows.
double window_before(const Sample& sample) {
  if (sample.mss == 0 || sample.ssthresh == kUnlimitedWindow) return 0;
  return static_cast<double>(sample.ssthresh) / sample.mss / kBeta;
}

void begin_epoch(CubicStage& stage, double cwnd, Time now) {
  stage.in_epoch = true;
  stage.epoch = now;
  stage.w_est = cwnd;
  if (cwnd >= stage.w_max) {
    stage.w_max = cwnd;
    stage.k = 0;
  } else {
    stage.k = std::cbrt((stage.w_max - cwnd) / kC);
  }
}

// Section 5.8: time in which the application, not cwnd, was the limit does not count. Rounds
// count only while cwnd limits, so a gap of more than two round trips is such time.
void skip_idle(CubicState& s, const Sample& sample) {
  const Nanos gap = sample.now - s.last_round;
  if (gap > sample.srtt * 2) s.now.epoch = s.now.epoch + (gap - sample.srtt);
}

// Section 4.3: the window that Reno would have, grown by what was acknowledged since the last look;
// not by more than one round trip's worth, which the application may have spread over a long time.
double alpha_of(const CubicStage& stage) { return stage.w_est >= stage.cwnd_prior ? 1.0 : kAlpha; }

void grow_estimate(CubicState& s, double cwnd, const Sample& sample) {
  const double acked = static_cast<double>(sample.acked - s.acked) / sample.mss;
  s.now.w_est += alpha_of(s.now) * std::min(acked / cwnd, 1.0);
}

void end_epoch(CubicState& s, double before, const Sample& sample, Params& params) {
  s.now.in_epoch = false;
  s.now.cwnd_prior = before;
  s.hystart_undo = s.hystart;
  params.ssthresh = sample.ssthresh;
  params.cwnd_cnt = 0;  // as Reno until the first round of the new stage
  params.cwnd_cap = kUnlimitedWindow;
}

void leave_slow_start(CubicState& s, Params& params) {
  s.hystart.phase = HyStart::Phase::kOver;
  params.watch_rtt = false;
  params.slow_start_divisor = 1;
}

void start(CongestionState& state, const CongestionSettings&, const Sample& sample,
           Params& params) {
  CubicState s;
  s.acked = sample.acked;
  params = {};
  params.ssthresh = sample.ssthresh;
  params.loss_beta = params.ecn_beta = kReduction;
  params.watch_rtt = sample.ssthresh == kUnlimitedWindow;
  if (!params.watch_rtt) s.hystart.phase = HyStart::Phase::kOver;
  state = s;
}

void apply_phase(const HyStart& h, Params& params) {
  params.slow_start_divisor =
      h.phase == HyStart::Phase::kConservative ? HyStart::kGrowthDivisor : 1;
}

void on_rtt(CongestionState& state, const Sample& sample, Params& params) {
  HyStart& h = self(state).hystart;
  if (h.phase == HyStart::Phase::kOver) return;
  hystart_on_rtt(h, sample.round_rtt);
  apply_phase(h, params);
}

void slow_start_round(CubicState& s, const Sample& sample, Params& params) {
  params.cwnd_cap = kUnlimitedWindow;
  if (s.hystart.phase == HyStart::Phase::kOver) return;
  const Nanos least = sample.round_samples == 0 ? HyStart::kNone : sample.round_rtt;
  if (hystart_on_round(s.hystart, least)) {
    params.ssthresh = sample.cwnd;
    leave_slow_start(s, params);
  }
}

// The window that is to be reached one round trip from now.
double target_of(const CubicState& s, double cwnd, const Sample& sample) {
  const CubicStage& stage = s.now;
  const double t = seconds_of((sample.now - stage.epoch) + sample.srtt);
  const double d = t - stage.k;
  const double curve = kC * d * d * d + stage.w_max;      // section 4.2, Figure 1
  const double friendly = stage.w_est + alpha_of(stage);  // section 4.3
  return std::clamp(std::max(curve, friendly), cwnd, 1.5 * cwnd);
}

void on_round(CongestionState& state, const Sample& sample, Params& params) {
  CubicState& s = self(state);
  params.ssthresh = sample.ssthresh;
  if (sample.mss == 0 || !sample.cwnd_limited) return;
  const double cwnd = std::max(1.0, static_cast<double>(sample.cwnd) / sample.mss);
  if (sample.cwnd < sample.ssthresh) {
    slow_start_round(s, sample, params);
  } else {
    leave_slow_start(s, params);
    if (!s.now.in_epoch) {
      begin_epoch(s.now, cwnd, sample.now);
    } else {
      skip_idle(s, sample);
      grow_estimate(s, cwnd, sample);
    }
    const double target = target_of(s, cwnd, sample);
    const double least = s.now.loss_known ? 1 / kSlowest : cwnd * kUnknownGrowth;
    const double growth = std::max(target - cwnd, least);
    params.cwnd_cnt = std::max(sample.mss, to_bytes(cwnd / growth, sample.mss));
    params.cwnd_cap = to_bytes(std::ceil(cwnd + std::max(growth, 1.0)), sample.mss);
  }
  s.last_round = sample.now;
  s.acked = sample.acked;
}

void on_loss(CongestionState& state, const Sample& sample, Params& params) {
  CubicState& s = self(state);
  s.undo = s.now;
  const double before = window_before(sample);
  s.now.loss_known = true;
  // Fast convergence (section 4.7).
  s.now.w_max = before < s.now.w_max ? before * (1 + kBeta) / 2 : before;
  end_epoch(s, before, sample, params);
  leave_slow_start(s, params);
}

void on_timeout(CongestionState& state, const Sample& sample, Params& params) {
  CubicState& s = self(state);
  s.undo = s.now;
  // Section 4.8: the next stage begins with K = 0 and W_max = its first cwnd.
  s.now.w_max = 0;
  s.now.loss_known = false;
  end_epoch(s, window_before(sample), sample, params);
  leave_slow_start(s, params);
}

// Section 4.9: the stage goes on where it was, slow start too; what passed meanwhile counts as
// time.
void on_undo(CongestionState& state, const Sample& sample, Params& params) {
  CubicState& s = self(state);
  s.now = s.undo;
  s.hystart = s.hystart_undo;
  params.watch_rtt = s.hystart.phase != HyStart::Phase::kOver;
  apply_phase(s.hystart, params);
  params.ssthresh = sample.ssthresh;
  params.cwnd_cnt = 0;
  params.cwnd_cap = kUnlimitedWindow;
}

constexpr Congestion kCubic{"cubic", false,   false,   start,      on_round,
                            on_rtt,  on_loss, on_loss, on_timeout, on_undo};

}  // namespace

const Congestion& cubic() { return kCubic; }

}  // namespace toe::control
