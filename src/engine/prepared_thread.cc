#include "engine/prepared_thread.h"

#include <pthread.h>

#include <future>
#include <utility>

namespace toe::engine {

Status start_prepared(std::thread& thread, PreparedThread plan) {
  std::promise<Status> promise;
  std::future<Status> prepared = promise.get_future();
  thread = std::thread([plan = std::move(plan), promise = std::move(promise)]() mutable {
    ::pthread_setname_np(::pthread_self(), plan.name);
    const Status status = plan.prepare();
    const bool go_on = status.ok();
    promise.set_value(status);
    if (go_on) plan.run();
  });
  return prepared.get();
}

}  // namespace toe::engine
