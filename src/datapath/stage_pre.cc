#include "datapath/stage_pre.h"

namespace toe::datapath {

namespace {

/// The rest of the burst is parsed meanwhile.
void prefetch(const flow::Flow& flow) {
  const auto* hot = reinterpret_cast<const std::uint8_t*>(&flow.protocol);
  for (std::uint32_t i = 0; i < flow::ProtocolSlice::kHotLines; ++i) {
    __builtin_prefetch(hot + i * kCacheLine, 1);
  }
}

}  // namespace

StagePre::Verdict StagePre::process(Work& work) const {
  wire::TcpSegment segment;
  const wire::ParseVerdict verdict = wire::parse_frame(frames_, work.frame, options_, segment);
  counters_.parse[static_cast<std::size_t>(verdict)].add();
  if (verdict != wire::ParseVerdict::kOk) return Verdict::kDrop;
  if (segment.partial_checksum) counters_.partial_checksums.add();

  work.flow = table_.find({segment.dst, segment.src, segment.dst_port, segment.src_port});
  if (work.flow == kNoFlow) {
    const bool syn = (segment.flags & (wire::kSyn | wire::kAck)) == wire::kSyn;
    return syn ? Verdict::kSyn : Verdict::kControl;
  }
  prefetch(flows_[index_of(work.flow)]);
  summarise(segment, work);
  return Verdict::kFlow;
}

void StagePre::summarise(const wire::TcpSegment& segment, Work& work) const {
  const flow::PreSlice& pre = flows_[index_of(work.flow)].pre;
  work.walk = Walk::kRx;
  work.rx.seq = segment.seq - pre.irs - 1;
  work.rx.ack = segment.ack - pre.iss - 1;
  work.rx.window = segment.window;
  work.rx.urgent = segment.urgent;
  work.rx.flags = segment.flags;
  work.rx.ecn = segment.ecn;
  work.rx.payload_offset = segment.payload_offset;
  work.rx.payload_length = segment.payload_length;
  work.rx.has_timestamp = segment.options.has_timestamp;
  work.rx.tsval = segment.options.tsval;
  work.rx.tsecr = segment.options.tsecr;
  work.rx.sack_count = segment.options.sack_count;
  for (std::uint8_t i = 0; i < segment.options.sack_count; ++i) {
    const wire::SackBlock& block = segment.options.sack[i];
    work.rx.sack[i] = {block.start - pre.iss - 1, block.end - pre.iss - 1};
  }
}

}  // namespace toe::datapath
