// A file descriptor with exactly one owner.
#ifndef TOE_BASE_UNIQUE_FD_H_
#define TOE_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace toe {

/// Owns one file descriptor and closes it when destroyed; -1 means none. Move-only.
class UniqueFd {
 public:
  UniqueFd() = default;
  /// Takes `fd` over; a negative value means none.
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { reset(); }

  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

  /// Gives the descriptor up without closing it.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  /// Closes what is owned and takes `fd` over.
  void reset(int fd = -1) {
    const int old = std::exchange(fd_, fd);
    if (old >= 0) ::close(old);
  }

 private:
  int fd_ = -1;
};

}  // namespace toe

#endif  // TOE_BASE_UNIQUE_FD_H_
