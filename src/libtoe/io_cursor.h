// A place in an array of buffers, moved on as bytes are copied.
#ifndef TOE_LIBTOE_IO_CURSOR_H_
#define TOE_LIBTOE_IO_CURSOR_H_

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "libtoe/user_memory.h"
#include "shm/ring_copy.h"

namespace toe::libtoe {

class IoCursor {
 public:
  IoCursor(const iovec* buffers, std::size_t count) : buffers_(buffers), count_(count) {
    for (std::size_t i = 0; i < count; ++i) left_ += buffers[i].iov_len;
  }

  std::size_t left() const { return left_; }

  /// The next piece in one buffer, at most `limit` bytes; then skip() what was used.
  iovec piece(std::size_t limit) {
    while (index_ < count_ && buffers_[index_].iov_len == offset_) {
      ++index_;
      offset_ = 0;
    }
    if (index_ == count_) return {nullptr, 0};
    const iovec& buffer = buffers_[index_];
    return {static_cast<std::uint8_t*>(buffer.iov_base) + offset_,
            std::min(limit, buffer.iov_len - offset_)};
  }
  /// REQUIRES: count is at most the length of the last piece().
  void skip(std::size_t count) {
    offset_ += count;
    left_ -= count;
  }

  /// As skip(), over several buffers. REQUIRES: count <= left().
  void skip_all(std::size_t count) {
    while (count > 0) {
      const std::size_t length = piece(count).iov_len;
      skip(length);
      count -= length;
    }
  }

  /// Copies out of the ring and returns `count`; 0 when any of the bytes lies in a buffer that
  /// cannot be, as Linux takes none then.
  /// REQUIRES: count <= left() and count <= ring.bytes.
  std::size_t fill_from(shm::RingMemory ring, std::uint64_t position, std::size_t count) {
    std::size_t done = 0;
    while (done < count) {
      const iovec to = piece(count - done);
      if (!may_be_mapped(to.iov_base, to.iov_len)) return 0;
      shm::copy_from_ring(ring, position + done, to.iov_base, to.iov_len);
      skip(to.iov_len);
      done += to.iov_len;
    }
    return done;
  }
  /// As fill_from(), into the ring.
  std::size_t drain_to(shm::RingMemory ring, std::uint64_t position, std::size_t count) {
    std::size_t done = 0;
    while (done < count) {
      const iovec from = piece(count - done);
      if (!may_be_mapped(from.iov_base, from.iov_len)) return 0;
      shm::copy_to_ring(ring, position + done, from.iov_base, from.iov_len);
      skip(from.iov_len);
      done += from.iov_len;
    }
    return done;
  }

 private:
  const iovec* buffers_;
  std::size_t count_;
  std::size_t index_ = 0;
  std::size_t offset_ = 0;
  std::size_t left_ = 0;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_IO_CURSOR_H_
