// Packet buffers: a Frame names bytes in one chunk of a pool; the pool is one flat memory area
// (the UMEM of an AF_XDP port, or plain memory in tests).
//
// Ownership: whoever holds the Frame value owns the chunk, until it passes the value on or
// returns it with FramePool::release().
// Thread: a pool and its frames belong to one worker.
#ifndef TOE_BASE_FRAME_H_
#define TOE_BASE_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/check.h"

namespace toe {

inline constexpr std::uint32_t kNoChunk = 0xffffffffu;

/// Bytes [offset, offset + length) of chunk `chunk`. A frame longer than a chunk goes on in chunk
/// `next`, of which the pool knows the bytes (see FramePool::append).
struct Frame {
  std::uint32_t chunk = kNoChunk;
  std::uint16_t offset = 0;
  std::uint16_t length = 0;
  std::uint32_t next = kNoChunk;

  bool valid() const { return chunk != kNoChunk; }
};

/// Free list of equal chunks over caller-owned memory. Never allocates after construction.
class FramePool {
 public:
  /// Space in front of a frame that the pool hands out for sending, for headers added later.
  static constexpr std::uint16_t kHeadroom = 64;

  /// `memory` stays the caller's and must outlive the pool. All chunks start free.
  FramePool(std::span<std::uint8_t> memory, std::uint32_t chunk_bytes)
      : memory_(memory),
        chunk_bytes_(chunk_bytes),
        chunks_(static_cast<std::uint32_t>(memory.size() / chunk_bytes)),
        free_(std::make_unique<std::uint32_t[]>(chunks_)),
        parts_(std::make_unique<Frame[]>(chunks_)) {
    for (std::uint32_t i = 0; i < chunks_; ++i) free_[i] = chunks_ - 1 - i;
    free_count_ = chunks_;
  }

  /// An empty frame with kHeadroom in front; !valid() when the pool is exhausted.
  Frame acquire() {
    if (free_count_ == 0) return {};
    return {free_[--free_count_], kHeadroom, 0, kNoChunk};
  }

  /// Takes back the frame's chunks, those it goes on in included.
  /// REQUIRES: frame.valid(), owned by the caller.
  void release(const Frame& frame) {
    TOE_DCHECK(frame.chunk < chunks_ && free_count_ < chunks_);
    free_[free_count_++] = frame.chunk;
    if (frame.next != kNoChunk) [[unlikely]] {
      release_parts(frame.next);
    }
  }

  /// Makes `frame` go on in `part`. REQUIRES: part.next == kNoChunk.
  void append(Frame& frame, const Frame& part);
  /// Makes `part` the one behind it. False, and nothing done, if it is the last.
  ///   Frame part = frame; do { ... bytes(part) ... } while (pool.advance(part));
  bool advance(Frame& part) const {
    if (part.next == kNoChunk) return false;
    part = parts_[part.next];
    return true;
  }
  /// Chunks and bytes of all parts of a frame.
  std::uint32_t count_parts(const Frame& frame) const;
  std::uint32_t total_bytes(const Frame& frame) const;

  /// The bytes in the frame's first chunk.
  std::span<std::uint8_t> bytes(const Frame& frame) const {
    return {chunk(frame.chunk) + frame.offset, frame.length};
  }
  /// The whole chunk, for writing a frame before its length is known.
  std::uint8_t* chunk(std::uint32_t index) const {
    return memory_.data() + static_cast<std::size_t>(index) * chunk_bytes_;
  }
  std::uint32_t chunk_bytes() const { return chunk_bytes_; }
  std::uint32_t chunks() const { return chunks_; }
  std::uint32_t free_count() const { return free_count_; }
  std::span<std::uint8_t> memory() const { return memory_; }

 private:
  [[gnu::cold, gnu::noinline]] void release_parts(std::uint32_t chunk);

  std::span<std::uint8_t> memory_;
  std::uint32_t chunk_bytes_;
  std::uint32_t chunks_;
  std::unique_ptr<std::uint32_t[]> free_;
  std::unique_ptr<Frame[]> parts_;  ///< by chunk; of chunks that are not the first of a frame
  std::uint32_t free_count_ = 0;
};

}  // namespace toe

#endif  // TOE_BASE_FRAME_H_
