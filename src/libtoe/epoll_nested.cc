// An epoll instance inside another one, or in a poll set: the kernel does the nesting.
#include <algorithm>

#include "libtoe/epoll.h"
#include "libtoe/libc.h"

namespace toe::libtoe {
namespace {

/// Names our own descriptors among the events of a real epoll fd.
char g_own;

}  // namespace

// Looking consumes nothing: whatever is ready stays queued.
bool Epoll::any_ready() {
  MutexLock lock(mutex_);
  take_hints();
  for (EpollItem* item = ready_head_; item != nullptr; item = item->ready_next) {
    if (current(*item) != 0) return true;
  }
  return false;
}

void Epoll::show_doorbell(WaitContext& waiter) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &g_own;
  libc().epoll_ctl(fd_, EPOLL_CTL_ADD, waiter.doorbell_fd(), &event);
  libc().epoll_ctl(fd_, EPOLL_CTL_ADD, waiter.kick_fd(), &event);
  waiter.fall_asleep();  // no thread waits with it yet; what follows rings or kicks
}

void Epoll::add_nested(int fd, Epoll& inner) {
  inner.expose();
  MutexLock lock(mutex_);
  const auto same = std::find_if(nested_.begin(), nested_.end(),
                                 [fd](const auto& known) { return known.first == fd; });
  if (same != nested_.end()) {
    same->second = &inner;
  } else {
    nested_.emplace_back(fd, &inner);
  }
  has_nested_.store(true);
}

// The program may have read what made an inner instance readable: its real fd shall not be then.
void Epoll::settle_nested() {
  if (!has_nested_.load(std::memory_order_relaxed)) return;
  MutexLock lock(mutex_);  // the kernel forbids circles
  for (const auto& [fd, inner] : nested_) {
    inner->settle_nested();
    inner->settle();
  }
}

bool Epoll::expose() {
  settle_nested();
  if (!exposed_.load(std::memory_order_relaxed)) {
    {
      MutexLock lock(mutex_);
      WaitContext* waiter = waiter_.load(std::memory_order_relaxed);
      if (!exposed_.exchange(true) && waiter != nullptr) show_doorbell(*waiter);
    }
    settle();
  }
  return waiter_.load(std::memory_order_acquire) != nullptr;
}

bool Epoll::readable(bool kernel_says) {
  if (any_ready()) return true;
  if (!kernel_says) return false;
  settle();
  pollfd real{fd_, POLLIN, 0};
  return libc().poll(&real, 1, 0) > 0;
}

// Leaves the instance asleep: a hint that comes from now on rings the doorbell, and what is ready
// already makes the real fd readable. Not while another thread leads: that one does it.
void Epoll::settle() {
  WaitContext* waiter = waiter_.load(std::memory_order_acquire);
  if (waiter == nullptr || !waiter->client().alive() || !try_lead()) return;
  waiter->wake_up();
  waiter->drain_fds();
  waiter->fall_asleep();
  if (waiter->pending() || any_ready()) waiter->kick();
  stop_leading();
}

int Epoll::without_own(std::span<epoll_event> events) {
  if (!exposed_.load(std::memory_order_relaxed)) return static_cast<int>(events.size());
  std::size_t kept = 0;
  for (const epoll_event& event : events) {
    if (event.data.ptr != &g_own) events[kept++] = event;
  }
  if (kept != events.size()) settle();
  return static_cast<int>(kept);
}

}  // namespace toe::libtoe
