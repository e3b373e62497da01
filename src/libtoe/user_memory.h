// Addresses that the program hands in.
#ifndef TOE_LIBTOE_USER_MEMORY_H_
#define TOE_LIBTOE_USER_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace toe::libtoe {

/// False for ranges that no process can have mapped: around the null pointer, and beyond the
/// addresses of user space. The kernel answers EFAULT for them. Other addresses are not looked up:
/// that would cost a system call per copy, and a wrong one ends the program as it does anywhere
/// else in it.
inline bool may_be_mapped(const void* address, std::size_t length) {
  constexpr std::uint64_t kFirst = 4096;
  constexpr std::uint64_t kEnd = std::uint64_t{1} << 56;
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  return first - kFirst < kEnd && length <= kEnd;
}

template <typename T>
bool may_be_mapped(const T* object) {
  return may_be_mapped(object, sizeof(T));
}

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_USER_MEMORY_H_
