#include "base/frame.h"

namespace toe {

void FramePool::append(Frame& frame, const Frame& part) {
  TOE_DCHECK(part.chunk < chunks_ && part.next == kNoChunk);
  std::uint32_t* link = &frame.next;
  while (*link != kNoChunk) link = &parts_[*link].next;
  *link = part.chunk;
  parts_[part.chunk] = part;
}

std::uint32_t FramePool::count_parts(const Frame& frame) const {
  std::uint32_t count = 1;
  for (Frame part = frame; advance(part); ++count) {
  }
  return count;
}

std::uint32_t FramePool::total_bytes(const Frame& frame) const {
  std::uint32_t bytes = frame.length;
  for (Frame part = frame; advance(part);) bytes += part.length;
  return bytes;
}

void FramePool::release_parts(std::uint32_t chunk) {
  while (chunk != kNoChunk) {
    TOE_DCHECK(chunk < chunks_ && free_count_ < chunks_);
    free_[free_count_++] = chunk;
    chunk = parts_[chunk].next;
  }
}

}  // namespace toe
