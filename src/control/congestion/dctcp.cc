// DCTCP by window (RFC 8257): Reno, but a window with marks costs half the share that was marked.
// Without ECN on the connection it is Reno.
#include "control/congestion/mark_meter.h"

namespace toe::control {
namespace {

using Sample = Congestion::Sample;
using Params = Congestion::Params;

MarkMeter& meter(CongestionState& state) { return *std::get_if<MarkMeter>(&state); }

void start(CongestionState& state, const CongestionSettings&, const Sample& sample,
           Params& params) {
  state = start_meter(sample);
  params = {};
  params.ssthresh = sample.ssthresh;
  params.loss_beta = 512;  // section 3.5
  params.ecn_beta = mark_beta(meter(state));
  params.every_round = true;  // alpha is kept up to date while the application is the limit, too
}

void on_round(CongestionState& state, const Sample& sample, Params& params) {
  take_window(meter(state), sample);
  params.ecn_beta = mark_beta(meter(state));
  params.ssthresh = sample.ssthresh;
}

void keep(CongestionState&, const Sample& sample, Params& params) {
  params.ssthresh = sample.ssthresh;
}

constexpr Congestion kDctcp{"dctcp", false, true, start, on_round, keep, keep, keep, keep, keep};

}  // namespace

const Congestion& dctcp() { return kDctcp; }

}  // namespace toe::control
