// The worker's table of doorbells: pipes whose readers are programs that sleep.
//
// Numbers are given by the admin thread and never name another doorbell later: slot in the low
// bits, use of the slot above. So a number that outlives its doorbell rings nothing.
#ifndef TOE_ENGINE_DOORBELLS_H_
#define TOE_ENGINE_DOORBELLS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/unique_fd.h"

namespace toe::engine {

inline constexpr std::uint32_t kBellSlotBits = 14;
inline constexpr std::uint32_t kMaxBells = 1u << kBellSlotBits;

/// Gives out numbers. Thread: admin.
class BellNumbers {
 public:
  /// 0 when all slots are in use.
  std::uint32_t take();
  void give_back(std::uint32_t number);

 private:
  std::vector<std::uint32_t> uses_;  ///< by slot
  std::vector<std::uint32_t> free_;
};

/// Thread: worker.
class Doorbells {
 public:
  /// Takes the write end over.
  void add(std::uint32_t number, UniqueFd write_end);
  void remove(std::uint32_t number);
  /// One byte into each; unknown numbers are ignored, a full pipe is as good as a byte.
  void ring(std::span<const std::uint32_t> numbers);

 private:
  struct Slot {
    std::uint32_t number = 0;
    UniqueFd fd;
  };
  Slot* find(std::uint32_t number);

  std::vector<Slot> slots_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_DOORBELLS_H_
