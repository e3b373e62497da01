#include "flow/reassembly.h"

#include <algorithm>

#include "base/check.h"

namespace toe::flow {

bool Reassembly::add(std::uint64_t begin, std::uint64_t end) {
  TOE_DCHECK(begin < end);
  std::uint32_t first = 0;  // first range that touches [begin, end)
  while (first < count_ && ranges_[first].end < begin) ++first;
  std::uint32_t last = first;  // one behind the last that does
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
