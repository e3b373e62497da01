// What algorithms that compute a rate have in common: bounds, use of the rate, and the parameters
// that make the protocol stage keep it. The window is no limit but a guard: twice what the rate
// sends in a round trip, so that a flow whose ACKs stop does not send for ever.
#ifndef TOE_CONTROL_CONGESTION_RATE_H_
#define TOE_CONTROL_CONGESTION_RATE_H_

#include "control/congestion/congestion.h"

namespace toe::control {

inline constexpr double kRateStep = 10e6 / 8;       ///< bytes/s: additive increase, as in TIMELY
inline constexpr double kFirstRate = 10e6 / 8;      ///< at least, for a flow that begins
inline constexpr double kLeastRate = 1000;          ///< 8 kbit/s
inline constexpr double kMostRate = 400e9 / 8;      ///< no link is faster
inline constexpr std::uint16_t kKeepWindow = 1024;  ///< loss_beta: the rate is reduced, not cwnd

inline double seconds_of(Nanos t) { return static_cast<double>(t.ns) * 1e-9; }

/// Bytes per second as the scheduler takes them: never 0, which would mean "unpaced".
std::uint64_t to_rate(double bytes_per_s);

/// First rate: what the window would send in a round trip, at least kFirstRate.
void start_rate(RateState& r, const Congestion::Sample& sample, Congestion::Params& params);
/// Takes the new rate within bounds. Writes the parameters.
void set_rate(RateState& r, double rate, const Congestion::Sample& sample,
              Congestion::Params& params);
/// Halves the rate and ends slow start: a loss or a timeout.
void halve_rate(RateState& r, const Congestion::Sample& sample, Congestion::Params& params);
/// Takes the last reduction back.
void restore_rate(RateState& r, const Congestion::Sample& sample, Congestion::Params& params);
/// True when the flow has sent about as much as the rate allowed since the last look: only then
/// may the rate grow. Begins the next interval.
bool rate_was_used(RateState& r, const Congestion::Sample& sample);
/// Additive increase per round trip: kRateStep, but not more than one segment per round trip.
double rate_step(const Congestion::Sample& sample);

}  // namespace toe::control

#endif  // TOE_CONTROL_CONGESTION_RATE_H_
