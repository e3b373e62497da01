#include "engine/socket_io.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include <fmt/format.h>

namespace toe::engine {
namespace {

constexpr int kBacklog = 128;

Error failure(const std::string& what) {
  const int code = errno;
  return {code, fmt::format("{}: {}", what, std::strerror(code))};
}

Status set_access(const std::string& path, const SocketAccess& access) {
  if (!access.group.empty()) {
    const group* entry = ::getgrnam(access.group.c_str());
    if (entry == nullptr) return Error{EINVAL, "there is no group '" + access.group + "'"};
    if (::chown(path.c_str(), static_cast<uid_t>(-1), entry->gr_gid) != 0) {
      return failure("cannot set the group of " + path);
    }
  }
  if (::chmod(path.c_str(), access.mode) != 0) return failure("cannot set the mode of " + path);
  return Done{};
}

void take_fds(const msghdr& header, std::vector<UniqueFd>& fds) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr;
       c = CMSG_NXTHDR(const_cast<msghdr*>(&header), c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<UniqueFd> open_control_socket(const std::string& path, const SocketAccess& access) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path) {
    return Error{ENAMETOOLONG, "the path of the control socket is too long: " + path};
  }
  std::memcpy(name.sun_path, path.c_str(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return failure("cannot make the control socket");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failure("cannot remove " + path);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    return failure("cannot bind " + path);
  }
  Status status = set_access(path, access);
  if (!status.ok()) return status.error();
  if (::listen(fd.get(), kBacklog) != 0) return failure("cannot listen on " + path);
  return fd;
}

void receive_packet(int socket, Packet& packet) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * shm::kMaxShown)];
  iovec part{packet.bytes, sizeof packet.bytes};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  packet.fds.clear();
  packet.length = 0;
  const ssize_t got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) {
    const bool later = errno == EAGAIN || errno == EINTR;
    packet.kind = later ? Packet::Kind::kNothing : Packet::Kind::kEnd;
    return;
  }
  take_fds(header, packet.fds);
  packet.length = static_cast<std::size_t>(got);
  packet.kind = got == 0 ? Packet::Kind::kEnd : Packet::Kind::kMessage;
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) packet.kind = Packet::Kind::kBroken;
}

bool send_packet(int socket, std::span<const std::uint8_t> message, std::span<const int> fds) {
  constexpr std::size_t kMaxFds = 4;
  TOE_CHECK(fds.size() <= kMaxFds);
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)] = {};
  iovec part{const_cast<std::uint8_t*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  return ::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(message.size());
}

}  // namespace toe::engine
