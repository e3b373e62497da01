// The guardian: a small process that outlives a crashed engine long enough to tell every peer.
//
// Forked before any AF_XDP ring and any thread exists. Sleeps until the engine's process is gone;
// then, unless the engine said goodbye, ends every connection at its peer by RST and leaves. Holds
// none of the engine's descriptors; reads the flow records through shared memory.
#ifndef TOE_ENGINE_GUARDIAN_H_
#define TOE_ENGINE_GUARDIAN_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/segment_store.h"
#include "flow/slices.h"

namespace toe::engine {

/// Flow records in shared memory, zeroed; sparse until used.
class SharedFlows {
 public:
  static Result<SharedFlows> make(std::uint32_t max_flows);
  std::span<flow::Flow> flows() const {
    return {reinterpret_cast<flow::Flow*>(memory_.mapping.base()), count_};
  }

 private:
  SharedMemory memory_;
  std::uint32_t count_ = 0;
};

/// Bytes of main's argument strings, so that a process list can name the guardian.
struct ProcessTitle {
  char* begin = nullptr;
  std::size_t bytes = 0;
  static ProcessTitle of(int argc, char** argv);
  void set(const char* title) const;
};

class Guardian {
 public:
  struct Options {
    int ifindex = 0;  ///< device the RSTs leave through
    ProcessTitle title;
    bool restricted = false;  ///< it may only make the system calls of its role
  };
  /// Forks. REQUIRES: no other thread exists.
  static Result<Guardian> start(std::span<const flow::Flow> flows, const Options& options);

  pid_t pid() const { return pid_; }
  /// The engine ends in good order: the guardian will leave without a word.
  void dismiss();

 private:
  struct Shared {
    std::atomic<std::uint32_t> dismissed;
    std::atomic<std::uint32_t> ready;
  };
  /// What the child works with.
  struct Ends {
    UniqueFd pidfd;   ///< of the engine
    UniqueFd packet;  ///< where the RSTs are sent
  };
  [[noreturn]] void live(std::span<const flow::Flow> flows, const Options& options,
                         const Ends& ends) const;

  Mapping page_;
  pid_t pid_ = -1;
};

/// Writes the RSTs that end `flow` at its peer (one for each edge of what may be in flight).
/// Returns how many frames were passed to `send`. The record may be half-written: it is only read.
int build_resets(const flow::Flow& flow,
                 const std::function<void(std::span<const std::uint8_t>)>& send);

}  // namespace toe::engine

#endif  // TOE_ENGINE_GUARDIAN_H_
