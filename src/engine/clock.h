// The engine's clock. Only src/engine reads it; everything below gets instants as arguments.
#ifndef TOE_ENGINE_CLOCK_H_
#define TOE_ENGINE_CLOCK_H_

#include <time.h>

#include "base/types.h"

namespace toe::engine {

inline Time clock_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return {std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec};
}

}  // namespace toe::engine

#endif  // TOE_ENGINE_CLOCK_H_
