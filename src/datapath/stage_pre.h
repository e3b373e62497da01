// Pre-processing stage.
//
// Purpose: reduce a frame to a Work item, or hand it to control.
// In: a frame.
// Out: Work of the RX walk with flow, summary and ingress ticket; or a frame for control.
// State: flow table and PreSlices, read only.
// Thread: any replica; here the worker.
// Cost: one pass over the headers, one over the payload if its checksum is verified, one lookup.
// Drops: wire/drop_reason.def.
#ifndef TOE_DATAPATH_STAGE_PRE_H_
#define TOE_DATAPATH_STAGE_PRE_H_

#include <span>

#include "base/frame.h"
#include "datapath/counters.h"
#include "datapath/work.h"
#include "flow/slices.h"
#include "flow/table.h"
#include "wire/parse.h"

namespace toe::datapath {

class StagePre {
 public:
  enum class Verdict : std::uint8_t { kFlow, kControl, kSyn, kDrop };

  StagePre(const wire::ParseOptions& options, const FramePool& frames,
           std::span<const flow::Flow> flows, const flow::FlowTable& table, Counters& counters)
      : options_(options), frames_(frames), flows_(flows), table_(table), counters_(counters) {}

  /// REQUIRES: work.frame is set. ENSURES: on kFlow work.flow and work.rx are set.
  Verdict process(Work& work) const;

 private:
  void summarise(const wire::TcpSegment& segment, Work& work) const;

  wire::ParseOptions options_;
  const FramePool& frames_;
  std::span<const flow::Flow> flows_;
  const flow::FlowTable& table_;
  Counters& counters_;
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_STAGE_PRE_H_
