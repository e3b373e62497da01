#include "libtoe/socket.h"

#include <link.h>

#include <cerrno>
#include <string_view>

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
std::atomic<unsigned long long> g_loads_seen{0};  ///< libraries ever loaded, when last looked at

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

/// dl_iterate_phdr's callback: nonzero stops it, as nothing has been loaded since the last look.
int look_at_library(dl_phdr_info* library, std::size_t, void* loads) {
  if (library->dlpi_adds == g_loads_seen.load(std::memory_order_relaxed)) return 1;
  *static_cast<unsigned long long*>(loads) = library->dlpi_adds;
  const std::string_view path = library->dlpi_name;
  if (path.substr(path.rfind('/') + 1).starts_with("liburing.so")) note_io_uring();
  return 0;
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

// dlopen() with RTLD_NOLOAD would do, but it searches the file system: a hundred system calls per
// connect, and descriptors whose numbers another thread may be about to close.
bool io_uring_in_use() {
  if (g_io_uring.load(std::memory_order_relaxed)) return true;
  unsigned long long loads = 0;
  const bool looked = ::dl_iterate_phdr(&look_at_library, &loads) == 0;
  if (looked) g_loads_seen.store(loads, std::memory_order_relaxed);
  return g_io_uring.load(std::memory_order_relaxed);
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
