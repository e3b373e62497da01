// Reno (RFC 5681): one segment per window acknowledged, half the window on loss or marks.
#include "control/congestion/congestion.h"

namespace toe::control {
namespace {

using Sample = Congestion::Sample;
using Params = Congestion::Params;

void start(CongestionState& state, const CongestionSettings&, const Sample& sample,
           Params& params) {
  state = std::monostate{};
  params = {};
  params.ssthresh = sample.ssthresh;
  params.loss_beta = params.ecn_beta = 512;
}

void keep(CongestionState&, const Sample& sample, Params& params) {
  params.ssthresh = sample.ssthresh;
}

constexpr Congestion kReno{"reno", false, false, start, keep, keep, keep, keep, keep, keep};

}  // namespace

const Congestion& reno() { return kReno; }

}  // namespace toe::control
