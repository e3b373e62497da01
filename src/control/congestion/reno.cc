// Reno (RFC 5681): one segment per window acknowledged, half the window on loss.
#include "control/congestion/congestion.h"

namespace toe::control {
namespace {

class Reno final : public Congestion {
 public:
  std::string_view name() const override { return "reno"; }
  void start(CongestionState& state, Params& params) const override {
    state = {};
    params = {};
    params.loss_beta = 512;
  }
  void on_round(CongestionState&, const Sample& sample, Params& params) const override {
    params.ssthresh = sample.ssthresh;
  }
  void on_loss(CongestionState&, const Sample& sample, Params& params) const override {
    params.ssthresh = sample.ssthresh;
  }
  void on_timeout(CongestionState&, const Sample& sample, Params& params) const override {
    params.ssthresh = sample.ssthresh;
  }
};

}  // namespace

const Congestion& reno() {
  static const Reno algorithm;
  return algorithm;
}

}  // namespace toe::control
