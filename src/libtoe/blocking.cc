#include "libtoe/blocking.h"

#include <time.h>

#include <algorithm>
#include <cerrno>

#include "libtoe/libc.h"

namespace toe::libtoe {
namespace {

/// Without a context of its own a thread looks this often.
constexpr std::int64_t kPollNs = 1'000'000;
/// Without an engine a listener looks for one this often.
constexpr std::int64_t kRetryNs = 1'000'000'000;

bool satisfied(Socket& socket, Want want) {
  switch (want) {
    case Want::kReadable:
      return socket.connection.readable();
    case Want::kWritable:
      return socket.connection.writable();
    case Want::kConnected:
      return socket.connection.line().state.load(std::memory_order_acquire) !=
             static_cast<std::uint32_t>(shm::LineState::kConnecting);
    case Want::kAcceptable:
      return socket.attachment.load() == nullptr || socket.listener.ready();
    case Want::kDrained:
      return socket.connection.unacknowledged() == 0 ||
             (socket.connection.readiness() & EPOLLERR) != 0;
  }
  return true;
}

Lane& lane_of(Socket& socket, Want want) {
  return want == Want::kAcceptable ? socket.listener.lane() : socket.connection.lane();
}

shm::Line& line_of(Socket& socket, Want want) {
  return want == Want::kAcceptable ? socket.listener.line() : socket.connection.line();
}

int poll_without_context(Socket& socket, Want want, Deadline& deadline, int kernel_fd) {
  for (;;) {
    if (satisfied(socket, want)) return 0;
    const std::int64_t left = deadline.left();
    if (left == 0) return -EAGAIN;
    pollfd kernel{kernel_fd, POLLIN, 0};
    const timespec nap{0, left < 0 ? kPollNs : std::min(left, kPollNs)};
    const int n = libc().ppoll(&kernel, kernel_fd >= 0 ? 1 : 0, &nap, nullptr);
    if (n > 0) return 0;
    if (n < 0 && (deadline.limited() || !restarts_after_signal())) return -EINTR;
    Runtime::get().check_life();
  }
}

struct Round {
  Socket& socket;
  Want want;
  Deadline& deadline;
  int kernel_fd;

  bool done() const { return satisfied(socket, want); }

  void arm(Lane& lane) const {
    shm::Line& line = line_of(socket, want);
    const bool out = want == Want::kWritable || want == Want::kConnected || want == Want::kDrained;
    if (out) line.tx_interest.fetch_or(lane.bit());
    line.rx_interest.fetch_or(lane.bit());
    shm::full_fence();  // interest before the look
  }

  // 0: look again; 1: the kernel side is ready; else a negative errno.
  int sleep(WaitContext& waiter) const {
    const std::int64_t left = deadline.left();
    if (left == 0) return -EAGAIN;
    std::array<pollfd, WaitContext::kOwnFds + 1> fds{};
    fds.back() = {kernel_fd, POLLIN, 0};
    waiter.fall_asleep();
    if (waiter.pending() || done()) {
      waiter.wake_up();
      return 0;
    }
    const int n = waiter.sleep(fds, left, nullptr);
    waiter.wake_up();
    if (fds[WaitContext::kOwnFds - 1].revents != 0) Runtime::get().check_life();
    if (n == -EINTR) return deadline.limited() || !restarts_after_signal() ? -EINTR : 0;
    return n > 0 ? 1 : 0;
  }
};

int wait_with(WaitContext& waiter, Lane& lane, const Round& round) {
  const std::int64_t start = now_ns();
  int result = 0;
  std::uint32_t hints = 0;
  for (;;) {
    hints += waiter.discard();
    round.arm(lane);
    if (round.done()) break;
    if (waiter.spin([&round] { return round.done(); })) continue;
    result = round.sleep(waiter);
    if (result != 0) break;
  }
  const auto yield_ns = static_cast<std::int64_t>(waiter.client().profile().yield_ns);
  waiter.policy().on_wait_end(now_ns() - start, yield_ns, hints);
  return result > 0 ? 0 : result;
}

}  // namespace

std::int64_t Deadline::left() {
  if (timeout_ns_ < 0) return -1;
  const std::int64_t now = now_ns();
  if (end_ns_ < 0) end_ns_ = now + timeout_ns_;
  return std::max<std::int64_t>(0, end_ns_ - now);
}

// Which handler ran is not known, so one without SA_RESTART is enough to interrupt.
bool restarts_after_signal() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) != 0) continue;
    const bool handled = action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
    if (handled && (action.sa_flags & SA_RESTART) == 0) return false;
  }
  return true;
}

int wait_for_kernel(int fd, Deadline& deadline) {
  const std::int64_t left = deadline.left();
  if (left == 0) return -EAGAIN;
  const std::int64_t slice = left < 0 ? kRetryNs : std::min(left, kRetryNs);
  const timespec timeout{slice / 1'000'000'000, slice % 1'000'000'000};
  pollfd kernel{fd, POLLIN, 0};
  const int n = libc().ppoll(&kernel, 1, &timeout, nullptr);
  if (n >= 0) return 0;
  return deadline.limited() || !restarts_after_signal() ? -EINTR : 0;
}

int wait_for(Socket& socket, Want want, Deadline& deadline, int kernel_fd) {
  if (satisfied(socket, want)) return 0;
  const Round round{socket, want, deadline, kernel_fd};
  Attachment* attachment = socket.attachment.load(std::memory_order_acquire);
  if (attachment == nullptr || !attachment->client.alive()) {
    return poll_without_context(socket, want, deadline, kernel_fd);
  }
  WaitContext* waiter = attachment->borrow();
  Lane* lane = waiter != nullptr ? waiter->lane(lane_of(socket, want).segment()) : nullptr;
  const int result = lane != nullptr ? wait_with(*waiter, *lane, round)
                                     : poll_without_context(socket, want, deadline, kernel_fd);
  if (waiter != nullptr) attachment->give_back(waiter);
  return result;
}

}  // namespace toe::libtoe
