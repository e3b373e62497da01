#include "engine/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cstring>

#include <fmt/format.h>

namespace toe::engine {
namespace {

constexpr int kAttempts = 8;

Error failure(const std::string& what) {
  const int code = errno;
  return {code, fmt::format("{}: {}", what, std::strerror(code))};
}

std::string read_pid(int fd) {
  char text[32] = {};
  const ssize_t got = ::pread(fd, text, sizeof text - 1, 0);
  std::string pid(text, got > 0 ? static_cast<std::size_t>(got) : 0);
  return pid.substr(0, pid.find_first_not_of("0123456789"));
}

/// False when the file was removed by its last holder after we opened it.
bool still_there(int fd, const std::string& path) {
  struct stat ours {};
  struct stat named {};
  return ::fstat(fd, &ours) == 0 && ::stat(path.c_str(), &named) == 0 &&
         ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

}  // namespace

Result<LockFile> LockFile::acquire(const std::string& path, const std::string& taken) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd.valid()) return failure("cannot open " + path);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return failure("cannot lock " + path);
      return Error{EBUSY, fmt::format("{}, pid {}", taken, read_pid(fd.get()))};
    }
    if (!still_there(fd.get(), path)) continue;
    const std::string pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(fd.get(), 0) != 0 ||
        ::pwrite(fd.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
      return failure("cannot write " + path);
    }
    return LockFile(path, std::move(fd));
  }
  return Error{EBUSY, path + " keeps being replaced"};
}

LockFile::~LockFile() {
  if (fd_.valid()) ::unlink(path_.c_str());
}

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) == 0) {
    if (::chmod(path.c_str(), 0755) != 0) return failure("cannot set the mode of " + path);
    return Done{};
  }
  struct stat status {};
  if (errno == EEXIST && ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    return Done{};
  }
  if (errno == 0 || errno == EEXIST) errno = ENOTDIR;
  return failure("cannot make the directory " + path);
}

}  // namespace toe::engine
