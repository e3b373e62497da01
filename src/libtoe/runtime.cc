#include "libtoe/runtime.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "libtoe/control_socket.h"
#include "libtoe/epoll.h"
#include "libtoe/inherit.h"
#include "libtoe/internal_fds.h"
#include "libtoe/libc.h"
#include "libtoe/limbo.h"
#include "libtoe/open.h"
#include "libtoe/socket.h"
#include "libtoe/stream.h"
#include "libtoe/urgent_signal.h"
#include "shm/kernel_reason.h"

namespace toe::libtoe {
namespace {

constexpr std::int64_t kRetryNs = 1'000'000'000;
/// Blocking calls with a context each, of the 64 that a segment has.
constexpr std::uint32_t kCallWaiters = 32;
constexpr int kForkWaitMs = 2000;  ///< a child that is not done by then is left to itself

const char* setting(const char* name, const char* fallback) {
  const char* value = ::secure_getenv(name);
  return value != nullptr && *value != 0 ? value : fallback;
}

void print_line(const char* line) {
  const int saved = errno;
  [[maybe_unused]] const ssize_t n = libc().write(STDERR_FILENO, line, std::strlen(line));
  errno = saved;
}

}  // namespace

// --- Attachment ---

WaitContext* Attachment::borrow() {
  {
    MutexLock lock(mutex_);
    if (!idle_.empty()) {
      WaitContext* waiter = idle_.back();
      idle_.pop_back();
      return waiter;
    }
    if (none_left_until_ns_ != 0 && now_ns() < none_left_until_ns_) return nullptr;
  }
  auto* waiter = new WaitContext(client);
  const bool opened =
      client.segments().count() != 0 && waiter->lane(*client.segments().at(0)) != nullptr;
  MutexLock lock(mutex_);
  if (opened) {
    all_.push_back(waiter);
    return waiter;
  }
  none_left_until_ns_ = now_ns() + kRetryNs;
  delete waiter;
  return nullptr;
}

void Attachment::give_back(WaitContext* waiter) {
  MutexLock lock(mutex_);
  idle_.push_back(waiter);
}

void Attachment::kick_all() {
  crowd.kick_all();
  MutexLock lock(mutex_);
  for (WaitContext* waiter : all_) waiter->kick();
}

void Attachment::release_if_unused() {
  if (!client.alive() && sockets_.load(std::memory_order_acquire) == 0) client.segments().vacate();
}

void Attachment::retire() {
  MutexLock lock(mutex_);
  client.link().close();
  home.close_fds();
  crowd.close_fds();
  for (WaitContext* waiter : all_) waiter->close_fds();
}

CallWaiter::CallWaiter(Attachment& attachment)
    : attachment_(attachment), on_cancel_(&CallWaiter::give_back, this) {
  if (attachment.calls_.fetch_add(1, std::memory_order_relaxed) < kCallWaiters) {
    waiter_ = attachment.borrow();
  }
}

CallWaiter::~CallWaiter() { give_back(this); }

void CallWaiter::give_back(void* self) {
  auto& call = *static_cast<CallWaiter*>(self);
  call.attachment_.calls_.fetch_sub(1, std::memory_order_relaxed);
  if (call.waiter_ == nullptr) return;
  call.waiter_->wake_up();
  call.attachment_.give_back(call.waiter_);
}

// --- Runtime ---

Runtime& Runtime::get() {
  // Never destroyed: the program's exit handlers may still use sockets.
  alignas(Runtime) static std::array<std::byte, sizeof(Runtime)> memory;
  static Runtime* runtime = new (memory.data()) Runtime;
  return *runtime;
}

void Runtime::start() {
  MutexLock lock(mutex_);
  if (started_) return;
  started_ = true;
  pid_ = ::getpid();
  FdTable::start();
  const char* name = setting("FLEXTOE_NAME", "default");
  std::snprintf(name_.data(), name_.size(), "%s", name);
  std::snprintf(path_.data(), path_.size(), "%s/%s.sock", setting("FLEXTOE_RUNDIR", "/run/flextoe"),
                name);
  strict_ = std::strcmp(setting("FLEXTOE_STRICT", "0"), "1") == 0;
  if (try_attach()) show_inherited(*attachment_.load(), path_.data());
}

Attachment* Runtime::current() const {
  Attachment* attachment = attachment_.load(std::memory_order_acquire);
  return attachment != nullptr && attachment->client.alive() ? attachment : nullptr;
}

Attachment* Runtime::attachment() {
  if (Attachment* living = current(); living != nullptr) return living;
  const std::int64_t now = now_ns();
  if (now < next_try_ns_.load(std::memory_order_relaxed)) return nullptr;
  {
    MutexLock lock(mutex_);
    if (Attachment* living = current(); living != nullptr) return living;
    if (now < next_try_ns_.load(std::memory_order_relaxed)) return nullptr;
    if (!try_attach()) return nullptr;
  }
  Attachment* attachment = current();
  if (attachment != nullptr) offer_listeners(*attachment);
  return attachment;
}

// Holds mutex_.
bool Runtime::try_attach() {
  const int saved = errno;
  next_try_ns_.store(now_ns() + kRetryNs, std::memory_order_relaxed);
  std::unique_ptr<EngineLink> link = ControlSocket::open(path_.data());
  errno = saved;
  if (link == nullptr) return false;
  auto* fresh = new Attachment(std::move(link));
  if (!fresh->client.attach(strict_)) {
    if (fresh->client.reason() == shm::KernelReason::kVersion && !complained_.exchange(true)) {
      print_line("libtoe: the engine speaks another version: sockets stay with the kernel\n");
    }
    delete fresh;
    return false;
  }
  complained_.store(false);
  // One engine life is kept whole, for threads that still look at it.
  if (previous_ != nullptr) previous_->retire();
  previous_ = attachment_.exchange(fresh, std::memory_order_acq_rel);
  return true;
}

void Runtime::note_death(Attachment& attachment) {
  if (attachment.client.mark_dead()) end_sockets_of(attachment);
}

void Runtime::check_life() {
  Attachment* attachment = attachment_.load(std::memory_order_acquire);
  if (attachment == nullptr || !attachment->client.alive()) return;
  pollfd life{attachment->client.link().life_fd(), POLLRDHUP, 0};
  if (libc().poll(&life, 1, 0) == 1) note_death(*attachment);
}

void Runtime::complain_strict(const char* call, shm::KernelReason reason) const {
  std::array<char, 160> line;
  std::snprintf(line.data(), line.size(),
                "libtoe: %s cannot be offloaded (%s) and --strict is set\n", call,
                shm::kernel_reason_word(reason));
  print_line(line.data());
}

void Runtime::complain_no_engine() {
  if (complained_.exchange(true)) return;
  std::array<char, 160> line;
  std::snprintf(line.data(), line.size(),
                "libtoe: no engine \"%s\": sockets stay with the kernel\n", name_.data());
  print_line(line.data());
}

void Runtime::report(shm::KernelReason reason) {
  if (Attachment* attachment = current(); attachment != nullptr) {
    attachment->client.report(reason);
  }
}

void Runtime::before_fork() {
  mutex_.lock();
  Socket::lock_pool();
  if (current() == nullptr || !any_socket_offloaded()) return;
  if (::pipe2(fork_pipe_.data(), O_CLOEXEC) != 0) fork_pipe_ = {-1, -1};
}

void Runtime::after_fork_parent() {
  Socket::unlock_pool();
  if (fork_pipe_[0] >= 0) {
    const int saved = errno;
    libc().close(fork_pipe_[1]);
    pollfd told{fork_pipe_[0], POLLIN, 0};
    libc().poll(&told, 1, kForkWaitMs);
    libc().close(fork_pipe_[0]);
    fork_pipe_ = {-1, -1};
    errno = saved;
  }
  mutex_.unlock();
}

void Runtime::after_fork_child() {
  Socket::unlock_pool();
  Epoll::reset_pool();
  reset_streams();
  reset_fd_births();
  forget_urgent_bells();
  mutex_.reset();
  pid_ = ::getpid();
  Attachment* parents = attachment_.exchange(nullptr);
  previous_ = nullptr;
  next_try_ns_.store(0);
  if (parents != nullptr) {
    forget_internal_fds();
    forget_releases();
    adopt_after_fork(*parents);
  }
  for (int& fd : fork_pipe_) {
    if (fd >= 0) libc().close(fd);  // the end of the last copy tells the parent
    fd = -1;
  }
}

}  // namespace toe::libtoe
