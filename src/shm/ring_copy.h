// Copies between flat memory and a power-of-two ring, at absolute positions.
#ifndef TOE_SHM_RING_COPY_H_
#define TOE_SHM_RING_COPY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace toe::shm {

/// A ring of `bytes` (a power of two); position p lies at offset p mod bytes.
struct RingMemory {
  std::uint8_t* data = nullptr;
  std::uint32_t bytes = 0;
};

/// REQUIRES: count <= ring.bytes.
inline void copy_to_ring(RingMemory ring, std::uint64_t position, const void* from,
                         std::size_t count) {
  if (count == 0) return;  // the pointers may be null then
  const std::size_t at = static_cast<std::size_t>(position & (ring.bytes - 1));
  const std::size_t first = std::min<std::size_t>(count, ring.bytes - at);
  std::memcpy(ring.data + at, from, first);
  if (count > first) {
    std::memcpy(ring.data, static_cast<const std::uint8_t*>(from) + first, count - first);
  }
}

/// REQUIRES: count <= ring.bytes.
inline void copy_from_ring(RingMemory ring, std::uint64_t position, void* into, std::size_t count) {
  if (count == 0) return;
  const std::size_t at = static_cast<std::size_t>(position & (ring.bytes - 1));
  const std::size_t first = std::min<std::size_t>(count, ring.bytes - at);
  std::memcpy(into, ring.data + at, first);
  if (count > first) {
    std::memcpy(static_cast<std::uint8_t*>(into) + first, ring.data, count - first);
  }
}

}  // namespace toe::shm

#endif  // TOE_SHM_RING_COPY_H_
