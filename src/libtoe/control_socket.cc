#include "libtoe/control_socket.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "libtoe/cancel.h"
#include "libtoe/libc.h"

namespace toe::libtoe {
namespace {

/// An engine that does not answer for this long counts as gone.
constexpr time_t kAnswerSeconds = 5;
/// Own descriptors begin this far below the limit, and never above kHighestStart (the kernel's
/// table grows with the highest number).
constexpr int kTopRoom = 192;
constexpr int kHighestStart = 16'384;
constexpr int kInternalBits = 65'536;

std::array<std::atomic<std::uint64_t>, kInternalBits / 64> g_internal;

void mark_internal(int fd, bool on) {
  if (fd < 0 || fd >= kInternalBits) return;
  const std::uint64_t bit = std::uint64_t{1} << (fd % 64);
  auto& word = g_internal[static_cast<std::size_t>(fd) / 64];
  if (on) {
    word.fetch_or(bit, std::memory_order_relaxed);
  } else {
    word.fetch_and(~bit, std::memory_order_relaxed);
  }
}

}  // namespace

int move_to_top(int fd) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const int soft =
      limit.rlim_cur > kHighestStart ? kHighestStart : static_cast<int>(limit.rlim_cur);
  const int start = soft > 2 * kTopRoom ? soft - kTopRoom : soft / 2;
  const int moved = libc().fcntl(fd, F_DUPFD_CLOEXEC, start);
  if (moved < 0) {
    mark_internal(fd, true);
    return fd;
  }
  libc().close(fd);
  mark_internal(moved, true);
  return moved;
}

bool is_internal_fd(int fd) {
  if (fd < 0 || fd >= kInternalBits) return false;
  const std::uint64_t word =
      g_internal[static_cast<std::size_t>(fd) / 64].load(std::memory_order_relaxed);
  return ((word >> (fd % 64)) & 1) != 0;
}

void close_internal(int fd) {
  if (fd < 0) return;
  mark_internal(fd, false);
  libc().close(fd);
}

int close_around_internal(unsigned first, unsigned last, int flags) {
  unsigned from = first;
  while (from <= last) {
    unsigned to = from;  // the next of ours, or the end
    while (to <= last && to < kInternalBits && !is_internal_fd(static_cast<int>(to))) ++to;
    const bool found = to <= last && to < kInternalBits;
    const unsigned end = found ? to : last;
    if (!found || to > from) {
      if (libc().close_range(from, found ? to - 1 : last, flags) != 0) return -errno;
    }
    if (end == ~0u || !found) break;
    from = to + 1;
  }
  return 0;
}

bool make_room(int fd) { return !is_internal_fd(fd); }

void forget_internal_fds() {
  for (std::size_t word = 0; word < g_internal.size(); ++word) {
    std::uint64_t bits = g_internal[word].exchange(0, std::memory_order_relaxed);
    for (; bits != 0; bits &= bits - 1) {
      libc().close(static_cast<int>(word * 64) + std::countr_zero(bits));
    }
  }
}

std::unique_ptr<ControlSocket> ControlSocket::open(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return nullptr;
  }
  std::memcpy(address.sun_path, path, std::strlen(path));
  const int fd = libc().socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return nullptr;
  const timeval limit{kAnswerSeconds, 0};
  libc().setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  libc().setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  if (libc().connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    const int saved = errno;
    libc().close(fd);
    errno = saved;
    return nullptr;
  }
  return std::unique_ptr<ControlSocket>(new ControlSocket(move_to_top(fd)));
}

bool ControlSocket::is_connection(int fd, const char* path) {
  sockaddr_un peer{};
  socklen_t length = sizeof(peer);
  return libc().getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0 &&
         peer.sun_family == AF_UNIX && std::strcmp(peer.sun_path, path) == 0;
}

ControlSocket::~ControlSocket() { ControlSocket::close(); }

void ControlSocket::close() {
  for (int* fd : {&fd_, &doorbell_, &guard_}) {
    close_internal(*fd);
    *fd = -1;
  }
}

void ControlSocket::set_doorbell(int fd) {
  doorbell_ = move_to_top(fd);
  // A read end of our own keeps a write after the engine's death from raising SIGPIPE. The path
  // also makes a description of our own, so that O_NONBLOCK is not shared with anybody.
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", doorbell_);
  const int reader = ::open(path.data(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (reader >= 0) guard_ = move_to_top(reader);
  libc().fcntl(doorbell_, F_SETFL, libc().fcntl(doorbell_, F_GETFL) | O_NONBLOCK);
}

void ControlSocket::ring() {
  const int saved = errno;
  sigset_t pipe_signal;
  sigset_t before;
  if (guard_ < 0) {
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  }
  const char byte = 0;
  // Full: a wake-up is under way. Broken: the engine is gone, which the life fd tells.
  const ssize_t n = plain_write(doorbell_, &byte, 1);
  if (guard_ < 0) {
    const timespec none{};
    if (n < 0 && errno == EPIPE) ::sigtimedwait(&pipe_signal, nullptr, &none);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  errno = saved;
}

bool ControlSocket::send(const Packet& packet) {
  iovec part{const_cast<std::uint8_t*>(packet.bytes.data()), packet.length};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * shm::kMaxShown)> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (packet.fd_count > 0) {
    message.msg_control = space.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * packet.fd_count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * packet.fd_count);
    std::memcpy(CMSG_DATA(header), packet.fds.data(), sizeof(int) * packet.fd_count);
  }
  ssize_t n;
  do {
    n = libc().sendmsg(fd_, &message, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n == static_cast<ssize_t>(packet.length);
}

bool ControlSocket::receive(Packet& packet) {
  iovec part{packet.bytes.data(), packet.bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * shm::kMaxShown)> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  ssize_t n;
  do {
    n = libc().recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  packet.fd_count = 0;
  if (n < static_cast<ssize_t>(sizeof(shm::MessageHeader))) return false;
  packet.length = static_cast<std::uint32_t>(n);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count && packet.fd_count < packet.fds.size(); ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      packet.add_fd(fd);
    }
  }
  return true;
}

}  // namespace toe::libtoe
