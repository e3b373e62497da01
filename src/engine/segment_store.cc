#include "engine/segment_store.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>
#include <new>
#include <utility>

#include <fmt/format.h>

#include "shm/segment_view.h"

namespace toe::engine {
namespace {

Error failure(const char* what) {
  const int code = errno;
  return {code, fmt::format("{}: {}", what, std::strerror(code))};
}

void write_header(std::uint8_t* base, std::uint32_t id) {
  auto* header = new (base) shm::SegmentHeader{};
  header->magic = shm::kSegmentMagic;
  header->abi_version = shm::kAbiVersion;
  header->features = shm::kFeatures;
  header->segment_id = id;
}

}  // namespace

Mapping::~Mapping() {
  if (base_ != nullptr) ::munmap(base_, bytes_);
}

Mapping::Mapping(Mapping&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Result<SharedMemory> SharedMemory::make(const char* name, std::size_t bytes) {
  SharedMemory memory;
  memory.fd.reset(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.fd.valid()) return failure("cannot make shared memory");
  if (::ftruncate(memory.fd.get(), static_cast<off_t>(bytes)) != 0) {
    return failure("cannot size shared memory");
  }
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                      memory.fd.get(), 0);
  if (base == MAP_FAILED) return failure("cannot map shared memory");
  memory.mapping = Mapping(static_cast<std::uint8_t*>(base), bytes);
  (void)::madvise(base, bytes, MADV_DONTDUMP);  // keeps user data out of core dumps; best effort
  return memory;
}

Result<SegmentStore::Segment> SegmentStore::create() {
  std::size_t id = 0;
  while (id < slots_.size() && slots_[id] != nullptr) ++id;
  if (id == kMaxSegments) return Error{ENOSPC, "all segments are in use"};
  Result<SharedMemory> memory = SharedMemory::make("flextoe-segment", shm::kSegmentBytes);
  if (!memory.ok()) return memory.error();
  if (::fcntl(memory.value().fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
      0) {
    return failure("cannot seal a segment");
  }
  write_header(memory.value().mapping.base(), static_cast<std::uint32_t>(id));
  if (id == slots_.size()) slots_.emplace_back();
  slots_[id] = std::make_unique<SharedMemory>(std::move(memory.value()));
  ++count_;
  return find(static_cast<SegmentId>(id));
}

SegmentStore::Segment SegmentStore::find(SegmentId id) const {
  const std::uint32_t index = index_of(id);
  if (index >= slots_.size() || slots_[index] == nullptr) return {};
  return {id, slots_[index]->mapping.base(), slots_[index]->fd.get()};
}

void SegmentStore::return_pages(SegmentId id, shm::RingRef ring) {
  const Segment segment = find(id);
  if (segment.base == nullptr) return;
  // Refused only without kernel memory: then the pages stay, and do no harm.
  (void)::madvise(segment.base + ring.offset(), ring.bytes(), MADV_REMOVE);
}

void SegmentStore::remove(SegmentId id) {
  const std::uint32_t index = index_of(id);
  if (index >= slots_.size() || slots_[index] == nullptr) return;
  slots_[index].reset();
  --count_;
}

}  // namespace toe::engine
