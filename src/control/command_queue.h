// The way from control into the command ring, with an overflow of fixed size behind it, so that
// control neither blocks nor loses a command when the data path is slow.
//
// Bound: kOverflow. Control begins no new work below kWorkMargin, and takes events and timers only
// above kEventMargin; but when the event ring is more than half full it goes on taking events, so
// that the data path, which stops at a full event ring, can always empty the command ring.
#ifndef TOE_CONTROL_COMMAND_QUEUE_H_
#define TOE_CONTROL_COMMAND_QUEUE_H_

#include <cstddef>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "flow/messages.h"

namespace toe::control {

inline flow::Command make_command(flow::Command::Kind kind) {
  flow::Command command{};
  command.kind = kind;
  return command;
}

class CommandQueue {
 public:
  static constexpr std::size_t kOverflow = 2 * kCommandRing;
  static constexpr std::size_t kWorkMargin = kOverflow / 2;
  static constexpr std::size_t kEventMargin = kOverflow / 4;
  static constexpr std::size_t kReserve = 64;  ///< more than one event makes

  explicit CommandQueue(flow::CommandRing& ring) : ring_(ring), waiting_(kOverflow) {}

  /// REQUIRES: room() > 0.
  void push(const flow::Command& command) {
    if (count_ == 0 && ring_.push(command)) return;
    TOE_CHECK(count_ < kOverflow);
    waiting_[(first_ + count_++) % kOverflow] = command;
  }

  /// Moves waiting commands into the ring.
  void flush() {
    while (count_ > 0 && ring_.push(waiting_[first_])) {
      first_ = (first_ + 1) % kOverflow;
      --count_;
    }
  }

  std::size_t room() const { return kOverflow - count_; }
  bool waiting() const { return count_ > 0; }

 private:
  flow::CommandRing& ring_;
  std::vector<flow::Command> waiting_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_COMMAND_QUEUE_H_
