// DCTCP's estimate of the share of bytes that the network marks (RFC 8257 section 3.3).
#ifndef TOE_CONTROL_CONGESTION_MARK_METER_H_
#define TOE_CONTROL_CONGESTION_MARK_METER_H_

#include "control/congestion/congestion.h"

namespace toe::control {

/// Begins at the sample, with alpha 1: the first marks count as full congestion.
MarkMeter start_meter(const Congestion::Sample& sample);
/// An observation window has ended. Returns the share of its bytes that were marked.
double take_window(MarkMeter& m, const Congestion::Sample& sample);
/// cwnd after a window with marks, in 1/1024 of cwnd: 1 - alpha / 2.
std::uint16_t mark_beta(const MarkMeter& m);

}  // namespace toe::control

#endif  // TOE_CONTROL_CONGESTION_MARK_METER_H_
