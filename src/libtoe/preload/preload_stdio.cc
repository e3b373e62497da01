// The names that lead from a descriptor to a stream and back, and those that print to one.
#include <stdarg.h>

#include <cstdlib>

#include "libtoe/preload/preload.h"
#include "libtoe/socket.h"
#include "libtoe/stream.h"

using toe::libtoe::as_socket;
using toe::libtoe::FdTable;
using toe::libtoe::libc;
using toe::libtoe::offloaded_connection;

extern "C" int __vasprintf_chk(char** text, int flag, const char* format, va_list list) noexcept;

namespace {

int print(int fd, char* text, int length) {
  if (length < 0) return -1;
  const bool written = toe::libtoe::write_all(fd, text, static_cast<size_t>(length));
  std::free(text);
  return written ? length : -1;
}

// A stream that is not above a descriptor of libc's: ours, or one without a descriptor (EBADF).
int number_of(FILE* stream, int found) {
  return found >= 0 ? found : toe::libtoe::stream_fd(stream);
}

}  // namespace

TOE_EXPORT FILE* fdopen(int fd, const char* mode) noexcept {
  // A socket before its connect as well: whose it will be is not known yet.
  if (as_socket(FdTable::get(fd)) == nullptr) return libc().fdopen(fd, mode);
  return toe::libtoe::open_stream(fd, mode);
}

TOE_EXPORT int fileno(FILE* stream) noexcept { return number_of(stream, libc().fileno(stream)); }

TOE_EXPORT int fileno_unlocked(FILE* stream) noexcept {
  return number_of(stream, libc().fileno_unlocked(stream));
}

TOE_EXPORT int vdprintf(int fd, const char* format, va_list list) {
  if (offloaded_connection(fd) == nullptr) return libc().vdprintf(fd, format, list);
  char* text = nullptr;
  const int length = ::vasprintf(&text, format, list);
  return print(fd, text, length);
}

TOE_EXPORT int dprintf(int fd, const char* format, ...) {
  va_list list;
  va_start(list, format);
  const int printed = vdprintf(fd, format, list);
  va_end(list);
  return printed;
}

TOE_EXPORT int __vdprintf_chk(int fd, int flag, const char* format, va_list list) {
  if (offloaded_connection(fd) == nullptr) return libc().__vdprintf_chk(fd, flag, format, list);
  char* text = nullptr;
  const int length = __vasprintf_chk(&text, flag, format, list);
  return print(fd, text, length);
}

TOE_EXPORT int __dprintf_chk(int fd, int flag, const char* format, ...) {
  va_list list;
  va_start(list, format);
  const int printed = __vdprintf_chk(fd, flag, format, list);
  va_end(list);
  return printed;
}
