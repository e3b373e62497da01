// A fixed rate and a fixed window, whatever the network says: for laboratories, and for links whose
// share is assigned by other means. Lost segments are sent again within the same bounds.
#include <algorithm>

#include "control/congestion/rate.h"

namespace toe::control {
namespace {

using Sample = Congestion::Sample;
using Params = Congestion::Params;

constexpr std::uint32_t kLeastSegments = 2;

void start(CongestionState& state, const CongestionSettings& settings, const Sample& sample,
           Params& params) {
  state = std::monostate{};
  params = {};
  params.loss_beta = params.ecn_beta = kKeepWindow;
  params.cwnd_cnt = sample.mss;  // to the cap as fast as in slow start
  params.pacing_bytes_per_s = settings.constant_rate;
  if (settings.constant_window != 0) {
    params.cwnd_cap = std::max(settings.constant_window, kLeastSegments * sample.mss);
  }
}

void keep(CongestionState&, const Sample&, Params&) {}

constexpr Congestion kConstant{"constant", true, false, start, keep, keep, keep, keep, keep, keep};

}  // namespace

const Congestion& constant() { return kConstant; }

}  // namespace toe::control
