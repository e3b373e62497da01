// A TCP socket of the program: fresh, a listener, or a connection. The calls here are POSIX calls
// with their blocking, errors as negative errno values.
//
// Thread: any.
#ifndef TOE_LIBTOE_SOCKET_H_
#define TOE_LIBTOE_SOCKET_H_

#include <sys/socket.h>

#include <atomic>
#include <cstdint>

#include "libtoe/connection.h"
#include "libtoe/file.h"
#include "libtoe/listener.h"
#include "libtoe/mutex.h"
#include "libtoe/runtime.h"

namespace toe::libtoe {

struct EpollItem;

/// Options that an accepted socket takes over from its listener and that no line word holds.
struct SocketSettings {
  std::atomic<bool> nonblocking{false};
  std::atomic<std::int64_t> recv_timeout_ns{-1};  ///< -1: none
  std::atomic<std::int64_t> send_timeout_ns{-1};
  std::atomic<bool> reuse_addr{false};
  std::atomic<bool> reuse_port{false};

  void inherit(const SocketSettings& listener) {
    recv_timeout_ns.store(listener.recv_timeout_ns.load());
    send_timeout_ns.store(listener.send_timeout_ns.load());
    reuse_addr.store(listener.reuse_addr.load());
    reuse_port.store(listener.reuse_port.load());
  }
};

class Socket : public File {
 public:
  Socket() : File(Role::kFresh) {}
  /// A blank socket from the pool, held for its first fd; give it back with recycle() when it has
  /// been dropped by the last one.
  static Socket* make(int family);
  static void recycle(Socket* socket);
  /// Around fork: the child must not find the pool half changed.
  static void lock_pool();
  static void unlock_pool();

  /// Becomes the connection `line` of `segment`. False: the engine gives no context.
  bool become_connection(Attachment& attachment, MappedSegment& segment, std::uint32_t line);
  bool become_listener(Attachment& attachment, MappedSegment& segment, std::uint32_t line);

  /// Belongs to `to` (null: to none) from now on.
  void set_attachment(Attachment* to);

  Connection connection;
  Listener listener;
  SocketSettings settings;
  std::atomic<Attachment*> attachment{nullptr};  ///< changed by set_attachment() only
  int family = AF_INET;

  // Fresh sockets and listeners: what the program did to the kernel socket.
  std::atomic<bool> options_touched{false};  ///< setsockopt was called: read options back
  std::atomic<bool> needs_kernel{false};     ///< an option that only the kernel has
  std::atomic<bool> owned{false};            ///< F_SETOWN was called
  char congestion[16] = {};                  ///< TCP_CONGESTION as set, "" = default
  std::uint32_t backlog = 0;
  std::atomic<std::uint32_t> accept_turn{0};
  std::atomic<bool> connect_pending{false};  ///< connect() in progress, result not yet told
  std::atomic<bool> connect_failed{false};   ///< the program knows: it may try again
  std::atomic<std::uint32_t> waiting{0};     ///< threads that sleep in a call on it
  std::atomic<bool> passed{false};           ///< was sent to another process (limbo.h)

  // Epoll instances that watch it (epoll.h).
  Mutex items_mutex;
  EpollItem* items = nullptr;
  std::atomic<std::uint64_t> out_mask{0};  ///< context bits of watchers that want EPOLLOUT
  Socket* next_free = nullptr;
};

inline Socket* as_socket(File* file) {
  return file != nullptr && file->role() != Role::kEpoll ? static_cast<Socket*>(file) : nullptr;
}
/// The engine's socket behind `fd`, or null: then libc serves the call.
inline Socket* offloaded_socket(int fd) {
  File* file = FdTable::get(fd);
  return file != nullptr && file->offloaded() ? static_cast<Socket*>(file) : nullptr;
}
inline Socket* offloaded_connection(int fd) {
  File* file = FdTable::get(fd);
  return file != nullptr && file->role() == Role::kConnection ? static_cast<Socket*>(file)
                                                              : nullptr;
}

/// A listener that the kernel serves and an engine may, once there is one.
inline bool waits_for_engine(const File& file) {
  if (file.role() != Role::kFresh && file.role() != Role::kListener) return false;
  const auto& socket = static_cast<const Socket&>(file);
  return socket.backlog != 0 && socket.attachment.load() == nullptr;
}

/// True once a socket of this process has been offloaded.
bool any_socket_offloaded();
/// A ring of io_uring would act on the kernel sockets behind our back: such a program's sockets
/// stay with the kernel. True after note_io_uring(), or with liburing loaded.
bool io_uring_in_use();
void note_io_uring();

/// Marks the engine's connections as reset and its listeners as the kernel's alone, and wakes who
/// waits for them.
void end_sockets_of(Attachment& attachment);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_SOCKET_H_
