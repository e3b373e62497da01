// The accept ring of an offloaded listener. No call blocks or makes a system call.
// Thread: any; several processes may take from one listener.
#ifndef TOE_LIBTOE_LISTENER_H_
#define TOE_LIBTOE_LISTENER_H_

#include <cstdint>
#include <optional>

#include "libtoe/lane.h"

namespace toe::libtoe {

class Listener {
 public:
  void attach(Lane* lane, std::uint32_t line);
  bool attached() const { return line_ != nullptr; }

  /// True when a connection waits to be accepted.
  bool ready() const;
  /// Takes the oldest connection's line and claims it for this process; none when all are taken.
  std::optional<std::uint32_t> take();
  /// Completes take(): `cookie` names the kernel socket that stands for the connection here.
  void accept(std::uint32_t taken, std::uint64_t cookie);
  /// Gives up this process's hold.
  void close();

  shm::Line& line() const { return *line_; }
  std::uint32_t line_index() const { return index_; }
  Lane& lane() const { return *lane_; }

 private:
  bool claim(std::uint64_t entry);

  Lane* lane_ = nullptr;
  shm::Line* line_ = nullptr;
  std::uint32_t index_ = 0;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_LISTENER_H_
