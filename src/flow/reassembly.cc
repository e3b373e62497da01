#include "flow/reassembly.h"

#include <algorithm>

#include "base/check.h"

namespace toe::flow {

std::uint32_t Reassembly::first_ending_at_or_behind(std::uint64_t position) const {
  const auto at = std::lower_bound(ranges_.begin(), ranges_.begin() + count_, position,
                                   [](const Slot& r, std::uint64_t p) { return r.end < p; });
  return static_cast<std::uint32_t>(at - ranges_.begin());
}

std::uint32_t Reassembly::find(std::uint64_t position) const {
  const std::uint32_t i = first_ending_at_or_behind(position + 1);
  return i < count_ && ranges_[i].begin <= position ? i : kNowhere;
}

Range Reassembly::first_common(std::uint64_t begin, std::uint64_t end) const {
  const std::uint32_t i = first_ending_at_or_behind(begin + 1);
  if (i == count_ || ranges_[i].begin >= end) return {};
  return {std::max(ranges_[i].begin, begin), std::min(ranges_[i].end, end)};
}

bool Reassembly::add(std::uint64_t begin, std::uint64_t end) {
  TOE_DCHECK(begin < end);
  const std::uint32_t first = first_ending_at_or_behind(begin);  // that touches [begin, end)
  std::uint32_t last = first;                                    // one behind the last that does
  while (last < count_ && ranges_[last].begin <= end) ++last;

  if (first == last) {
    if (count_ == kOutOfOrderRanges) return false;
    std::move_backward(ranges_.begin() + first, ranges_.begin() + count_,
                       ranges_.begin() + count_ + 1);
    ranges_[first] = {begin, end};
    ++count_;
    return true;
  }
  ranges_[first] = {std::min(begin, ranges_[first].begin), std::max(end, ranges_[last - 1].end)};
  std::move(ranges_.begin() + last, ranges_.begin() + count_, ranges_.begin() + first + 1);
  count_ -= last - first - 1;
  return true;
}

std::uint64_t Reassembly::advance(std::uint64_t next) {
  std::uint32_t done = 0;
  while (done < count_ && ranges_[done].begin <= next) {
    next = std::max(next, ranges_[done].end);
    ++done;
  }
  std::move(ranges_.begin() + done, ranges_.begin() + count_, ranges_.begin());
  count_ -= done;
  return next;
}

}  // namespace toe::flow
