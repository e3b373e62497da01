// Order point: items leave in the order of their tickets, whatever order they come in.
//
// INVARIANT: tickets in flight (taken, not yet passed) are fewer than kSequencerWindow, so a slot
// is free when its ticket comes. Every ticket taken must be put, even for an item that was dropped
// on the way: there are no holes and nothing to time out.
// Thread: the worker of one group.
#ifndef TOE_DATAPATH_SEQUENCER_H_
#define TOE_DATAPATH_SEQUENCER_H_

#include <array>
#include <cstdint>

#include "base/check.h"
#include "base/limits.h"

namespace toe::datapath {

template <typename T>
class Sequencer {
  static_assert((kSequencerWindow & (kSequencerWindow - 1)) == 0);

 public:
  /// REQUIRES: in_flight() < kSequencerWindow.
  std::uint32_t take() {
    TOE_DCHECK(in_flight() < kSequencerWindow);
    return next_ticket_++;
  }
  /// The item that holds `ticket` has arrived.
  void put(std::uint32_t ticket, const T& item) {
    TOE_DCHECK(ticket - next_out_ < kSequencerWindow && !slots_[ticket & kMask].filled);
    slots_[ticket & kMask] = {item, true};
  }
  /// The next item in order, if it has arrived.
  bool pop(T& item) {
    Slot& slot = slots_[next_out_ & kMask];
    if (!slot.filled) return false;
    item = slot.item;
    slot.filled = false;
    ++next_out_;
    return true;
  }
  std::uint32_t in_flight() const { return next_ticket_ - next_out_; }

 private:
  static constexpr std::uint32_t kMask = kSequencerWindow - 1;
  struct Slot {
    T item;
    bool filled = false;
  };
  std::array<Slot, kSequencerWindow> slots_{};
  std::uint32_t next_ticket_ = 0;
  std::uint32_t next_out_ = 0;
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_SEQUENCER_H_
