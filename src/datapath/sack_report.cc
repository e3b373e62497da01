#include "datapath/sack_report.h"

#include <algorithm>

namespace toe::datapath {
namespace {

constexpr std::uint32_t kNowhere = 0xffffffffu;

/// Which range holds the position.
std::uint32_t find(const flow::Reassembly& ranges, std::uint64_t position) {
  for (std::uint32_t i = 0; i < ranges.count(); ++i) {
    if (position < ranges.at(i).begin) break;
    if (position < ranges.at(i).end) return i;
  }
  return kNowhere;
}

}  // namespace

void note_arrival(ReceiveRanges& r, std::uint64_t begin) {
  const std::uint32_t changed = find(r.ranges, begin);
  const auto before = r.recent;
  const std::uint8_t count = r.recent_count;
  r.recent[0] = begin;
  r.recent_count = 1;
  for (std::uint8_t i = 0; i < count && r.recent_count < r.recent.size(); ++i) {
    const std::uint32_t range = find(r.ranges, before[i]);
    if (range != kNowhere && range != changed) r.recent[r.recent_count++] = before[i];
  }
}

SackReport report_sack(const ReceiveRanges* r, const flow::Range& duplicate, std::uint32_t most) {
  SackReport report;
  most = std::min<std::uint32_t>(most, wire::kMaxSackBlocks);
  if (duplicate.begin < duplicate.end && most > 0) report.add(duplicate);
  if (r == nullptr) return report;
  std::uint64_t said = 0;  // by bit: ranges that are in the report
  static_assert(kOutOfOrderRanges <= 64);
  for (std::uint8_t i = 0; i < r->recent_count && report.count < most; ++i) {
    const std::uint32_t range = find(r->ranges, r->recent[i]);
    if (range == kNowhere || (said >> range & 1) != 0) continue;
    said |= 1ull << range;
    report.add(r->ranges.at(range));
  }
  for (std::uint32_t i = 0; i < r->ranges.count() && report.count < most; ++i) {
    if ((said >> i & 1) == 0) report.add(r->ranges.at(i));
  }
  return report;
}

}  // namespace toe::datapath
