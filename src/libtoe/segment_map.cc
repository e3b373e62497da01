#include "libtoe/segment_map.h"

#include <sys/mman.h>
#include <sys/stat.h>

namespace toe::libtoe {

bool SegmentMap::map(std::uint32_t id, int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || static_cast<std::uint64_t>(info.st_size) != shm::kSegmentBytes) {
    return false;
  }
  void* base = ::mmap(nullptr, shm::kSegmentBytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (base == MAP_FAILED) return false;
  ::madvise(base, shm::kSegmentBytes, MADV_DONTDUMP);
  if (adopt(id, static_cast<std::uint8_t*>(base))) return true;
  ::munmap(base, shm::kSegmentBytes);
  return false;
}

bool SegmentMap::adopt(std::uint32_t id, std::uint8_t* base) {
  const std::uint32_t index = count_.load(std::memory_order_relaxed);
  const shm::SegmentView view(base);
  const shm::SegmentHeader& header = view.header();
  if (index == kMaxMapped || header.magic != shm::kSegmentMagic ||
      header.abi_version != shm::kAbiVersion || header.segment_id != id) {
    return false;
  }
  segments_[index] = {view, id, index};
  count_.store(index + 1, std::memory_order_release);  // publishes the entry
  return true;
}

MappedSegment* SegmentMap::find(std::uint32_t id) {
  const std::uint32_t n = count();
  for (std::uint32_t i = 0; i < n; ++i) {
    if (segments_[i].id == id) return &segments_[i];
  }
  return nullptr;
}

void SegmentMap::vacate() {
  for (std::uint32_t i = 0, n = count(); i < n; ++i) {
    ::mmap(segments_[i].view.base(), shm::kSegmentBytes, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  }
}

}  // namespace toe::libtoe
