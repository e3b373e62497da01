// Congestion control: computes, once per round trip and on loss, the parameters of the one rule
// that the protocol stage applies per ACK (slow start below ssthresh, else one segment per
// `cwnd_cnt` bytes acknowledged, never above `cwnd_cap`). Never runs per segment.
//
// An algorithm is one file with one table of functions; its state lies in the connection's record.
#ifndef TOE_CONTROL_CONGESTION_CONGESTION_H_
#define TOE_CONTROL_CONGESTION_CONGESTION_H_

#include <cstdint>
#include <string_view>

#include "base/types.h"
#include "flow/messages.h"
#include "flow/slices.h"

namespace toe::control {

/// State of one connection; each algorithm says what it keeps in it. Values in segments.
struct CongestionState {
  double w_max = 0;
  double k = 0;
  double w_est = 0;
  double cwnd_prior = 0;
  Time epoch{};  ///< beginning of the present congestion avoidance stage
  Time last_round{};
  bool in_epoch = false;
};

struct Congestion {
  using Sample = flow::Event::Sample;
  using Params = flow::CongestionParams;
  using Step = void (*)(CongestionState& state, const Sample& sample, Params& params);

  std::string_view name;
  /// A connection begins: sets both.
  void (*start)(CongestionState& state, Params& params);
  /// A round trip in which cwnd was the limit has ended.
  Step on_round;
  /// Fast retransmit began; the sample holds cwnd and ssthresh after the reduction.
  Step on_loss;
  Step on_timeout;
};

/// nullptr when no algorithm has that name.
const Congestion* find_congestion(std::string_view name);

const Congestion& cubic();
const Congestion& reno();

}  // namespace toe::control

#endif  // TOE_CONTROL_CONGESTION_CONGESTION_H_
