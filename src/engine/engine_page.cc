#include "engine/engine_page.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include <fmt/format.h>

namespace toe::engine {

Result<EnginePage> EnginePage::make() {
  Result<SharedMemory> memory = SharedMemory::make("flextoe-page", shm::kPageBytes);
  if (!memory.ok()) return memory.error();
  const int fd = memory.value().fd.get();
  const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
  if (::fcntl(fd, F_ADD_SEALS, seals) != 0) {
    return Error{errno, fmt::format("cannot seal the engine page: {}", std::strerror(errno))};
  }
  EnginePage page;
  const std::string path = fmt::format("/proc/self/fd/{}", fd);
  page.read_only_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!page.read_only_.valid()) {
    return Error{errno, fmt::format("cannot open the engine page: {}", std::strerror(errno))};
  }
  page.mapping_ = std::move(memory.value().mapping);
  auto* content = new (page.mapping_.base()) shm::EnginePage{};
  content->magic = shm::kPageMagic;
  content->abi_version = shm::kAbiVersion;
  content->engine_pid = static_cast<std::uint32_t>(::getpid());
  return page;
}

}  // namespace toe::engine
