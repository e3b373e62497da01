// A segment in plain memory, made as the engine makes one: for tests without processes.
#ifndef TOE_TESTS_HARNESS_PLAIN_SEGMENT_H_
#define TOE_TESTS_HARNESS_PLAIN_SEGMENT_H_

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "base/check.h"
#include "shm/segment_view.h"

namespace toe::test {

/// A gigabyte of address space; pages appear when they are written.
class PlainSegment {
 public:
  explicit PlainSegment(std::uint32_t id) {
    void* memory = ::mmap(nullptr, shm::kSegmentBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TOE_CHECK(memory != MAP_FAILED);
    base_ = static_cast<std::uint8_t*>(memory);
    auto* header = new (base_) shm::SegmentHeader{};
    header->magic = shm::kSegmentMagic;
    header->abi_version = shm::kAbiVersion;
    header->features = shm::kFeatures;
    header->segment_id = id;
  }
  ~PlainSegment() { ::munmap(base_, shm::kSegmentBytes); }
  PlainSegment(const PlainSegment&) = delete;
  PlainSegment& operator=(const PlainSegment&) = delete;

  std::uint8_t* base() const { return base_; }
  shm::SegmentView view() const { return shm::SegmentView(base_); }

 private:
  std::uint8_t* base_ = nullptr;
};

}  // namespace toe::test

#endif  // TOE_TESTS_HARNESS_PLAIN_SEGMENT_H_
