#include "libtoe/stream.h"

#include <stdio_ext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "libtoe/internal_fds.h"
#include "libtoe/io.h"
#include "libtoe/libc.h"
#include "libtoe/open.h"

namespace toe::libtoe {
namespace {

struct Stream {
  int fd;
  FILE* file;
  Stream* next;
};

Mutex g_mutex;
Stream* g_streams = nullptr;

ssize_t with_errno(ssize_t result) {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

ssize_t read_stream(void* cookie, char* buffer, std::size_t length) {
  const int fd = static_cast<Stream*>(cookie)->fd;
  if (Socket* socket = offloaded_connection(fd)) {
    return with_errno(socket_recv(*socket, buffer, length, 0));
  }
  return libc().read(fd, buffer, length);
}

ssize_t write_some(int fd, const char* bytes, std::size_t length) {
  if (Socket* socket = offloaded_connection(fd)) {
    return with_errno(socket_send(*socket, bytes, length, 0));
  }
  return libc().write(fd, bytes, length);
}

std::size_t write_until_error(int fd, const char* bytes, std::size_t length) {
  std::size_t done = 0;
  while (done < length) {
    const ssize_t n = write_some(fd, bytes + done, length - done);
    if (n < 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

ssize_t write_stream(void* cookie, const char* bytes, std::size_t length) {
  return static_cast<ssize_t>(write_until_error(static_cast<Stream*>(cookie)->fd, bytes, length));
}

int close_stream(void* cookie) {
  auto* stream = static_cast<Stream*>(cookie);
  const int fd = stream->fd;
  {
    MutexLock lock(g_mutex);
    Stream** link = &g_streams;
    while (*link != stream) link = &(*link)->next;
    *link = stream->next;
  }
  delete stream;
  forget_fd(fd);
  const FdChange change;
  return libc().close(fd);
}

FILE*& standard_stream(int fd) {
  return fd == STDIN_FILENO ? stdin : fd == STDOUT_FILENO ? stdout : stderr;
}

}  // namespace

FILE* open_stream(int fd, const char* mode) {
  // Of fdopen's mode letters only these mean something for a socket.
  const std::array<char, 3> plain{mode[0], std::strchr(mode, '+') != nullptr ? '+' : '\0', '\0'};
  auto* stream = new Stream{fd, nullptr, nullptr};
  const cookie_io_functions_t calls{read_stream, write_stream, nullptr, close_stream};
  FILE* file = ::fopencookie(stream, plain.data(), calls);
  if (file == nullptr) {
    delete stream;
    return nullptr;
  }
  stream->file = file;
  MutexLock lock(g_mutex);
  stream->next = g_streams;
  g_streams = stream;
  return file;
}

int stream_fd(FILE* stream) {
  MutexLock lock(g_mutex);
  for (const Stream* known = g_streams; known != nullptr; known = known->next) {
    if (known->file == stream) return known->fd;
  }
  return -1;
}

bool write_all(int fd, const void* bytes, std::size_t length) {
  return write_until_error(fd, static_cast<const char*>(bytes), length) == length;
}

void follow_standard_stream(int fd) {
  if (fd < STDIN_FILENO || fd > STDERR_FILENO || offloaded_connection(fd) == nullptr) return;
  const int saved = errno;
  FILE*& standard = standard_stream(fd);
  if (standard != nullptr && libc().fileno(standard) == fd) {
    if (FILE* made = open_stream(fd, fd == STDIN_FILENO ? "r" : "w"); made != nullptr) {
      if (fd == STDERR_FILENO) std::setvbuf(made, nullptr, _IONBF, 0);
      std::fwrite(standard->_IO_write_base, 1, ::__fpending(standard), made);
      ::__fpurge(standard);
      standard = made;
    }
  }
  errno = saved;
}

void reset_streams() { g_mutex.reset(); }

}  // namespace toe::libtoe
