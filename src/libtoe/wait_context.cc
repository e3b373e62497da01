#include "libtoe/wait_context.h"

#include <time.h>

#include <algorithm>
#include <cerrno>

#include "libtoe/cancel.h"
#include "libtoe/internal_fds.h"
#include "libtoe/libc.h"

namespace toe::libtoe {

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void YieldPolicy::on_wait_end(std::int64_t waited_ns, std::int64_t yield_ns, std::uint32_t events) {
  const bool pays = waited_ns <= yield_ns && events < kBusyEvents;
  const int score = score_.load(std::memory_order_relaxed);
  score_.store(pays ? std::min(score + 1, kMaxScore) : std::max(score - 1, 0),
               std::memory_order_relaxed);
}

WaitContext::~WaitContext() { close_fds(); }

void WaitContext::close_fds() {
  close_internal(doorbell_fd_);
  close_internal(kick_fd_.exchange(-1));
  doorbell_fd_ = -1;
}

Lane* WaitContext::lane(MappedSegment& segment) {
  Lane& lane = lanes_[segment.index];
  for (std::uint32_t i = 0, n = open_count(); i < n; ++i) {
    if (open_[i] == &lane) return &lane;
  }
  MutexLock lock(open_mutex_);
  if (lane.is_open()) return &lane;
  const auto answer = client_.open_context(segment, doorbell_);
  if (!answer) return nullptr;
  if (answer->fd >= 0) {
    doorbell_ = answer->doorbell;
    doorbell_fd_ = answer->fd;
    libc().fcntl(doorbell_fd_, F_SETFL, libc().fcntl(doorbell_fd_, F_GETFL) | O_NONBLOCK);
  }
  lane.open(&segment, answer->slot, &client_.bell());
  const std::uint32_t index = count_.load(std::memory_order_relaxed);
  open_[index] = &lane;
  count_.store(index + 1, std::memory_order_release);  // publishes the lane
  return &lane;
}

bool WaitContext::pending() const {
  for (std::uint32_t i = 0, n = open_count(); i < n; ++i) {
    if (open_[i]->pending()) return true;
  }
  return false;
}

std::uint32_t WaitContext::discard() {
  std::uint32_t taken = 0;
  drain([&taken](Lane& lane, std::uint32_t index) {
    shm::Line& line = lane.segment().view.line(index);
    line.rx_interest.fetch_and(~lane.bit(), std::memory_order_relaxed);
    line.tx_interest.fetch_and(~lane.bit(), std::memory_order_relaxed);
    ++taken;
  });
  return taken;
}

void WaitContext::fall_asleep() {
  sleeping_.store(1, std::memory_order_relaxed);
  for (std::uint32_t i = 0, n = open_count(); i < n; ++i) {
    shm::fall_asleep(open_[i]->context().sleep_epoch);
  }
  shm::full_fence();
}

void WaitContext::wake_up() {
  sleeping_.store(0, std::memory_order_relaxed);
  for (std::uint32_t i = 0, n = open_count(); i < n; ++i) {
    shm::wake_up(open_[i]->context().sleep_epoch);
  }
}

int WaitContext::kick_fd() {
  int fd = kick_fd_.load(std::memory_order_acquire);
  if (fd >= 0) return fd;
  MutexLock lock(open_mutex_);
  if (kick_fd_.load(std::memory_order_relaxed) < 0) {
    const int made = make_internal([] { return ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); });
    if (made >= 0) kick_fd_.store(made, std::memory_order_release);
  }
  return kick_fd_.load(std::memory_order_relaxed);
}

void WaitContext::kick() {
  shm::full_fence();  // what the waiter shall see is visible before its flag is read
  if (sleeping_.load(std::memory_order_relaxed) == 0) return;
  const int saved = errno;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = plain_write(kick_fd(), &one, sizeof(one));
  errno = saved;
}

void WaitContext::drain_fds() {
  const int saved = errno;
  std::array<char, 64> sink;
  while (doorbell_fd_ >= 0 &&
         plain_read(doorbell_fd_, sink.data(), sink.size()) == static_cast<ssize_t>(sink.size())) {
  }
  const int kick = kick_fd_.load(std::memory_order_relaxed);
  if (kick >= 0) {
    [[maybe_unused]] const ssize_t n = plain_read(kick, sink.data(), sizeof(std::uint64_t));
  }
  errno = saved;
}

int WaitContext::sleep(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask) {
  fds[0] = {doorbell_fd_, POLLIN, 0};
  fds[1] = {kick_fd(), POLLIN, 0};
  fds[kLifeFd] = {client_.link().life_fd(), POLLRDHUP, 0};
  const int n = sleep_in_kernel(fds, timeout_ns, mask);
  if (n < 0) return n;
  const bool rung = (fds[0].revents | fds[1].revents) != 0;
  if (rung) drain_fds();
  int others = n;
  for (std::size_t i = 0; i < kOwnFds; ++i) others -= fds[i].revents != 0 ? 1 : 0;
  return others;
}

}  // namespace toe::libtoe
