#include "netlab/forwarder.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace toe::netlab {
namespace {

constexpr std::size_t kBatch = 64;
constexpr int kMostPerTurn = 256;  ///< frames of one direction until the other has its turn

}  // namespace

Forwarder::Forwarder(PacketSocket& from, PacketSocket& to, Impairer impairer)
    : from_(from),
      to_(to),
      impairer_(std::move(impairer)),
      slot_bytes_(from.max_frame()),
      memory_(kMemoryBytes),
      incoming_(slot_bytes_),
      lengths_(kMemoryBytes / slot_bytes_) {
  for (std::size_t slots = lengths_.size(); slots > 0; --slots) {
    free_.push_back(static_cast<Line::Handle>(slots - 1));
  }
}

void Forwarder::take(Time now) {
  for (int i = 0; i < kMostPerTurn; ++i) {
    const std::size_t length = from_.receive(incoming_);
    if (length == 0) return;
    const std::span<std::uint8_t> frame(incoming_.data(), length);
    const Verdict verdict = impairer_.decide(frame, now);
    if (verdict.copies == 0) continue;
    carry_out(verdict, frame);
    carry(frame, verdict);
  }
}

void Forwarder::carry(std::span<std::uint8_t> frame, const Verdict& verdict) {
  for (unsigned copy = 0; copy < verdict.copies; ++copy) {
    if (free_.empty()) {
      line_full_++;
      continue;
    }
    const Line::Handle handle = free_.back();
    free_.pop_back();
    std::memcpy(slot(handle).data(), frame.data(), frame.size());
    lengths_[handle] = static_cast<std::uint32_t>(frame.size());
    line_.push(handle, verdict.departure[copy], copy == 0 ? verdict.behind : 0);
  }
  peak_ = std::max<std::uint64_t>(peak_, line_.size());
}

void Forwarder::send_due(Time now) {
  std::array<std::span<const std::uint8_t>, kBatch> frames;
  std::array<Line::Handle, kBatch> handles;
  for (std::size_t count = kBatch; count == kBatch;) {
    count = 0;
    while (count < kBatch) {
      const auto handle = line_.pop(now);
      if (!handle) break;
      handles[count] = *handle;
      frames[count++] = slot(*handle).first(lengths_[*handle]);
    }
    if (count == 0) return;
    to_.send({frames.data(), count});
    sent_ += count;
    free_.insert(free_.end(), handles.begin(), handles.begin() + static_cast<long>(count));
  }
}

}  // namespace toe::netlab
