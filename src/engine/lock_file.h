// One engine per name, and one per device: a locked file beside the control socket tells a live
// engine from what a dead one left behind.
#ifndef TOE_ENGINE_LOCK_FILE_H_
#define TOE_ENGINE_LOCK_FILE_H_

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace toe::engine {

/// Held while the object lives; the file is removed with it.
class LockFile {
 public:
  /// Fails with EBUSY, saying `taken` and the process, when another engine holds the lock.
  static Result<LockFile> acquire(const std::string& path, const std::string& taken);

  LockFile() = default;
  ~LockFile();
  LockFile(LockFile&&) noexcept = default;
  LockFile& operator=(LockFile&&) noexcept = default;

 private:
  LockFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::string path_;
  UniqueFd fd_;
};

/// Makes the run directory (0755) unless it exists.
Status make_directory(const std::string& path);

}  // namespace toe::engine

#endif  // TOE_ENGINE_LOCK_FILE_H_
