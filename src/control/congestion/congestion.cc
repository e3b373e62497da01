#include "control/congestion/congestion.h"

#include "control/congestion/rate.h"

namespace toe::control {

const Congestion* find_congestion(std::string_view name) {
  for (const Congestion* c : {&cubic(), &reno(), &dctcp(), &dctcp_rate(), &timely(), &constant()}) {
    if (c->name == name) return c;
  }
  return nullptr;
}

void set_pace(const CongestionSettings& settings, const Congestion::Sample& sample,
              Congestion::Params& params) {
  const bool slow_start = sample.cwnd < params.ssthresh;
  if (settings.pacing == Pacing::kOff || (settings.pacing == Pacing::kSlowStart && !slow_start) ||
      sample.srtt.ns <= 0) {
    params.pacing_bytes_per_s = 0;
    return;
  }
  const double per_round = (slow_start ? 2.0 : 1.2) * sample.cwnd;
  params.pacing_bytes_per_s = to_rate(per_round / seconds_of(sample.srtt));
}

void start_congestion(const Congestion& algorithm, const CongestionSettings& settings,
                      const Congestion::Sample& sample, CongestionState& state,
                      Congestion::Params& params) {
  algorithm.start(state, settings, sample, params);
  params.exact_marks = algorithm.needs_ecn;
  if (algorithm.has_rate) return;
  // A pace that was set while queues were long would keep the window from ever being the limit
  // again, so it has to follow the round-trip time in every round.
  if (settings.pacing != Pacing::kOff) params.every_round = true;
  set_pace(settings, sample, params);
}

}  // namespace toe::control
