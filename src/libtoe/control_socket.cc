#include "libtoe/control_socket.h"

#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "libtoe/cancel.h"
#include "libtoe/internal_fds.h"
#include "libtoe/libc.h"
#include "libtoe/passed_fds.h"

namespace toe::libtoe {
namespace {

/// An engine that does not answer for this long counts as gone.
constexpr time_t kAnswerSeconds = 5;

bool brings_fds(shm::MessageType type) {
  return type == shm::MessageType::kWelcome || type == shm::MessageType::kSegment ||
         type == shm::MessageType::kContextReady;
}

}  // namespace

std::unique_ptr<ControlSocket> ControlSocket::open(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return nullptr;
  }
  std::memcpy(address.sun_path, path, std::strlen(path));
  const int fd =
      make_internal([] { return libc().socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0); });
  if (fd < 0) return nullptr;
  const timeval limit{kAnswerSeconds, 0};
  libc().setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  libc().setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  if (libc().connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    const int saved = errno;
    close_internal(fd);
    errno = saved;
    return nullptr;
  }
  return std::unique_ptr<ControlSocket>(new ControlSocket(fd));
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
  doorbell_ = fd;
  // A read end of our own keeps a write after the engine's death from raising SIGPIPE. The path
  // also makes a description of our own, so that O_NONBLOCK is not shared with anybody.
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", doorbell_);
  guard_ =
      make_internal([&path] { return ::open(path.data(), O_RDONLY | O_NONBLOCK | O_CLOEXEC); });
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

Exchange ControlSocket::send(const Packet& packet) {
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
  if (n == static_cast<ssize_t>(packet.length)) return Exchange::kDone;
  const bool refused = errno == EBADF || errno == ETOOMANYREFS || errno == ENOMEM ||
                       errno == ENOBUFS || errno == EMFILE;
  return refused ? Exchange::kNotSent : Exchange::kGone;
}

// Waits for the next message and looks at its type, without taking it.
bool ControlSocket::await(shm::MessageType& type) {
  shm::MessageHeader header{};
  ssize_t n;
  do {
    n = libc().recv(fd_, &header, sizeof header, MSG_PEEK);
  } while (n < 0 && errno == EINTR);
  type = header.type;
  return n == static_cast<ssize_t>(sizeof header);
}

bool ControlSocket::receive(Packet& packet) {
  shm::MessageType type{};
  packet.fd_count = 0;
  if (!await(type)) return false;
  std::optional<FdBirth> birth;
  if (brings_fds(type)) birth.emplace();
  iovec part{packet.bytes.data(), packet.bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * shm::kMaxShown)> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  const ssize_t n = libc().recvmsg(fd_, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < static_cast<ssize_t>(sizeof(shm::MessageHeader))) return false;
  packet.length = static_cast<std::uint32_t>(n);
  for_each_passed_fd(message, [&packet](int fd) {
    const int moved = move_to_top(fd);
    if (packet.fd_count < packet.fds.size()) {
      packet.add_fd(moved);
    } else {
      close_internal(moved);
    }
  });
  return true;
}

}  // namespace toe::libtoe
