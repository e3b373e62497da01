#include "cli/engine_client.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "base/unique_fd.h"

namespace toe::cli {
namespace {

constexpr int kPatienceMs = 10'000;  ///< a dump of many connections takes a while
constexpr std::uint64_t kMaxReplyBytes = 1ull << 30;

std::string environment(const char* name, const char* otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? text : otherwise;
}

Error no_engine(const std::string& name) {
  return {ENOENT, fmt::format("no engine named '{}' is running", name)};
}

Result<UniqueFd> connect_engine(const std::string& name) {
  const std::string path = socket_path(name);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Error{ENAMETOOLONG, "path too long: " + path};
  std::memcpy(address.sun_path, path.c_str(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error{errno, std::string("no socket: ") + std::strerror(errno)};
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) return no_engine(name);
    return Error{errno,
                 fmt::format("cannot reach the engine at {}: {}", path, std::strerror(errno))};
  }
  return fd;
}

/// The reply and the descriptor that came with it.
Result<shm::AdminReply> receive_reply(int socket, UniqueFd& file) {
  pollfd wait{socket, POLLIN, 0};
  if (::poll(&wait, 1, kPatienceMs) != 1) return Error{ETIMEDOUT, "the engine does not answer"};
  shm::AdminReply reply{};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{&reply, sizeof reply};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  if (::recvmsg(socket, &header, MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(sizeof reply)) {
    return Error{EPROTO, "the engine ended the connection"};
  }
  const cmsghdr* c = CMSG_FIRSTHDR(&header);
  if (c != nullptr && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
    file.reset(fd);
  }
  return reply;
}

Result<std::string> read_text(const UniqueFd& file, std::uint64_t bytes) {
  if (!file.valid() || bytes > kMaxReplyBytes)
    return Error{EPROTO, "the engine's answer is broken"};
  std::string text(bytes, '\0');
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t n =
        ::pread(file.get(), text.data() + done, bytes - done, static_cast<off_t>(done));
    if (n <= 0) return Error{EPROTO, "the engine's answer is cut short"};
    done += static_cast<std::size_t>(n);
  }
  return text;
}

}  // namespace

std::string socket_path(const std::string& name) {
  return environment("FLEXTOE_RUNDIR", "/run/flextoe") + "/" + name + ".sock";
}

std::string engine_name(const std::string& given) {
  return given.empty() ? environment("FLEXTOE_NAME", "default") : given;
}

Result<std::string> ask_engine(const std::string& name, shm::AdminVerb verb, std::uint32_t flags) {
  Result<UniqueFd> socket = connect_engine(name);
  if (!socket.ok()) return socket.error();
  shm::Admin question{};
  question.header = {shm::MessageType::kAdmin, sizeof question, 1};
  question.verb = verb;
  question.flags = flags;
  if (::send(socket.value().get(), &question, sizeof question, MSG_NOSIGNAL) !=
      static_cast<ssize_t>(sizeof question)) {
    return Error{errno, std::string("cannot ask the engine: ") + std::strerror(errno)};
  }
  UniqueFd file;
  Result<shm::AdminReply> reply = receive_reply(socket.value().get(), file);
  if (!reply.ok()) return reply.error();
  if (reply.value().error == EPERM) {
    return Error{EPERM, "only root and the engine's user may ask this"};
  }
  if (reply.value().error != 0) {
    return Error{reply.value().error,
                 std::string("the engine refused: ") + std::strerror(reply.value().error)};
  }
  return read_text(file, reply.value().bytes);
}

Status reach_engine(const std::string& name) {
  Result<UniqueFd> socket = connect_engine(name);
  return socket.ok() ? Status(Done{}) : socket.error();
}

}  // namespace toe::cli
