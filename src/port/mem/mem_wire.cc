#include "port/mem/mem_wire.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace toe::port {

MemPort::MemPort(MemWire& wire, int side, std::uint32_t chunks)
    : wire_(wire),
      side_(side),
      memory_(static_cast<std::size_t>(chunks) * MemWire::kChunkBytes),
      pool_(memory_, MemWire::kChunkBytes),
      first_part_(MemWire::kPartBytes),
      further_part_(MemWire::kPartBytes) {
  caps_.name = side == 0 ? "mem0" : "mem1";
  caps_.mac.bytes = {0x02, 0, 0, 0, 0, static_cast<std::uint8_t>(side + 1)};
  caps_.max_frame = kMaxFrameChunks * MemWire::kPartBytes;
}

std::size_t MemPort::rx(std::span<Frame> out) {
  std::size_t count = 0;
  while (count < out.size()) {
    const MemWire::InFlight* packet = wire_.front(side_);
    if (packet == nullptr) break;
    const Frame frame = store(packet->bytes);
    if (frame.valid()) {
      stats_.rx_frames++;
      stats_.rx_bytes += packet->bytes.size();
      out[count++] = frame;
    }
    wire_.pop(side_);
  }
  return count;
}

Frame MemPort::store(std::span<const std::uint8_t> bytes) {
  const std::size_t behind = bytes.size() - std::min<std::size_t>(bytes.size(), first_part_);
  const std::size_t parts = 1 + (behind + further_part_ - 1) / further_part_;
  if (parts > kMaxFrameChunks) {
    stats_.rx_dropped_jumbo++;
    return {};
  }
  if (parts > pool_.free_count()) {
    stats_.rx_dropped_no_fill++;
    return {};
  }
  Frame frame;
  for (std::uint32_t room = first_part_; !frame.valid() || !bytes.empty(); room = further_part_) {
    Frame part = pool_.acquire();
    part.length = static_cast<std::uint16_t>(std::min<std::size_t>(bytes.size(), room));
    std::memcpy(pool_.bytes(part).data(), bytes.data(), part.length);
    bytes = bytes.subspan(part.length);
    if (frame.valid()) {
      pool_.append(frame, part);
    } else {
      frame = part;
    }
  }
  return frame;
}

std::size_t MemPort::tx(std::span<const Frame> frames) {
  for (const Frame& frame : frames) {
    const std::uint32_t length = pool_.total_bytes(frame);
    if (length == 0 || length > caps_.max_frame) {
      stats_.tx_invalid++;
    } else {
      stats_.tx_frames++;
      stats_.tx_bytes += length;
      wire_.send(side_, pool_, frame);
    }
    pool_.release(frame);
  }
  return frames.size();
}

bool MemPort::prepare_sleep() { return wire_.front(side_) == nullptr; }

MemWire::MemWire(std::uint32_t chunks_per_side)
    : ports_{std::make_unique<MemPort>(*this, 0, chunks_per_side),
             std::make_unique<MemPort>(*this, 1, chunks_per_side)} {}

void MemWire::set_now(Time now) {
  TOE_CHECK(now >= now_);
  now_ = now;
}

Time MemWire::next_arrival() const {
  Time earliest = Time::never();
  for (const auto& queue : queues_) {
    if (!queue.empty()) earliest = std::min(earliest, queue.front().due);
  }
  return earliest;
}

void MemWire::send(int from, const FramePool& pool, const Frame& frame) {
  std::span<const std::uint8_t> bytes = pool.bytes(frame);
  if (frame.next != kNoChunk) {
    joined_.clear();
    Frame part = frame;
    do {
      joined_.insert(joined_.end(), pool.bytes(part).begin(), pool.bytes(part).end());
    } while (pool.advance(part));
    bytes = joined_;
  }
  Fate fate;
  if (impair_) {
    scratch_.assign(bytes.begin(), bytes.end());
    fate = impair_(from, scratch_, now_);
    bytes = scratch_;
  }
  TOE_CHECK(fate.copies <= Fate::kMaxCopies);
  if (fate.copies == 0) lost_++;
  for (unsigned i = 0; i < fate.copies; ++i) enqueue(1 - from, now_ + fate.delay[i], bytes);
}

void MemWire::enqueue(int to, Time due, std::span<const std::uint8_t> bytes) {
  auto& queue = queues_[static_cast<std::size_t>(to)];
  if (queue.size() >= kMaxInFlight) {
    lost_++;
    return;
  }
  std::vector<std::uint8_t> buffer;
  if (!spare_.empty()) {
    buffer = std::move(spare_.back());
    spare_.pop_back();
  }
  buffer.assign(bytes.begin(), bytes.end());
  queue.push_back({due, next_order_++, std::move(buffer)});
  std::push_heap(queue.begin(), queue.end(), Later{});
}

const MemWire::InFlight* MemWire::front(int side) const {
  const auto& queue = queues_[static_cast<std::size_t>(side)];
  if (queue.empty() || queue.front().due > now_) return nullptr;
  return &queue.front();
}

void MemWire::pop(int side) {
  auto& queue = queues_[static_cast<std::size_t>(side)];
  std::pop_heap(queue.begin(), queue.end(), Later{});
  spare_.push_back(std::move(queue.back().bytes));
  queue.pop_back();
}

}  // namespace toe::port
