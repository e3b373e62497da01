#include "datapath/sack_report.h"

#include <algorithm>

namespace toe::datapath {
void note_arrival(ReceiveRanges& r, std::uint64_t begin) {
  const std::uint32_t changed = r.ranges.find(begin);
  const auto before = r.recent;
  const std::uint8_t count = r.recent_count;
  r.recent[0] = begin;
  r.recent_count = 1;
  for (std::uint8_t i = 0; i < count && r.recent_count < r.recent.size(); ++i) {
    const std::uint32_t range = r.ranges.find(before[i]);
    if (range != flow::Reassembly::kNowhere && range != changed)
      r.recent[r.recent_count++] = before[i];
  }
}

SackReport report_sack(const ReceiveRanges* r, const flow::Range& duplicate, std::uint32_t most) {
  SackReport report;
  most = std::min<std::uint32_t>(most, wire::kMaxSackBlocks);
  if (duplicate.begin < duplicate.end && most > 0) report.add(duplicate);
  if (r == nullptr) return report;
  std::array<std::uint32_t, wire::kMaxSackBlocks> said;  // ranges that are in the report
  std::uint32_t count = 0;
  const auto is_said = [&](std::uint32_t range) {
    return std::find(said.begin(), said.begin() + count, range) != said.begin() + count;
  };
  for (std::uint8_t i = 0; i < r->recent_count && report.count < most; ++i) {
    const std::uint32_t range = r->ranges.find(r->recent[i]);
    if (range == flow::Reassembly::kNowhere || is_said(range)) continue;
    said[count++] = range;
    report.add(r->ranges.at(range));
  }
  for (std::uint32_t i = 0; i < r->ranges.count() && report.count < most; ++i) {
    if (!is_said(i)) report.add(r->ranges.at(i));
  }
  return report;
}

}  // namespace toe::datapath
