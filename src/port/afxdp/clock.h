// The clock that waits in the port are measured by.
#ifndef TOE_PORT_AFXDP_CLOCK_H_
#define TOE_PORT_AFXDP_CLOCK_H_

#include <time.h>

#include "base/types.h"

namespace toe::port {

/// CLOCK_MONOTONIC. For start-up only: the walks get their time from the engine.
inline Time now() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return Time{} + seconds(t.tv_sec) + Nanos{t.tv_nsec};
}

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_CLOCK_H_
