// Timer wheel: one timer per record, 1 ms ticks, five levels of 64 slots (12 days; later instants
// wait in the outermost level). Arm, move and cancel cost O(1); a timer never fires early.
#ifndef TOE_CONTROL_TIMERS_H_
#define TOE_CONTROL_TIMERS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "base/types.h"
#include "control/index_list.h"

namespace toe::control {

class TimerWheel {
 public:
  /// Timers are numbered 0 to `timers` - 1, all off. Never allocates after construction.
  explicit TimerWheel(std::uint32_t timers);

  /// Sets timer `id` to fire at the first tick not before `at`, whatever it was set to.
  void arm(std::uint32_t id, Time at);
  void cancel(std::uint32_t id);
  bool armed(std::uint32_t id) const { return nodes_[id].slot != kOff; }
  std::uint32_t count() const { return count_; }

  /// Takes one timer that is due at `now` out of the wheel. False: none is left.
  bool fire(Time now, std::uint32_t& id);

  /// Not later than the first armed timer; may be earlier (a level has to be unpacked then).
  Time next_deadline() const;

 private:
  static constexpr std::uint32_t kLevels = 5;
  static constexpr std::uint32_t kSlots = 64;
  static constexpr std::uint16_t kOff = 0xffff;

  struct Node {
    Link link;
    std::uint64_t tick = 0;
    std::uint16_t slot = kOff;  ///< level * kSlots + slot in it
  };

  void place(std::uint32_t id);
  void take_out(std::uint32_t id);
  void unpack(std::uint64_t tick);
  std::uint64_t next_event() const;

  std::vector<Node> nodes_;
  std::array<List, kLevels * kSlots> slots_{};
  std::array<std::uint64_t, kLevels> occupied_{};
  std::uint64_t current_ = 0;  ///< tick whose slot is being emptied
  std::uint32_t count_ = 0;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_TIMERS_H_
