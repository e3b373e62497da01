// Proof for the service manager's watchdog that the engine's threads live: the admin thread, which
// gives it, asks the worker first.
#ifndef TOE_ENGINE_HEARTBEAT_H_
#define TOE_ENGINE_HEARTBEAT_H_

#include "engine/bridge.h"
#include "engine/service_manager.h"

namespace toe::engine {

/// Thread: admin. Outlives the worker, which writes into `answer_`.
class Heartbeat {
 public:
  /// Questions within the manager's patience: one may come late or be lost.
  static constexpr std::int64_t kBeatsPerPatience = 4;

  Heartbeat(Bridge& bridge, ServiceManager& manager)
      : bridge_(bridge), manager_(manager), interval_(manager.patience() / kBeatsPerPatience) {}

  /// Tells the manager once the worker has answered, and asks again when it is time.
  void poll(Time now);
  Time next_deadline() const { return interval_.ns == 0 ? Time::never() : next_; }

 private:
  Bridge& bridge_;
  ServiceManager& manager_;
  Nanos interval_;
  Time next_;
  bool asked_ = false;
  PortSnapshot answer_;  ///< the worker fills it between two of its steps
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_HEARTBEAT_H_
