#include "libtoe/socket.h"

#include <dlfcn.h>

#include <cerrno>

#include "libtoe/epoll.h"

namespace toe::libtoe {
namespace {

/// A freed socket waits until this many others have been freed, so that a call that still holds
/// it (a program racing close with recv) does not meet another connection.
constexpr std::uint32_t kCooling = 256;

Mutex g_pool_mutex;
Socket* g_oldest = nullptr;
Socket* g_newest = nullptr;
std::uint32_t g_free = 0;
std::atomic<bool> g_any_offloaded{false};
std::atomic<bool> g_io_uring{false};

void reset(Socket& socket) {
  socket.settings.nonblocking.store(false, std::memory_order_relaxed);
  socket.settings.recv_timeout_ns.store(-1, std::memory_order_relaxed);
  socket.settings.send_timeout_ns.store(-1, std::memory_order_relaxed);
  socket.settings.reuse_addr.store(false, std::memory_order_relaxed);
  socket.settings.reuse_port.store(false, std::memory_order_relaxed);
  socket.options_touched.store(false, std::memory_order_relaxed);
  socket.needs_kernel.store(false, std::memory_order_relaxed);
  socket.owned.store(false, std::memory_order_relaxed);
  socket.congestion[0] = 0;
  socket.backlog = 0;
  socket.connect_pending.store(false, std::memory_order_relaxed);
  socket.connect_failed.store(false, std::memory_order_relaxed);
  socket.connection.set_low_water(1);
  socket.passed.store(false, std::memory_order_relaxed);
  socket.out_mask.store(0, std::memory_order_relaxed);
}

}  // namespace

Socket* Socket::make(int family) {
  Socket* socket = nullptr;
  {
    MutexLock lock(g_pool_mutex);
    if (g_free > kCooling) {
      socket = g_oldest;
      g_oldest = socket->next_free;
      --g_free;
    }
  }
  if (socket == nullptr) socket = new Socket;
  reset(*socket);
  socket->family = family;
  socket->set_role(Role::kFresh);
  socket->open();
  return socket;
}

void Socket::lock_pool() { g_pool_mutex.lock(); }
void Socket::unlock_pool() { g_pool_mutex.unlock(); }

void Socket::recycle(Socket* socket) {
  socket->set_role(Role::kFresh);
  socket->set_attachment(nullptr);
  socket->next_free = nullptr;
  MutexLock lock(g_pool_mutex);
  if (g_free++ == 0) {
    g_oldest = socket;
  } else {
    g_newest->next_free = socket;
  }
  g_newest = socket;
}

bool io_uring_in_use() {
  if (g_io_uring.load(std::memory_order_relaxed)) return true;
  void* library = ::dlopen("liburing.so.2", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  ::dlclose(library);
  note_io_uring();
  return true;
}

void note_io_uring() { g_io_uring.store(true, std::memory_order_relaxed); }

bool any_socket_offloaded() { return g_any_offloaded.load(std::memory_order_relaxed); }

void Socket::set_attachment(Attachment* to) {
  if (to != nullptr) to->add_socket();
  Attachment* from = attachment.exchange(to, std::memory_order_acq_rel);
  if (from != nullptr) from->drop_socket();
}

bool Socket::become_connection(Attachment& to, MappedSegment& segment, std::uint32_t line) {
  Lane* lane = to.home.lane(segment);
  if (lane == nullptr) return false;
  connection.attach(lane, line);
  set_attachment(&to);
  g_any_offloaded.store(true, std::memory_order_relaxed);
  set_role(Role::kConnection);
  return true;
}

bool Socket::become_listener(Attachment& to, MappedSegment& segment, std::uint32_t line) {
  Lane* lane = to.home.lane(segment);
  if (lane == nullptr) return false;
  listener.attach(lane, line);
  set_attachment(&to);
  g_any_offloaded.store(true, std::memory_order_relaxed);
  set_role(Role::kListener);
  return true;
}

void end_sockets_of(Attachment& dead) {
  const int end = FdTable::end();
  for (int fd = 0; fd < end; ++fd) {
    Socket* socket = as_socket(FdTable::get(fd));
    if (socket == nullptr || socket->attachment.load(std::memory_order_relaxed) != &dead) continue;
    if (socket->role() == Role::kConnection) {
      // The engine writes no more; what it would have said of its end is said here.
      shm::Line& line = socket->connection.line();
      if (line.error.load(std::memory_order_relaxed) == 0) {
        line.error.store(ECONNRESET, std::memory_order_relaxed);
      }
      line.flags.fetch_or(shm::LineFlag::kReset, std::memory_order_release);
      line.state.store(static_cast<std::uint32_t>(shm::LineState::kClosed),
                       std::memory_order_release);
    } else if (socket->role() == Role::kListener) {
      socket->set_attachment(nullptr);
    }
    touch_items(*socket);
  }
  dead.kick_all();
  dead.release_if_unused();
}

}  // namespace toe::libtoe
