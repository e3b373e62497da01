// A place in an array of buffers, moved on as bytes are copied.
#ifndef TOE_LIBTOE_IO_CURSOR_H_
#define TOE_LIBTOE_IO_CURSOR_H_

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

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

  /// REQUIRES: count <= left() and count <= ring.bytes.
  void fill_from(shm::RingMemory ring, std::uint64_t position, std::size_t count) {
    while (count > 0) {
      const iovec to = piece(count);
      shm::copy_from_ring(ring, position, to.iov_base, to.iov_len);
      skip(to.iov_len);
      position += to.iov_len;
      count -= to.iov_len;
    }
  }
  /// REQUIRES: count <= left() and count <= ring.bytes.
  void drain_to(shm::RingMemory ring, std::uint64_t position, std::size_t count) {
    while (count > 0) {
      const iovec from = piece(count);
      shm::copy_to_ring(ring, position, from.iov_base, from.iov_len);
      skip(from.iov_len);
      position += from.iov_len;
      count -= from.iov_len;
    }
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
