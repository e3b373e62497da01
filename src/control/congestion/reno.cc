// Reno (RFC 5681): one segment per window acknowledged, half the window on loss.
#include "control/congestion/congestion.h"

namespace toe::control {
namespace {

using Sample = Congestion::Sample;
using Params = Congestion::Params;

void start(CongestionState& state, Params& params) {
  state = {};
  params = {};
  params.loss_beta = 512;
}

void keep(CongestionState&, const Sample& sample, Params& params) {
  params.ssthresh = sample.ssthresh;
}

constexpr Congestion kReno{"reno", start, keep, keep, keep};

}  // namespace

const Congestion& reno() { return kReno; }

}  // namespace toe::control
