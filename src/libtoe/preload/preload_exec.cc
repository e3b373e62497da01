// exec under libtoe: offloaded sockets that stay open keep their hold until the new program shows
// them.
#include <stdarg.h>
#include <unistd.h>

#include <array>

#include "libtoe/inherit.h"
#include "libtoe/preload/preload.h"

using toe::libtoe::KeepOverExec;
using toe::libtoe::libc;

namespace {

/// Arguments of one execl call; more fail with E2BIG as a too long list does.
constexpr std::size_t kMaxArguments = 4096;

// Reads the arguments behind `first` up to the null pointer. False: too many.
bool collect(va_list& list, const char* first, std::array<char*, kMaxArguments>& out) {
  std::size_t count = 0;
  out[count++] = const_cast<char*>(first);
  while (out[count - 1] != nullptr && count < out.size()) out[count++] = va_arg(list, char*);
  if (out[count - 1] == nullptr) return true;
  errno = E2BIG;
  return false;
}

}  // namespace

TOE_EXPORT int execve(const char* path, char* const* arguments, char* const* environment) noexcept {
  const KeepOverExec keep;
  return libc().execve(path, arguments, environment);
}

TOE_EXPORT int execv(const char* path, char* const* arguments) noexcept {
  return execve(path, arguments, environ);
}

TOE_EXPORT int execvpe(const char* file, char* const* arguments,
                       char* const* environment) noexcept {
  const KeepOverExec keep;
  return libc().execvpe(file, arguments, environment);
}

TOE_EXPORT int execvp(const char* file, char* const* arguments) noexcept {
  return execvpe(file, arguments, environ);
}

TOE_EXPORT int fexecve(int fd, char* const* arguments, char* const* environment) noexcept {
  const KeepOverExec keep;
  return libc().fexecve(fd, arguments, environment);
}

TOE_EXPORT int execl(const char* path, const char* first, ...) noexcept {
  std::array<char*, kMaxArguments> arguments;
  va_list list;
  va_start(list, first);
  const bool fits = collect(list, first, arguments);
  va_end(list);
  return fits ? execve(path, arguments.data(), environ) : -1;
}

TOE_EXPORT int execlp(const char* file, const char* first, ...) noexcept {
  std::array<char*, kMaxArguments> arguments;
  va_list list;
  va_start(list, first);
  const bool fits = collect(list, first, arguments);
  va_end(list);
  return fits ? execvpe(file, arguments.data(), environ) : -1;
}

TOE_EXPORT int execle(const char* path, const char* first, ...) noexcept {
  std::array<char*, kMaxArguments> arguments;
  va_list list;
  va_start(list, first);
  const bool fits = collect(list, first, arguments);
  char* const* environment = va_arg(list, char* const*);
  va_end(list);
  return fits ? execve(path, arguments.data(), environment) : -1;
}
