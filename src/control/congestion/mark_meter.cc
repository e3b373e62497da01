#include "control/congestion/mark_meter.h"

#include <algorithm>
#include <cmath>

namespace toe::control {
namespace {

constexpr double kGain = 1.0 / 16;  // g

}  // namespace

MarkMeter start_meter(const Congestion::Sample& sample) {
  return {1, sample.acked, sample.ce_acked};
}

double take_window(MarkMeter& m, const Congestion::Sample& sample) {
  const auto acked = static_cast<double>(sample.acked - m.acked);
  const auto marked = static_cast<double>(sample.ce_acked - m.marked);
  m.acked = sample.acked;
  m.marked = sample.ce_acked;
  if (acked <= 0) return 0;
  const double share = std::clamp(marked / acked, 0.0, 1.0);
  m.alpha = std::clamp(m.alpha * (1 - kGain) + kGain * share, 0.0, 1.0);
  return share;
}

double alpha_of(const CongestionState& state) {
  if (const auto* meter = std::get_if<MarkMeter>(&state)) return meter->alpha;
  if (const auto* rate = std::get_if<DctcpRateState>(&state)) return rate->marks.alpha;
  return -1;
}

std::uint16_t mark_beta(const MarkMeter& m) {
  const auto beta = static_cast<std::uint16_t>(std::lround(1024 * (1 - m.alpha / 2)));
  return std::min<std::uint16_t>(beta, 1023);  // marks always cost something
}

}  // namespace toe::control
