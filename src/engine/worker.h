// The worker thread: the only loop with I/O of the data path. Steps Core, carries out orders,
// rings doorbells, and waits (see wait_policy.h) when there is nothing to do.
#ifndef TOE_ENGINE_WORKER_H_
#define TOE_ENGINE_WORKER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "base/result.h"
#include "engine/bridge.h"
#include "engine/core.h"
#include "engine/doorbells.h"
#include "engine/wait_policy.h"

namespace toe::engine {

struct WorkerLinks {
  Core& core;
  port::Port& port;
  Bridge& bridge;
  WorldBridge& world;
  shm::EnginePage& page;
};

class Worker {
 public:
  /// No sleep is longer than this, whatever the deadlines say.
  static constexpr Nanos kLongestSleep = millis(500);
  /// How long connections may take to end after kStop.
  static constexpr Nanos kDrain = millis(1000);

  static Result<std::unique_ptr<Worker>> make(const WorkerLinks& links, Nanos yield_time);
  ~Worker();

  /// Starts the thread. `prepare` runs in it first: what fails there fails here, and the thread
  /// has ended.
  Status start(const std::function<Status()>& prepare);
  /// After Note::kStopped.
  void join();

 private:
  Worker(const WorkerLinks& links, Nanos yield_time, UniqueFd epoll);

  Status watch(int fd);
  void run();
  bool take_orders(Time now);
  bool settled() const;
  void take_snapshot(PortSnapshot& snapshot) const;
  void carry_out(const Order& order, Time now);
  void wait(Time now);
  void sleep();
  bool something_waits() const;
  void drain_event(int fd) const;
  bool check_end(Time now, bool worked);

  WorkerLinks links_;
  Doorbells bells_;
  WaitPolicy policy_;
  UniqueFd epoll_;
  std::thread thread_;
  std::uint64_t frames_seen_ = 0;
  std::size_t batch_ = 0;        ///< orders seen, carried out once settled()
  std::uint32_t batch_age_ = 0;  ///< steps since they were seen
  bool worked_ = false;          ///< the last step found work
  Time stop_at_ = Time::never();
  bool failed_ = false;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_WORKER_H_
