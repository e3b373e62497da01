#include "libtoe/epoll.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "libtoe/libc.h"
#include "libtoe/user_memory.h"

namespace toe::libtoe {
namespace {

constexpr std::uint32_t kAlways = EPOLLERR | EPOLLHUP;
/// A closed instance waits until this many others have been closed before it is used again.
constexpr std::uint32_t kCooling = 16;

Mutex g_pool_mutex;
Epoll* g_oldest = nullptr;
Epoll* g_newest = nullptr;
std::uint32_t g_free = 0;

}  // namespace

// --- ready list; mutex_ held ---

void Epoll::queue(EpollItem& item) {
  if (item.queued) return;
  item.queued = true;
  item.ready_next = nullptr;
  item.ready_prev = ready_tail_;
  (ready_tail_ != nullptr ? ready_tail_->ready_next : ready_head_) = &item;
  ready_tail_ = &item;
  ready_count_.fetch_add(1, std::memory_order_relaxed);
}

void Epoll::unqueue(EpollItem& item) {
  if (!item.queued) return;
  item.queued = false;
  (item.ready_prev != nullptr ? item.ready_prev->ready_next : ready_head_) = item.ready_next;
  (item.ready_next != nullptr ? item.ready_next->ready_prev : ready_tail_) = item.ready_prev;
  ready_count_.fetch_sub(1, std::memory_order_relaxed);
}

// --- watching lines; mutex_ held ---

bool Epoll::ensure_waiter(Attachment& attachment) {
  WaitContext* waiter = waiter_.load(std::memory_order_relaxed);
  if (waiter != nullptr && &waiter->client() == &attachment.client) return true;
  // A waiter of a dead engine is left to the threads that may still look at it.
  waiter = attachment.borrow();
  if (waiter != nullptr && exposed_.load(std::memory_order_relaxed)) show_doorbell(*waiter);
  waiter_.store(waiter, std::memory_order_release);
  return waiter != nullptr;
}

bool Epoll::watch(EpollItem& item) {
  Socket& socket = *item.socket;
  Attachment* attachment = socket.attachment.load(std::memory_order_acquire);
  if (attachment == nullptr || !ensure_waiter(*attachment)) return false;
  const bool listener = socket.role() == Role::kListener;
  Lane& home = listener ? socket.listener.lane() : socket.connection.lane();
  Lane* lane = waiter_.load(std::memory_order_relaxed)->lane(home.segment());
  if (lane == nullptr) return false;
  item.lane = lane;
  item.line = listener ? socket.listener.line_index() : socket.connection.line_index();
  LineItems*& map = by_line_[lane->segment().index];
  if (map == nullptr) {
    void* memory = ::mmap(nullptr, sizeof(LineItems), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    map = static_cast<LineItems*>(memory);
  }
  item.line_next = (*map)[item.line];
  (*map)[item.line] = &item;
  if (!listener) socket.connection.set_lane(lane);
  if ((item.events & EPOLLOUT) != 0) socket.out_mask.fetch_or(lane->bit());
  lane->segment().view.line(item.line).rx_interest.fetch_or(lane->bit());
  shm::full_fence();  // interest before the look that queue() leads to
  queue(item);
  return true;
}

void Epoll::unwatch(EpollItem& item) {
  if (item.lane == nullptr) return;
  EpollItem** link = &(*by_line_[item.lane->segment().index])[item.line];
  const bool alone = *link == &item && item.line_next == nullptr;
  while (*link != nullptr && *link != &item) link = &(*link)->line_next;
  if (*link == &item) *link = item.line_next;
  if (alone && item.socket->offloaded()) {
    shm::Line& line = item.lane->segment().view.line(item.line);
    line.rx_interest.fetch_and(~item.lane->bit(), std::memory_order_relaxed);
    line.tx_interest.fetch_and(~item.lane->bit(), std::memory_order_relaxed);
    item.socket->out_mask.fetch_and(~item.lane->bit(), std::memory_order_relaxed);
  }
  item.lane = nullptr;
}

void Epoll::take_hints() {
  WaitContext* waiter = waiter_.load(std::memory_order_relaxed);
  if (waiter == nullptr || !waiter->client().alive()) return;
  waiter->drain([this](Lane& lane, std::uint32_t line) {
    LineItems* map = by_line_[lane.segment().index];
    EpollItem* item = map != nullptr ? (*map)[line] : nullptr;
    for (; item != nullptr; item = item->line_next) queue(*item);
  });
}

// What the item has to report now. Arms the hint for space where EPOLLOUT is wanted and missing.
std::uint32_t Epoll::current(EpollItem& item) {
  if (item.disarmed || item.lane == nullptr) return 0;
  Socket& socket = *item.socket;
  const std::uint32_t wanted = item.events | kAlways;
  if (socket.role() == Role::kListener) {
    return socket.attachment.load() != nullptr && socket.listener.ready() ? wanted & EPOLLIN : 0;
  }
  if (socket.role() != Role::kConnection) return 0;
  Events events = socket.connection.readiness() & wanted;
  if ((item.events & EPOLLOUT) == 0) return events;
  auto& interest = socket.connection.line().tx_interest;
  if ((events & EPOLLOUT) == 0) {
    interest.fetch_or(item.lane->bit());
    shm::full_fence();
    events = socket.connection.readiness() & wanted;
  } else if ((interest.load(std::memory_order_relaxed) & item.lane->bit()) != 0) {
    interest.fetch_and(~item.lane->bit());
  }
  return events;
}

int Epoll::take_ready(std::span<epoll_event> out) {
  std::size_t filled = 0;
  std::uint32_t looks = ready_count_.load(std::memory_order_relaxed);
  while (looks-- > 0 && filled < out.size()) {
    EpollItem& item = *ready_head_;
    unqueue(item);
    const std::uint32_t events = current(item);
    if (events == 0) continue;
    out[filled].events = events;
    out[filled].data = item.data;
    ++filled;
    if ((item.events & EPOLLONESHOT) != 0) {
      item.disarmed = true;
    } else if ((item.events & EPOLLET) == 0) {
      queue(item);
    }
  }
  return static_cast<int>(filled);
}

// --- epoll_ctl ---

int Epoll::control(int op, Socket& socket, int fd, epoll_event* event) {
  if (op != EPOLL_CTL_DEL && !may_be_mapped(event)) return -EFAULT;
  MutexLock lock(socket.items_mutex);
  if (socket.closed()) return -EBADF;  // by another thread; drop_items() has been or waits here
  EpollItem* item = socket.items;
  while (item != nullptr && (item->epoll != this || item->fd != fd)) item = item->socket_next;
  switch (op) {
    case EPOLL_CTL_ADD:
      return item != nullptr ? -EEXIST : add(socket, fd, *event);
    case EPOLL_CTL_MOD:
      return item == nullptr ? -ENOENT : modify(*item, *event);
    case EPOLL_CTL_DEL:
      if (item == nullptr) return -ENOENT;
      if (item->in_kernel) libc().epoll_ctl(fd_, EPOLL_CTL_DEL, fd, event);
      remove(item);
      return 0;
    default:
      return -EINVAL;
  }
}

int Epoll::add(Socket& socket, int fd, const epoll_event& event) {
  const bool in_kernel = socket.role() != Role::kConnection;
  if (in_kernel) {
    epoll_event copy = event;
    if (libc().epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &copy) != 0) return -errno;
  }
  auto* item = new EpollItem;
  item->epoll = this;
  item->socket = &socket;
  item->fd = fd;
  item->events = event.events;
  item->data = event.data;
  item->in_kernel = in_kernel;
  bool watched = true;
  {
    MutexLock lock(mutex_);
    if (closed()) {  // by another thread; close_all() has been or waits here
      delete item;
      return -EBADF;
    }
    item->all_next = all_;
    if (all_ != nullptr) all_->all_prev = item;
    all_ = item;
    if (socket.offloaded()) watched = watch(*item);
  }
  item->socket_next = socket.items;
  socket.items = item;
  if (!watched && !in_kernel) {
    remove(item);
    return -ENOSPC;  // the engine has no context left: as when the kernel's watch limit is hit
  }
  wake_leader();
  return 0;
}

int Epoll::modify(EpollItem& item, const epoll_event& event) {
  if (((item.events | event.events) & EPOLLEXCLUSIVE) != 0) return -EINVAL;
  if (item.in_kernel) {
    epoll_event copy = event;
    if (libc().epoll_ctl(fd_, EPOLL_CTL_MOD, item.fd, &copy) != 0) return -errno;
  }
  {
    MutexLock lock(mutex_);
    item.events = event.events;
    item.data = event.data;
    item.disarmed = false;
    if (item.lane == nullptr) return 0;
    if ((event.events & EPOLLOUT) != 0) {
      item.socket->out_mask.fetch_or(item.lane->bit());
    } else if (item.line_next == nullptr) {
      item.socket->out_mask.fetch_and(~item.lane->bit());
    }
    queue(item);
  }
  wake_leader();
  return 0;
}

void Epoll::on_offload(EpollItem& item) {
  {
    MutexLock lock(mutex_);
    unwatch(item);  // of an engine that is gone
    watch(item);
  }
  wake_leader();
}

void Epoll::touch(EpollItem& item) {
  {
    MutexLock lock(mutex_);
    queue(item);
  }
  wake_leader();
}

void Epoll::remove(EpollItem* item) {
  EpollItem** link = &item->socket->items;
  while (*link != item) link = &(*link)->socket_next;
  *link = item->socket_next;
  {
    MutexLock lock(mutex_);
    unqueue(*item);
    unwatch(*item);
    (item->all_prev != nullptr ? item->all_prev->all_next : all_) = item->all_next;
    if (item->all_next != nullptr) item->all_next->all_prev = item->all_prev;
  }
  delete item;
}

void Epoll::close_all() {
  for (;;) {
    Socket* socket = nullptr;
    {
      MutexLock lock(mutex_);
      if (all_ == nullptr) break;
      socket = all_->socket;
    }
    MutexLock lock(socket->items_mutex);
    EpollItem* item = socket->items;
    while (item != nullptr && item->epoll != this) item = item->socket_next;
    if (item != nullptr) remove(item);
  }
  WaitContext* waiter = waiter_.exchange(nullptr);
  Runtime& runtime = Runtime::get();
  Attachment* attachment = runtime.current();
  if (waiter != nullptr && attachment != nullptr && &waiter->client() == &attachment->client) {
    // A thread that still sleeps on it keeps it: lent to another, it would have two sleepers.
    waiter->kick();
    if (leader_.load() == 0) {
      waiter->wake_up();
      attachment->give_back(waiter);
    }
  }
  {
    MutexLock lock(mutex_);
    drop_maps();
    nested_.clear();
    has_nested_.store(false);
  }
  next_free_ = nullptr;
  MutexLock lock(g_pool_mutex);
  (g_free++ == 0 ? g_oldest : g_newest->next_free_) = this;
  g_newest = this;
}

Epoll* Epoll::make(int fd) {
  Epoll* epoll = nullptr;
  {
    MutexLock lock(g_pool_mutex);
    if (g_free > kCooling) {
      epoll = g_oldest;
      g_oldest = epoll->next_free_;
      --g_free;
    }
  }
  if (epoll == nullptr) epoll = new Epoll;
  epoll->fd_.store(fd);
  epoll->since_kernel_ = 0;
  epoll->idle_since_ns_.store(-1);
  epoll->exposed_.store(false);
  epoll->open();
  return epoll;
}

void Epoll::reset_pool() {
  g_pool_mutex.reset();
  g_oldest = g_newest = nullptr;
  g_free = 0;
}

void Epoll::drop_maps() {
  for (LineItems*& map : by_line_) {
    if (map != nullptr) ::munmap(map, sizeof(LineItems));
    map = nullptr;
  }
}

void Epoll::after_fork_child() {
  mutex_.reset();
  waiter_.store(nullptr);
  leader_.store(0);
  followers_.store(0);
  for (EpollItem* item = all_; item != nullptr; item = item->all_next) {
    item->lane = nullptr;
    item->line_next = nullptr;
  }
  drop_maps();
}

// --- free functions ---

int epoll_control(int epfd, int op, int fd, epoll_event* event) {
  File* file = FdTable::get(epfd);
  File* member = FdTable::get(fd);
  Socket* socket = as_socket(member);
  if (file == nullptr || file->role() != Role::kEpoll || socket == nullptr) {
    if (libc().epoll_ctl(epfd, op, fd, event) != 0) return -errno;
    if (file != nullptr && member != nullptr && op == EPOLL_CTL_ADD) {
      static_cast<Epoll*>(file)->add_nested(fd, static_cast<Epoll&>(*member));
    }
    return 0;
  }
  return static_cast<Epoll*>(file)->control(op, *socket, fd, event);
}

void offload_items(Socket& socket, bool drop_kernel) {
  MutexLock lock(socket.items_mutex);
  for (EpollItem* item = socket.items; item != nullptr; item = item->socket_next) {
    if (drop_kernel && item->in_kernel) {
      epoll_event none{};
      libc().epoll_ctl(item->epoll->fd(), EPOLL_CTL_DEL, item->fd, &none);
      item->in_kernel = false;
    }
    item->epoll->on_offload(*item);
  }
}

void drop_items(Socket& socket) {
  MutexLock lock(socket.items_mutex);
  while (socket.items != nullptr) socket.items->epoll->remove(socket.items);
}

void touch_items(Socket& socket) {
  MutexLock lock(socket.items_mutex);
  for (EpollItem* item = socket.items; item != nullptr; item = item->socket_next) {
    item->epoll->touch(*item);
  }
}

void arm_writable(Socket& socket) {
  const std::uint64_t mask = socket.out_mask.load(std::memory_order_relaxed);
  if (mask == 0) return;
  socket.connection.line().tx_interest.fetch_or(mask);
  shm::full_fence();
}

}  // namespace toe::libtoe
