#include "libtoe/urgent_signal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "libtoe/libc.h"

namespace toe::libtoe {
namespace {

/// One for each owner that the process has named, at most so many: later ones get no signal.
struct Bell {
  f_owner_ex owner{};
  Attachment* attachment = nullptr;
  std::atomic<WaitContext*> waiter{nullptr};
};
std::array<Bell, 4> g_bells;
std::atomic<std::uint32_t> g_count{0};
Mutex g_mutex;
std::atomic_flag g_arming = ATOMIC_FLAG_INIT;

f_owner_ex owner_of(int fd) {
  f_owner_ex owner{F_OWNER_PID, 0};
  libc().fcntl(fd, F_GETOWN_EX, &owner);
  return owner;
}

bool same(const f_owner_ex& a, const f_owner_ex& b) { return a.type == b.type && a.pid == b.pid; }

void send_signal(const f_owner_ex& owner) {
  if (owner.type == F_OWNER_TID) {
    ::syscall(SYS_tkill, owner.pid, SIGURG);
  } else {
    ::kill(owner.type == F_OWNER_PGRP ? -owner.pid : owner.pid, SIGURG);
  }
}

// What is announced between the look at the hints and the new epoch rings nothing: the signal for
// it is sent here.
void arm(Bell& bell) {
  WaitContext* waiter = bell.waiter.load(std::memory_order_acquire);
  if (waiter == nullptr || !waiter->client().alive()) return;
  waiter->wake_up();
  waiter->drain_fds();
  waiter->drain([](Lane&, std::uint32_t) {});
  waiter->fall_asleep();
  if (waiter->pending()) send_signal(bell.owner);
}

// Holds g_mutex.
WaitContext* open_bell(Bell& bell, Attachment& attachment, const f_owner_ex& owner) {
  WaitContext* waiter = attachment.borrow();
  if (waiter == nullptr) return nullptr;
  bell.owner = owner;
  bell.attachment = &attachment;
  const int fd = waiter->doorbell_fd();
  libc().fcntl(fd, F_SETOWN_EX, &bell.owner);
  libc().fcntl(fd, F_SETSIG, SIGURG);
  libc().fcntl(fd, F_SETFL, libc().fcntl(fd, F_GETFL) | O_ASYNC);
  bell.waiter.store(waiter, std::memory_order_release);
  return waiter;
}

// Holds g_mutex. A bell of an engine that is gone is used again.
WaitContext* bell_for(Attachment& attachment, const f_owner_ex& owner) {
  for (Bell& bell : g_bells) {
    if (bell.attachment == &attachment && same(bell.owner, owner)) return bell.waiter.load();
  }
  for (Bell& bell : g_bells) {
    if (bell.attachment != nullptr && bell.attachment->client.alive()) continue;
    WaitContext* waiter = open_bell(bell, attachment, owner);
    if (waiter != nullptr) g_count.fetch_add(1);
    return waiter;
  }
  return nullptr;
}

// Holds g_mutex.
void withdraw(Socket& socket, Attachment& attachment) {
  Lane& home = socket.connection.home();
  for (Bell& bell : g_bells) {
    if (bell.attachment != &attachment) continue;
    Lane* lane = bell.waiter.load()->lane(home.segment());
    if (lane != nullptr) socket.connection.line().urgent_interest.fetch_and(~lane->bit());
  }
}

}  // namespace

void follow_owner(Socket& socket, int fd) {
  const int saved = errno;
  Attachment* attachment = socket.attachment.load(std::memory_order_acquire);
  if (attachment != nullptr && attachment->client.alive()) {
    const f_owner_ex owner = owner_of(fd);
    MutexLock lock(g_mutex);
    withdraw(socket, *attachment);
    WaitContext* waiter = owner.pid != 0 ? bell_for(*attachment, owner) : nullptr;
    Lane* lane = waiter != nullptr ? waiter->lane(socket.connection.home().segment()) : nullptr;
    if (lane != nullptr) {
      socket.connection.line().urgent_interest.fetch_or(lane->bit());
      waiter->fall_asleep();
    }
  }
  errno = saved;
}

void arm_urgent_bells() {
  if (g_count.load(std::memory_order_relaxed) == 0 || g_arming.test_and_set()) return;
  const int saved = errno;
  for (Bell& bell : g_bells) arm(bell);
  errno = saved;
  g_arming.clear();
}

void forget_urgent_bells() {
  g_mutex.reset();
  g_count.store(0);
  g_arming.clear();
  for (Bell& bell : g_bells) {
    bell.attachment = nullptr;
    bell.waiter.store(nullptr);
  }
}

}  // namespace toe::libtoe
