// DCTCP by rate: the share of marked bytes steers a pace instead of a window. The rate doubles per
// round trip until the first mark or loss, then grows by a step per round without marks and falls
// by half the smoothed share in a round with marks; a loss halves it. What the round after a
// reduction acknowledges was sent before it: its marks say nothing new.
#include "control/congestion/mark_meter.h"
#include "control/congestion/rate.h"

namespace toe::control {
namespace {

using Sample = Congestion::Sample;
using Params = Congestion::Params;

DctcpRateState& self(CongestionState& state) { return *std::get_if<DctcpRateState>(&state); }

void start(CongestionState& state, const CongestionSettings&, const Sample& sample,
           Params& params) {
  DctcpRateState s;
  s.marks = start_meter(sample);
  start_rate(s.rate, sample, params);
  state = s;
}

void on_round(CongestionState& state, const Sample& sample, Params& params) {
  auto& [r, marks, reacted] = self(state);
  const double share = take_window(marks, sample);
  const bool used = rate_was_used(r, sample);
  const bool cut = share > 0 && !reacted;
  double rate = r.rate;
  if (cut) {
    r.slow_start = false;
    r.before = r.rate;
    rate *= 1 - marks.alpha / 2;
  } else if (share <= 0 && used) {
    rate = r.slow_start ? rate * 2 : rate + rate_step(sample);
  }
  reacted = cut;
  set_rate(r, rate, sample, params);
}

void on_loss(CongestionState& state, const Sample& sample, Params& params) {
  halve_rate(self(state).rate, sample, params);
}

void on_undo(CongestionState& state, const Sample& sample, Params& params) {
  restore_rate(self(state).rate, sample, params);
}

void keep(CongestionState&, const Sample& sample, Params& params) {
  params.ssthresh = sample.ssthresh;
}

constexpr Congestion kDctcpRate{"dctcp-rate", true,    true, start,   on_round,
                                keep,         on_loss, keep, on_loss, on_undo};

}  // namespace

const Congestion& dctcp_rate() { return kDctcpRate; }

}  // namespace toe::control
