#include "port/afxdp/umem.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"

namespace toe::port {
namespace {

void* map_shared(int fd, std::size_t bytes) {
  constexpr int kFlags = MAP_SHARED | MAP_POPULATE;
#ifdef MAP_32BIT
  void* low = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags | MAP_32BIT, fd, 0);
  if (low != MAP_FAILED) return low;
#endif
  return ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, fd, 0);
}

}  // namespace

Result<Umem> Umem::create(std::uint32_t chunks, std::uint32_t chunk_bytes) {
  TOE_CHECK(chunk_bytes == 2048 || chunk_bytes == 4096);
  Umem umem;
  umem.chunk_bytes_ = chunk_bytes;
  const std::size_t bytes = static_cast<std::size_t>(chunks) * chunk_bytes;
  umem.fd_.reset(::memfd_create("flextoe-umem", MFD_CLOEXEC));
  if (!umem.fd_.valid() || ::ftruncate(umem.fd_.get(), static_cast<off_t>(bytes)) != 0) {
    return Error{errno, std::string("no memory for frames: ") + strerror(errno)};
  }
  void* memory = map_shared(umem.fd_.get(), bytes);
  if (memory == MAP_FAILED) {
    return Error{errno, "no memory for frames (" + std::to_string(bytes >> 20) +
                            " MiB): " + strerror(errno)};
  }
  ::madvise(memory, bytes, MADV_DONTDUMP);
  umem.memory_ = static_cast<std::uint8_t*>(memory);
  umem.bytes_ = bytes;
  return umem;
}

Umem::~Umem() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

Umem::Umem(Umem&& other) noexcept
    : fd_(std::move(other.fd_)),
      memory_(std::exchange(other.memory_, nullptr)),
      bytes_(other.bytes_),
      chunk_bytes_(other.chunk_bytes_) {}

Umem& Umem::operator=(Umem&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(memory_, other.memory_);
  std::swap(bytes_, other.bytes_);
  std::swap(chunk_bytes_, other.chunk_bytes_);
  return *this;
}

}  // namespace toe::port
