// Threads that give up rights before they do anything else.
#ifndef TOE_ENGINE_PREPARED_THREAD_H_
#define TOE_ENGINE_PREPARED_THREAD_H_

#include <functional>
#include <thread>

#include "base/result.h"

namespace toe::engine {

struct PreparedThread {
  const char* name;  ///< as tools show it, at most 15 bytes
  std::function<Status()> prepare;
  std::function<void()> run;
};

/// Starts `plan` as `thread`: `prepare` runs in it first, then `run`. What fails in `prepare` fails
/// here, and the thread has ended.
Status start_prepared(std::thread& thread, PreparedThread plan);

}  // namespace toe::engine

#endif  // TOE_ENGINE_PREPARED_THREAD_H_
