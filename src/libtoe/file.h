// Open file descriptions that libtoe serves, and the table from fd numbers to them.
#ifndef TOE_LIBTOE_FILE_H_
#define TOE_LIBTOE_FILE_H_

#include <atomic>
#include <cstdint>

namespace toe::libtoe {

enum class Role : std::uint8_t {
  kFresh,       ///< a TCP socket before listen or connect: the kernel serves it
  kListener,    ///< both the engine and the kernel accept
  kConnection,  ///< the engine serves it; the kernel socket only holds the number
  kEpoll,
};

/// What one or several fd numbers of this process name (dup makes several).
class File {
 public:
  explicit File(Role role) : role_(role) {}
  Role role() const { return role_.load(std::memory_order_acquire); }
  void set_role(Role role) { role_.store(role, std::memory_order_release); }
  bool offloaded() const {
    const Role role = this->role();
    return role == Role::kConnection || role == Role::kListener;
  }

  /// For one more fd number. False when the last one has gone: the File is another's soon, or is
  /// already.
  bool hold() {
    std::uint32_t held = fds_.load(std::memory_order_relaxed);
    while (held != 0) {
      if (fds_.compare_exchange_weak(held, held + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }
  /// True when that was the last fd number: the caller gives the File up.
  bool drop() { return fds_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  /// No fd number names it any more.
  bool closed() const { return fds_.load(std::memory_order_acquire) == 0; }
  /// Fresh from the pool, for its first fd number. REQUIRES: closed().
  void open() { fds_.store(1, std::memory_order_release); }

 private:
  std::atomic<std::uint32_t> fds_{0};  ///< fd numbers that name it
  std::atomic<Role> role_;
};

/// Any thread. A File found here stays memory of its type for ever (it may be reused), so that
/// a program that closes an fd in one thread while using it in another cannot crash libtoe.
class FdTable {
 public:
  /// Bounds the table by the hard limit of open files. Called once.
  static void start();

  static File* get(int fd) {
    const auto index = static_cast<unsigned>(fd);
    return index < size_ ? slots_[index].load(std::memory_order_acquire) : nullptr;
  }
  /// `fd` names `file` from now on, which is held for it; `former` is what it named before, for the
  /// caller to drop. False when the number is beyond the table: the kernel keeps such a socket.
  static bool set(int fd, File* file, File*& former);
  /// Forgets the number; returns what it named.
  static File* clear(int fd);
  /// Numbers to visit when looking at all entries: [0, end).
  static int end() { return used_.load(std::memory_order_acquire); }

 private:
  static std::atomic<File*>* slots_;
  static unsigned size_;
  static std::atomic<int> used_;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_FILE_H_
