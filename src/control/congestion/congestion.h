// Congestion control: computes, once per round trip and on loss, marks or timeout, the parameters
// of the one rule that the protocol stage applies per ACK (slow start below ssthresh, else one
// segment per `cwnd_cnt` bytes acknowledged, never above `cwnd_cap`; a pace). Never runs per
// segment.
//
// An algorithm is one file with one table of pure functions: (state, sample) -> (state, params).
// Its state lies in the connection's record.
#ifndef TOE_CONTROL_CONGESTION_CONGESTION_H_
#define TOE_CONTROL_CONGESTION_CONGESTION_H_

#include <cstdint>
#include <string_view>
#include <variant>

#include "base/types.h"
#include "control/congestion/hystart.h"
#include "flow/messages.h"
#include "flow/slices.h"

namespace toe::control {

inline constexpr std::uint32_t kUnlimitedWindow = 0xffffffffu;

/// When the flows of algorithms that compute a window are paced.
enum class Pacing : std::uint8_t {
  kOff,
  kSlowStart,  ///< below ssthresh, where a window doubles in bursts
  kOn,
};

/// Settings that all flows share.
struct CongestionSettings {
  Pacing pacing = Pacing::kOff;
  std::uint64_t constant_rate = 0;    ///< of `constant`, bytes per second; 0 = unpaced
  std::uint32_t constant_window = 0;  ///< of `constant`, bytes; 0 = unlimited
};

/// CUBIC's variables by their names in RFC 9438; windows in segments.
struct CubicStage {
  double w_max = 0;
  double k = 0;
  double w_est = 0;
  double cwnd_prior = 0;
  Time epoch{};  ///< t_epoch: beginning of the present congestion avoidance stage
  bool in_epoch = false;
  bool loss_known = false;  ///< a loss since the start, or since the last timeout
};

struct CubicState {
  CubicStage now;
  CubicStage undo;  ///< as it was before the last reduction
  Time last_round{};
  std::uint64_t acked = 0;
  HyStart hystart;
  HyStart hystart_undo;  ///< as it was before the last reduction
};

/// What DCTCP measures (RFC 8257 section 3.3).
struct MarkMeter {
  double alpha = 1;         ///< DCTCP.Alpha
  std::uint64_t acked = 0;  ///< at the last look
  std::uint64_t marked = 0;
};

/// An algorithm that computes a rate; bytes per second.
struct RateState {
  double rate = 0;
  double before = 0;  ///< rate before the last reduction
  bool slow_start = true;
  Time last{};
  std::uint64_t acked = 0;  ///< at `last`
};

struct DctcpRateState {
  RateState rate;
  MarkMeter marks;
  bool reacted = false;  ///< the last round ended with a reduction
};

/// TIMELY's variables (nanoseconds).
struct TimelyState {
  RateState rate;
  double last_rtt = 0;
  double rtt_diff = 0;
  std::uint32_t good_rounds = 0;  ///< in a row with a falling or level round-trip time
};

using CongestionState =
    std::variant<std::monostate, CubicState, MarkMeter, DctcpRateState, TimelyState>;

struct Congestion {
  using Sample = flow::Event::Sample;
  using Params = flow::CongestionParams;
  using Step = void (*)(CongestionState& state, const Sample& sample, Params& params);

  std::string_view name;
  bool has_rate;   ///< it computes the pace itself
  bool needs_ecn;  ///< it lives on exact marks (RFC 8257): asks for ECN, echoes as DCTCP
  /// A connection begins, or comes from another algorithm: sets state and parameters.
  void (*start)(CongestionState& state, const CongestionSettings& settings, const Sample& sample,
                Params& params);
  /// A round trip has ended: one in which cwnd was the limit (sample.cwnd_limited), or any if
  /// params.every_round.
  Step on_round;
  /// Slow start has kRoundRttSamples round-trip times of this round (`params.watch_rtt`).
  Step on_rtt;
  /// Fast retransmit began; the sample holds cwnd and ssthresh after the reduction by `loss_beta`.
  Step on_loss;
  /// Marks (ECE) made the protocol stage reduce cwnd by `ecn_beta`.
  Step on_marks;
  Step on_timeout;
  /// The last reduction was an error and has been taken back (RFC 9438 section 4.9).
  Step on_undo;
};

/// nullptr when no algorithm has that name.
const Congestion* find_congestion(std::string_view name);

/// Sets the pace of an algorithm that computes a window, as the settings ask: twice the window
/// per round trip in slow start, 1.2 times after it, so that pacing never is what limits.
void set_pace(const CongestionSettings& settings, const Congestion::Sample& sample,
              Congestion::Params& params);

/// The flow of `algorithm` begins: its start(), and the first pace.
void start_congestion(const Congestion& algorithm, const CongestionSettings& settings,
                      const Congestion::Sample& sample, CongestionState& state,
                      Congestion::Params& params);

/// DCTCP.Alpha; -1 of another algorithm's state.
double alpha_of(const CongestionState& state);

const Congestion& cubic();
const Congestion& reno();
const Congestion& dctcp();
const Congestion& dctcp_rate();
const Congestion& timely();
const Congestion& constant();

}  // namespace toe::control

#endif  // TOE_CONTROL_CONGESTION_CONGESTION_H_
