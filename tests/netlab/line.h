// Frames under way in one direction, by the instant of their departure.
#ifndef TOE_NETLAB_LINE_H_
#define TOE_NETLAB_LINE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/types.h"

namespace toe::netlab {

/// Holds handles of frames. Frames that depart at the same instant keep the order of push().
class Line {
 public:
  using Handle = std::uint32_t;

  /// `behind` as in Verdict.
  void push(Handle frame, Time departure, std::uint32_t behind = 0);
  /// The next frame that departs at `now` or before.
  std::optional<Handle> pop(Time now);
  /// When pop() has something; Time::never() if the line is empty.
  Time next() const;
  std::size_t size() const { return frames_.size() + held_.size(); }

 private:
  struct Entry {
    Time departure;
    std::uint64_t order = 0;
    Handle frame = 0;
  };
  struct Held : Entry {
    std::uint32_t behind = 0;  ///< frames that have still to overtake it; 0: may go
  };
  struct Later {
    bool operator()(const Entry& a, const Entry& b) const {
      return a.departure != b.departure ? a.departure > b.departure : a.order > b.order;
    }
  };

  void overtake(std::uint64_t order);

  std::uint64_t next_order_ = 0;
  std::vector<Entry> frames_;  // a heap, earliest first
  std::vector<Held> held_;     // few: in the order of push()
};

}  // namespace toe::netlab

#endif  // TOE_NETLAB_LINE_H_
