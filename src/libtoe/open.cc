#include "libtoe/open.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "libtoe/address.h"
#include "libtoe/blocking.h"
#include "libtoe/epoll.h"
#include "libtoe/libc.h"
#include "libtoe/limbo.h"
#include "libtoe/options.h"
#include "libtoe/stream.h"
#include "libtoe/urgent_signal.h"

namespace toe::libtoe {
namespace {

/// Reasons that lie in where the socket points, not in what the engine can do: free under strict.
bool elsewhere(shm::KernelReason reason) {
  switch (reason) {
    case shm::KernelReason::kNotTcp:
    case shm::KernelReason::kOtherNamespace:
    case shm::KernelReason::kNotOurAddress:
    case shm::KernelReason::kOtherDevice:
    case shm::KernelReason::kOwnAddress:
    case shm::KernelReason::kUnreachable:
      return true;
    default:
      return false;
  }
}

/// The kernel keeps the socket. 0, or the error that --strict demands.
int leave_to_kernel(Socket& socket, int fd, const char* call, shm::KernelReason reason) {
  Runtime& runtime = Runtime::get();
  if (reason == shm::KernelReason::kNoEngine) {
    if (Attachment* attachment = runtime.current(); attachment != nullptr) {
      runtime.note_death(*attachment);  // an exchange failed: the engine is gone or mute
    }
    runtime.complain_no_engine();
  } else {
    runtime.report(reason);
  }
  if (runtime.strict() && !elsewhere(reason)) {
    runtime.complain_strict(call, reason);
    return -EOPNOTSUPP;
  }
  // A listener is offered again when an engine comes; anything else is the kernel's for good.
  if (socket.role() == Role::kFresh && std::strcmp(call, "connect") == 0) {
    drop_items(socket);
    forget_fd(fd);
  }
  return 0;
}

void read_kernel_settings(Socket& socket, int fd) {
  SocketSettings& settings = socket.settings;
  settings.nonblocking.store((libc().fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  if (!socket.options_touched.load()) return;
  read_reuse(socket, fd);
  settings.recv_timeout_ns.store(kernel_timeout_ns(fd, SO_RCVTIMEO));
  settings.send_timeout_ns.store(kernel_timeout_ns(fd, SO_SNDTIMEO));
  socket.connection.set_low_water(kernel_low_water(fd));
}

int offer_listener(Attachment& attachment, Socket& socket, int fd) {
  shm::SocketOptions options{};
  if (io_uring_in_use()) return leave_to_kernel(socket, fd, "listen", shm::KernelReason::kIoUring);
  if (!read_options(socket, fd, options)) {
    return leave_to_kernel(socket, fd, "listen", shm::KernelReason::kOption);
  }
  const LineAnswer answer = attachment.client.listen(fd, socket.backlog, options);
  if (!answer.ok()) return leave_to_kernel(socket, fd, "listen", answer.reason);
  read_reuse(socket, fd);
  // Of a listener registered again the kernel's flag is the one set here before.
  if (socket.role() == Role::kFresh) read_kernel_settings(socket, fd);
  const int flags = libc().fcntl(fd, F_GETFL);
  libc().fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  if (!socket.become_listener(attachment, *answer.segment, answer.line)) {
    libc().fcntl(fd, F_SETFL, flags);
    return leave_to_kernel(socket, fd, "listen", shm::KernelReason::kLimit);
  }
  offload_items(socket, false);
  return 0;
}

/// As Linux: once the program knows that its attempt has failed it may make another.
int tell_result(Socket& socket, int result) {
  socket.connect_failed.store(result != 0);
  return result;
}

int finish_connect(Socket& socket) {
  if (socket.settings.nonblocking.load()) return -EINPROGRESS;
  Deadline deadline(socket.settings.send_timeout_ns.load());
  const int error = wait_for(socket, Want::kConnected, deadline);
  if (error != 0) return error == -EAGAIN ? -EINPROGRESS : error;
  socket.connect_pending.store(false);
  return tell_result(socket, socket.connection.connect_result());
}

/// The engine has answered with a line. 0, or a negative errno.
int begin_connection(Socket& socket, int fd, Attachment& attachment, const LineAnswer& answer) {
  if (!socket.become_connection(attachment, *answer.segment, answer.line)) return -ENOBUFS;
  socket.connect_pending.store(true);
  if (socket.owned.load()) follow_owner(socket, fd);
  offload_items(socket, true);
  if (!attachment.client.alive()) end_sockets_of(attachment);  // died since, without this one
  return 0;
}

/// What the program may have set while the attempt was under way stands in its line.
void carry_options(const shm::Line& line, shm::SocketOptions& to) {
  const auto flags = line.app_flags.load();
  to.app_flags = flags & (shm::kNoDelay | shm::kCork | shm::kKeepAlive | shm::kUrgentInline);
  to.keep_idle_s = line.keep_idle_s.load();
  to.keep_interval_s = line.keep_interval_s.load();
  to.keep_count = line.keep_count.load();
  to.user_timeout_ms = line.user_timeout_ms.load();
  to.linger_s = line.linger_s.load();
  to.rcvbuf = line.rcvbuf.load();
  to.sndbuf = line.sndbuf.load();
}

// The attempt before has failed and its line is over: a new one takes its place.
int connect_anew(Socket& socket, int fd, const sockaddr* address, socklen_t length) {
  shm::Connect request{};
  Attachment* attachment = socket.attachment.load();
  if (!to_mapped(address, length, request.remote_addr, request.remote_port)) return -EINVAL;
  if (attachment == nullptr || !attachment->client.alive()) return -ENETUNREACH;
  read_options(socket, fd, request.options);
  carry_options(socket.connection.line(), request.options);
  const LineAnswer answer = attachment->client.connect(fd, request);
  if (!answer.ok()) {  // the kernel socket is out of use: only the engine could serve it
    socket.connect_failed.store(true);
    return answer.error != 0 ? -answer.error : -ENETUNREACH;
  }
  Lane& home = socket.connection.home();
  const std::uint32_t line = socket.connection.line_index();
  const int error = begin_connection(socket, fd, *attachment, answer);
  if (error != 0) return error;
  home.post(line, shm::HintOp::kClose);  // behind the last use of the line that failed
  return finish_connect(socket);
}

// connect(2) on a socket that was offloaded before.
int connect_again(Socket& socket, int fd, const sockaddr* address, socklen_t length) {
  if (socket.role() == Role::kListener) return -EISCONN;
  if (socket.connect_failed.exchange(false)) return connect_anew(socket, fd, address, length);
  const int result = socket.connection.connect_result();
  if (result == -EINPROGRESS) {
    return socket.settings.nonblocking.load() ? -EALREADY : finish_connect(socket);
  }
  if (!socket.connect_pending.exchange(false)) return -EISCONN;
  return tell_result(socket, result);
}

bool explicitly_bound(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  if (libc().getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) return true;
  return port_of(name) != 0;
}

int offer_connect(Socket& socket, int fd, const sockaddr* address, socklen_t length) {
  shm::Connect request{};
  if (!to_mapped(address, length, request.remote_addr, request.remote_port)) return kLeaveToKernel;
  if (is_loopback(request.remote_addr)) return kLeaveToKernel;
  Attachment* attachment = Runtime::get().attachment();
  shm::KernelReason reason = shm::KernelReason::kNone;
  if (attachment == nullptr) {
    reason = shm::KernelReason::kNoEngine;
  } else if (io_uring_in_use()) {
    reason = shm::KernelReason::kIoUring;
  } else if (!read_options(socket, fd, request.options)) {
    reason = shm::KernelReason::kOption;
  } else if (explicitly_bound(fd)) {
    reason = shm::KernelReason::kBound;
  }
  LineAnswer answer;
  if (reason == shm::KernelReason::kNone) {
    answer = attachment->client.connect(fd, request);
    reason = answer.reason;
  }
  if (!answer.ok()) {
    if (answer.error != 0) return -answer.error;
    const int error = leave_to_kernel(socket, fd, "connect", reason);
    return error != 0 ? error : kLeaveToKernel;
  }
  read_kernel_settings(socket, fd);
  const int error = begin_connection(socket, fd, *attachment, answer);
  return error != 0 ? error : finish_connect(socket);
}

/// The new fd behind an accepted connection: a kernel socket whose cookie names it.
int make_placeholder(int family, int flags, std::uint64_t& cookie) {
  const int fd = libc().socket(family, SOCK_STREAM | (flags & (SOCK_CLOEXEC | SOCK_NONBLOCK)), 0);
  if (fd < 0) return -errno;
  socklen_t length = sizeof(cookie);
  if (libc().getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) {
    const int error = errno;
    libc().close(fd);
    return -error;
  }
  return fd;
}

int accept_from_engine(Socket& listening, sockaddr* address, socklen_t* length, int flags) {
  Attachment* attachment = listening.attachment.load(std::memory_order_acquire);
  if (attachment == nullptr || !listening.listener.ready()) return -EAGAIN;
  std::uint64_t cookie = 0;
  const int fd = make_placeholder(listening.family, flags, cookie);
  if (fd < 0) return fd;
  const auto line = listening.listener.take();
  if (!line) {  // another thread or process was faster
    libc().close(fd);
    return -EAGAIN;
  }
  Socket* socket = Socket::make(listening.family);
  socket->settings.nonblocking.store((flags & SOCK_NONBLOCK) != 0);
  socket->settings.inherit(listening.settings);
  socket->connection.set_low_water(listening.connection.low_water());
  socket->become_connection(*attachment, listening.listener.lane().segment(), *line);
  std::memcpy(socket->congestion, listening.congestion, sizeof(socket->congestion));
  listening.listener.accept(*line, cookie);
  // Before it has a number: with one, any thread may close it.
  if (address != nullptr) socket_name(*socket, true, address, length);
  if (!name_file(fd, *socket)) {
    libc().close(fd);
    return -EMFILE;
  }
  if (!attachment->client.alive()) end_sockets_of(*attachment);  // died since, without this one
  return fd;
}

int accept_from_kernel(int fd, sockaddr* address, socklen_t* length, int flags) {
  const int accepted = libc().accept4(fd, address, length, flags);
  return accepted >= 0 ? accepted : -errno;
}

// One attempt on both sides, beginning with each in turn.
int accept_once(Socket& socket, int fd, sockaddr* address, socklen_t* length, int flags) {
  const bool kernel_first = (socket.accept_turn.fetch_add(1, std::memory_order_relaxed) & 7) == 7;
  if (kernel_first) {
    const int accepted = accept_from_kernel(fd, address, length, flags);
    if (accepted != -EAGAIN) return accepted;
  }
  const int accepted = accept_from_engine(socket, address, length, flags);
  if (accepted != -EAGAIN || kernel_first) return accepted;
  return accept_from_kernel(fd, address, length, flags);
}

// An empty question is a barrier: behind its answer the engine's copy does not listen any more, and
// the program may listen on the port again at once.
void end_listening(Socket& socket, Attachment& attachment) {
  socket.listener.close();
  attachment.client.show({}, {});
}

// The engine's copy of a listener may outlive its program by a moment. So where a port is in use,
// an empty question is asked first: the engine answers it behind the ends of programs that it has
// seen.
template <typename Call>
int with_ports_settled(Call call) {
  if (call() == 0) return 0;
  const int error = errno;
  Attachment* attachment = Runtime::get().current();
  if (error != EADDRINUSE || attachment == nullptr || !attachment->client.show({}, {})) {
    return -error;
  }
  return call() == 0 ? 0 : -errno;
}

void close_socket(Socket& socket) {
  release_due();
  drop_items(socket);
  Attachment* attachment = socket.attachment.load(std::memory_order_acquire);
  const bool alive = attachment != nullptr && attachment->client.alive();
  if (alive && socket.waiting.load() != 0) attachment->kick_all();  // they find it closed
  if (alive && socket.role() == Role::kConnection) {
    const std::uint32_t linger = socket.connection.line().linger_s.load();
    // What another process still holds goes on. Unread input: an RST, at once.
    const bool last = socket.connection.line().holders.load(std::memory_order_relaxed) <= 1;
    if (linger > 1 && last && socket.connection.unread() == 0) {
      socket.connection.shut_write();
      Deadline deadline(std::int64_t{linger - 1} * 1'000'000'000);
      wait_for(socket, Want::kDrained, deadline);
    }
    const shm::HintOp op = linger == 1 ? shm::HintOp::kCloseReset : shm::HintOp::kClose;
    if (socket.passed.load()) {
      release_later(socket, op);
    } else {
      socket.connection.close(linger == 1);
    }
  } else if (alive && socket.role() == Role::kListener && socket.passed.load()) {
    release_later(socket, shm::HintOp::kClose);
  } else if (alive && socket.role() == Role::kListener) {
    end_listening(socket, *attachment);
  }
  Socket::recycle(&socket);
}

void drop(File& file) {
  if (!file.drop()) return;
  if (file.role() == Role::kEpoll) {
    static_cast<Epoll&>(file).close_all();
  } else {
    close_socket(static_cast<Socket&>(file));
  }
}

/// Keeps a file for one call, as the kernel does: another thread that closes its last number
/// meanwhile leaves the end to this call, which knows by then what there is to be closed.
class Kept {
 public:
  explicit Kept(File& file) : file_(file.hold() ? &file : nullptr) {}
  ~Kept() {
    if (file_ != nullptr) drop(*file_);
  }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  bool valid() const { return file_ != nullptr; }

 private:
  File* file_;
};

}  // namespace

bool name_file(int fd, File& file) {
  File* former = nullptr;
  const bool named = FdTable::set(fd, &file, former);
  if (!named) drop(file);
  // Closed behind our back by a raw system call, or two threads have changed the number at a time.
  if (former != nullptr) drop(*former);
  return named;
}

Socket* track(int fd, int family) {
  Socket* socket = Socket::make(family);
  return name_file(fd, *socket) ? socket : nullptr;
}

void note_socket(int fd, int domain, int type, int protocol) {
  const bool tcp = (domain == AF_INET || domain == AF_INET6) &&
                   (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
                   (protocol == 0 || protocol == IPPROTO_TCP);
  if (tcp && Runtime::get().own_process()) track(fd, domain);
}

void update_listener(Socket& socket, int fd) {
  Attachment* attachment = socket.attachment.load(std::memory_order_acquire);
  shm::SocketOptions options{};
  if (attachment == nullptr || !read_options(socket, fd, options)) return;
  attachment->client.listen(fd, socket.backlog, options);
}

int socket_bind(int fd, const sockaddr* address, socklen_t length) {
  return with_ports_settled([&] { return libc().bind(fd, address, length); });
}

int socket_listen(Socket& socket, int fd, int backlog) {
  if (socket.role() == Role::kConnection) return -EINVAL;
  const int listening = with_ports_settled([&] { return libc().listen(fd, backlog); });
  if (listening != 0) return listening;
  socket.backlog = static_cast<std::uint32_t>(std::max(backlog, 0));
  if (bound_to_loopback(fd)) return 0;
  if (socket.attachment.load() != nullptr) {  // listens already
    update_listener(socket, fd);
    return 0;
  }
  Attachment* attachment = Runtime::get().attachment();
  const int error = attachment == nullptr
                        ? leave_to_kernel(socket, fd, "listen", shm::KernelReason::kNoEngine)
                        : offer_listener(*attachment, socket, fd);
  if (error != 0) libc().shutdown(fd, SHUT_RD);
  return error;
}

int socket_connect(Socket& socket, int fd, const sockaddr* address, socklen_t length) {
  const Kept kept(socket);
  if (!kept.valid()) return -EBADF;
  if (socket.role() != Role::kFresh) return connect_again(socket, fd, address, length);
  return offer_connect(socket, fd, address, length);
}

int socket_accept(Socket& socket, int fd, sockaddr* address, socklen_t* length, int flags) {
  if (socket.role() != Role::kListener) return -EINVAL;
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return -EINVAL;
  Deadline deadline(socket.settings.recv_timeout_ns.load());
  release_due();
  for (;;) {
    const int accepted = accept_once(socket, fd, address, length, flags);
    if (accepted != -EAGAIN || socket.settings.nonblocking.load()) return accepted;
    const bool alone =
        socket.attachment.load() == nullptr && Runtime::get().attachment() == nullptr;
    const int error =
        alone ? wait_for_kernel(fd, deadline) : wait_for(socket, Want::kAcceptable, deadline, fd);
    if (error != 0) return error;
  }
}

int await_engine(int fd) {
  Socket* socket = as_socket(FdTable::get(fd));
  if (socket == nullptr || !waits_for_engine(*socket)) return 0;
  if (Runtime::get().attachment() != nullptr) return 0;
  read_kernel_settings(*socket, fd);
  if (socket->settings.nonblocking.load()) return 0;
  Deadline deadline(socket->settings.recv_timeout_ns.load());
  for (;;) {
    if (const int error = wait_for_kernel(fd, deadline); error != 0) return error;
    pollfd kernel{fd, POLLIN, 0};
    if (libc().poll(&kernel, 1, 0) != 0 || Runtime::get().attachment() != nullptr) return 0;
  }
}

int socket_shutdown(Socket& socket, int fd, int how) {
  if (socket.role() == Role::kListener) {
    if (how == SHUT_WR) return 0;
    if (libc().shutdown(fd, how) != 0) return -errno;
    if (Attachment* attachment = socket.attachment.load(); attachment != nullptr) {
      socket.set_attachment(nullptr);
      end_listening(socket, *attachment);
      touch_items(socket);
      attachment->kick_all();
    }
    return 0;
  }
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  if (socket.connection.connect_result_pending() || socket.connection.over()) return -ENOTCONN;
  if (how != SHUT_WR) socket.connection.shut_read();
  if (how != SHUT_RD) socket.connection.shut_write();
  touch_items(socket);
  if (Attachment* attachment = socket.attachment.load(); attachment != nullptr) {
    attachment->kick_all();
  }
  return 0;
}

void forget_fd(int fd) {
  if (FdTable::get(fd) == nullptr || !Runtime::get().own_process()) return;
  if (File* file = FdTable::clear(fd); file != nullptr) drop(*file);
}

void note_dup(int from, int to) {
  File* file = FdTable::get(from);
  if (file == nullptr || !Runtime::get().own_process()) return;
  if (!file->hold()) return;  // another thread has closed `from` since
  if (name_file(to, *file)) follow_standard_stream(to);
}

int socket_name(const Socket& socket, bool remote, sockaddr* address, socklen_t* length) {
  if (socket.role() != Role::kConnection) return kLeaveToKernel;
  const shm::Line& line = socket.connection.line();
  if (remote && (socket.connection.connect_result_pending() ||
                 line.state.load() == static_cast<std::uint32_t>(shm::LineState::kClosed))) {
    return -ENOTCONN;
  }
  const auto& bytes = remote ? line.remote_addr : line.local_addr;
  std::uint8_t raw[16];
  for (int i = 0; i < 16; ++i) raw[i] = bytes[i].load(std::memory_order_relaxed);
  const std::uint16_t port = remote ? line.remote_port.load() : line.local_port.load();
  return from_mapped(raw, port, socket.family, {address, length});
}

void offer_listeners(Attachment& attachment) {
  const int end = FdTable::end();
  for (int fd = 0; fd < end; ++fd) {
    Socket* socket = as_socket(FdTable::get(fd));
    if (socket == nullptr || socket->attachment.load() != nullptr || socket->backlog == 0) continue;
    if (socket->role() == Role::kConnection || bound_to_loopback(fd)) continue;
    offer_listener(attachment, *socket, fd);
  }
}

}  // namespace toe::libtoe
