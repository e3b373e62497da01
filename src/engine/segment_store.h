// Segments: memfds made, sealed and mapped by the engine.
//
// Thread: admin. The mapping is used by the worker until it has given the segment back.
#ifndef TOE_ENGINE_SEGMENT_STORE_H_
#define TOE_ENGINE_SEGMENT_STORE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "base/types.h"
#include "base/unique_fd.h"
#include "shm/segment_format.h"

namespace toe::engine {

/// A mapping that is unmapped with its owner.
class Mapping {
 public:
  Mapping() = default;
  Mapping(std::uint8_t* base, std::size_t bytes) : base_(base), bytes_(bytes) {}
  ~Mapping();
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;

  std::uint8_t* base() const { return base_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::uint8_t* base_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Shared memory of `bytes` zero bytes behind a memfd, both readable and writable by this process.
struct SharedMemory {
  UniqueFd fd;
  Mapping mapping;
  static Result<SharedMemory> make(const char* name, std::size_t bytes);
};

/// Holds every segment; at most kMaxSegments at a time.
class SegmentStore {
 public:
  struct Segment {
    SegmentId id = kNoSegment;
    std::uint8_t* base = nullptr;
    int fd = -1;  ///< stays the store's
  };

  /// A new segment with its header written. Fails when there are too many or memory is refused.
  Result<Segment> create();
  /// fd is -1 when the segment is gone.
  Segment find(SegmentId id) const;
  /// Gives the pages of a ring back to the system; they read as zero afterwards. May wait for a
  /// program that works on the same memory file.
  void return_pages(SegmentId id, shm::RingRef ring);
  /// Unmaps and closes; unknown ids are ignored.
  void remove(SegmentId id);
  std::uint32_t count() const { return count_; }

 private:
  std::vector<std::unique_ptr<SharedMemory>> slots_;  ///< by id
  std::uint32_t count_ = 0;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_SEGMENT_STORE_H_
