#include "libtoe/inherit.h"

#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <vector>

#include "libtoe/control_socket.h"
#include "libtoe/epoll.h"
#include "libtoe/internal_fds.h"
#include "libtoe/libc.h"
#include "libtoe/open.h"
#include "libtoe/passed_fds.h"
#include "libtoe/socket.h"
#include "libtoe/stream.h"

namespace toe::libtoe {
namespace {

int socket_int(int fd, int name) {
  int value = -1;
  socklen_t length = sizeof(value);
  return libc().getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

bool is_tcp(int fd) {
  const int saved = errno;
  const bool tcp =
      socket_int(fd, SO_PROTOCOL) == IPPROTO_TCP && socket_int(fd, SO_TYPE) == SOCK_STREAM;
  errno = saved;
  return tcp;
}

struct Batch {
  std::array<int, shm::kMaxShown> fds{};
  std::array<ShownSocket, shm::kMaxShown> answers{};
  std::size_t count = 0;

  bool full() const { return count == fds.size(); }
  void add(int fd) { fds[count++] = fd; }
  bool ask(Attachment& attachment) {
    return count > 0 && attachment.client.show({fds.data(), count}, {answers.data(), count});
  }
};

void become(Socket& socket, int fd, const ShownSocket& shown, Attachment& attachment) {
  socket.settings.nonblocking.store((libc().fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  if (shown.kind == shm::ShownKind::kConnection) {
    socket.become_connection(attachment, *shown.segment, shown.line);
  } else if (shown.kind == shm::ShownKind::kListener) {
    // Which flag the program gave it was not passed on: blocking, as sockets begin.
    socket.settings.nonblocking.store(false);
    socket.backlog = 1;
    socket.become_listener(attachment, *shown.segment, shown.line);
  }
}

void show_batch(Batch& batch, Attachment& attachment) {
  if (batch.ask(attachment)) {
    for (std::size_t i = 0; i < batch.count; ++i) {
      Socket* socket = as_socket(FdTable::get(batch.fds[i]));
      if (socket == nullptr) socket = track(batch.fds[i], socket_int(batch.fds[i], SO_DOMAIN));
      if (socket == nullptr || batch.answers[i].kind == shm::ShownKind::kKernel) continue;
      become(*socket, batch.fds[i], batch.answers[i], attachment);
    }
  }
  batch.count = 0;
}

/// A connection of the parent that the engine did not give the child: it has ended for us.
void end_here(Socket& socket) {
  static shm::Line gone;
  gone.flags.store(shm::LineFlag::kReset);
  gone.error.store(ECONNRESET);
  gone.state.store(static_cast<std::uint32_t>(shm::LineState::kClosed));
  socket.set_attachment(nullptr);
  socket.connection.detach(&gone);
}

void adopt_batch(Batch& batch, Attachment* attachment) {
  const bool answered = attachment != nullptr && batch.ask(*attachment);
  for (std::size_t i = 0; i < batch.count; ++i) {
    Socket& socket = *as_socket(FdTable::get(batch.fds[i]));
    const bool given = answered && batch.answers[i].kind != shm::ShownKind::kKernel;
    if (given && socket.role() == Role::kConnection) {
      socket.become_connection(*attachment, *batch.answers[i].segment, batch.answers[i].line);
    } else if (given) {
      socket.become_listener(*attachment, *batch.answers[i].segment, batch.answers[i].line);
    } else if (socket.role() == Role::kConnection) {
      end_here(socket);
    } else {
      socket.set_attachment(nullptr);
    }
    offload_items(socket, false);
  }
  batch.count = 0;
}

}  // namespace

void show_inherited(Attachment& attachment, const char* path) {
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return;
  Batch batch;
  std::vector<int> left_open;
  while (const dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    const int fd = static_cast<int>(std::strtol(entry->d_name, nullptr, 10));
    if (is_internal_fd(fd) || fd == ::dirfd(directory)) continue;
    if (ControlSocket::is_connection(fd, path)) left_open.push_back(fd);
    if (!is_tcp(fd)) continue;
    batch.add(fd);
    if (batch.full()) show_batch(batch, attachment);
  }
  ::closedir(directory);
  show_batch(batch, attachment);
  for (const int fd : left_open) libc().close(fd);
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) follow_standard_stream(fd);
}

KeepOverExec::KeepOverExec() {
  Attachment* attachment = Runtime::get().current();
  if (attachment == nullptr || !any_socket_offloaded()) return;
  const int end = FdTable::end();
  for (int fd = 0; fd < end && fd_ < 0; ++fd) {
    File* file = FdTable::get(fd);
    if (file == nullptr || !file->offloaded()) continue;
    const int flags = libc().fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) fd_ = attachment->client.link().life_fd();
  }
  if (fd_ >= 0) libc().fcntl(fd_, F_SETFD, 0);
}

KeepOverExec::~KeepOverExec() {
  if (fd_ >= 0) libc().fcntl(fd_, F_SETFD, FD_CLOEXEC);
}

void show_received(const msghdr& message) {
  Attachment* attachment = Runtime::get().current();
  if (attachment == nullptr || message.msg_controllen == 0) return;
  Batch batch;
  for_each_passed_fd(message, [&](int fd) {
    if (!is_tcp(fd)) return;
    batch.add(fd);
    if (batch.full()) show_batch(batch, *attachment);
  });
  show_batch(batch, *attachment);
}

void adopt_after_fork(Attachment& parents) {
  parents.client.mark_dead();  // for this process; the parent has its own copy of that word
  bool any = false;
  const int end = FdTable::end();
  for (int fd = 0; fd < end; ++fd) {
    File* file = FdTable::get(fd);
    if (file == nullptr) continue;
    if (file->role() == Role::kEpoll) {
      static_cast<Epoll*>(file)->after_fork_child();
    } else {
      static_cast<Socket*>(file)->items_mutex.reset();
      any = any || static_cast<Socket*>(file)->attachment.load() == &parents;
    }
  }
  if (!any) return;
  Attachment* attachment = Runtime::get().attachment();
  Batch batch;
  for (int fd = 0; fd < end; ++fd) {
    Socket* socket = as_socket(FdTable::get(fd));
    if (socket == nullptr || socket->attachment.load() != &parents) continue;
    batch.add(fd);
    if (batch.full()) adopt_batch(batch, attachment);
  }
  adopt_batch(batch, attachment);
}

}  // namespace toe::libtoe
