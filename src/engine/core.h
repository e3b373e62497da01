// Core: one engine without threads, sockets or clocks: port + data path + control, stepped by the
// caller. The worker thread steps it over AF_XDP, the simulator over a wire in memory.
//
// Thread: one (the worker); request() included.
#ifndef TOE_ENGINE_CORE_H_
#define TOE_ENGINE_CORE_H_

#include <cstdint>
#include <memory>
#include <span>

#include "control/control.h"
#include "datapath/pipeline.h"
#include "flow/messages.h"
#include "flow/table.h"
#include "port/port.h"

namespace toe::engine {

struct CoreOptions {
  datapath::Options datapath;
  control::Options control;
  control::Secrets secrets;
  flow::HashKey table_secret;
};

/// What Core needs of its surroundings; all outlive it.
struct CoreLinks {
  port::Port& port;
  FramePool& frames;
  std::span<flow::Flow> flows;  ///< zeroed memory for options.control.max_flows records
  /// Asked by control. Core itself answers transmit() and reinject(); the rest goes to this one,
  /// whose transmit() and reinject() are never called.
  control::World& world;
};

/// Frames that were lost between the parts, for a queue was full. Written by the worker.
struct CoreLosses {
  datapath::Counter answers_full;     ///< control's, more than may wait to be sent
  datapath::Counter given_back_full;  ///< those that control gave back to the data path
  datapath::Counter wire_full;        ///< the port did not take them
};

class Core {
 public:
  Core(const CoreOptions& options, const CoreLinks& links);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  /// One loop: frames in, RX, control, HC, TX, frames out. True: something was done; step again.
  /// The caller then rings doorbells() and clears them.
  bool step(Time now);
  void request(const control::Request& request, Time now);

  std::span<const std::uint32_t> doorbells() const;
  void clear_doorbells();
  /// Earliest instant at which step() has work by itself.
  Time next_deadline() const;
  /// True when an application posted since the last step (to be checked before sleeping).
  bool posted() const;

  control::Control& control();
  const datapath::Counters& datapath_counters() const;
  const CoreLosses& losses() const;
  /// Received frames less those of which a counter tells what became of them, and those that wait.
  /// INVARIANT: 0 between steps: no frame vanishes uncounted.
  std::int64_t unexplained_frames() const;
  /// What flows and frames hold of the data path now.
  datapath::Held held() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_CORE_H_
