#include "libtoe/file.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>

namespace toe::libtoe {
namespace {
constexpr rlim_t kMostFds = 1u << 22;
}

std::atomic<File*>* FdTable::slots_ = nullptr;
unsigned FdTable::size_ = 0;
std::atomic<int> FdTable::used_{0};

void FdTable::start() {
  if (slots_ != nullptr) return;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const auto size = static_cast<unsigned>(std::min(limit.rlim_max, kMostFds));
  void* memory = ::mmap(nullptr, size * sizeof(std::atomic<File*>), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;  // every get() misses: all sockets stay with the kernel
  slots_ = static_cast<std::atomic<File*>*>(memory);  // zero pages are null pointers
  size_ = size;
}

bool FdTable::set(int fd, File* file, File*& former) {
  const auto index = static_cast<unsigned>(fd);
  if (index >= size_) return false;
  former = slots_[index].exchange(file, std::memory_order_acq_rel);
  int used = used_.load(std::memory_order_relaxed);
  while (used <= fd && !used_.compare_exchange_weak(used, fd + 1, std::memory_order_acq_rel)) {
  }
  return true;
}

File* FdTable::clear(int fd) {
  const auto index = static_cast<unsigned>(fd);
  if (index >= size_ || slots_[index].load(std::memory_order_relaxed) == nullptr) return nullptr;
  return slots_[index].exchange(nullptr, std::memory_order_acq_rel);
}

}  // namespace toe::libtoe
