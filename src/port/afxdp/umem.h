// The memory frames live in: a memfd shared with the kernel, cut into equal chunks.
#ifndef TOE_PORT_AFXDP_UMEM_H_
#define TOE_PORT_AFXDP_UMEM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"

namespace toe::port {

/// Owns the memory and its descriptor. Move-only; must outlive sockets and pools over it.
class Umem {
 public:
  /// Maps `chunks` chunks, below 4 GiB when the address space has room there (eBPF modules reach
  /// only that). REQUIRES: chunk_bytes is 2048 or 4096.
  static Result<Umem> create(std::uint32_t chunks, std::uint32_t chunk_bytes);

  ~Umem();
  Umem(Umem&& other) noexcept;
  Umem& operator=(Umem&& other) noexcept;
  Umem(const Umem&) = delete;
  Umem& operator=(const Umem&) = delete;

  std::span<std::uint8_t> memory() const { return {memory_, bytes_}; }
  std::uint32_t chunk_bytes() const { return chunk_bytes_; }
  /// For a guardian or a successor. Stays this object's.
  int fd() const { return fd_.get(); }

 private:
  Umem() = default;

  UniqueFd fd_;
  std::uint8_t* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::uint32_t chunk_bytes_ = 0;
};

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_UMEM_H_
