#include "libtoe/blocking.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "libtoe/cancel.h"
#include "libtoe/libc.h"

namespace toe::libtoe {
namespace {

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

std::uint32_t line_index_of(Socket& socket, Want want) {
  return want == Want::kAcceptable ? socket.listener.line_index() : socket.connection.line_index();
}

shm::Line& line_of(Socket& socket, Want want) {
  return want == Want::kAcceptable ? socket.listener.line() : socket.connection.line();
}

/// One blocking call: what it waits for and how it sleeps.
struct Call {
  Socket& socket;
  Want want;
  Deadline& deadline;
  int kernel_fd;
  std::uint32_t use = line_of(socket, want).generation.load(std::memory_order_relaxed);

  /// Another thread has closed the socket; its line may be another connection's by now. close()
  /// itself waits for what was sent, and no thread else can.
  bool over() const {
    if (socket.closed() && want != Want::kDrained) return true;
    return want != Want::kAcceptable &&  // the kernel's side lives on
           line_of(socket, want).generation.load(std::memory_order_relaxed) != use;
  }
  bool done() const { return over() || satisfied(socket, want); }

  void arm(Lane& lane) const {
    shm::Line& line = line_of(socket, want);
    const bool out = want == Want::kWritable || want == Want::kConnected || want == Want::kDrained;
    if (out) line.tx_interest.fetch_or(lane.bit());
    line.rx_interest.fetch_or(lane.bit());
    shm::full_fence();  // interest before the look
  }

  // A handler has run, or (the kernel says so) a signal of which nothing is known has come.
  bool gives_up(SignalWatch& signals, bool interrupted) const {
    if (!signals.any() && !interrupted) return false;
    return deadline.limited() || !restarts_after_signal(signals);
  }

  // `sleep_until(fds, left)` sleeps as WaitContext::sleep. 0: look again; 1: the kernel side is
  // ready; else a negative errno.
  template <typename Sleep>
  int sleep(SignalWatch& signals, Sleep sleep_until) const {
    if (gives_up(signals, false)) return -EINTR;
    const std::int64_t left = deadline.left();
    if (left == 0) return -EAGAIN;
    std::array<pollfd, WaitContext::kOwnFds + 1> fds{};
    fds[WaitContext::kCallersFd].fd = -1;
    fds.back() = {kernel_fd, POLLIN, 0};
    const int n = sleep_until(std::span<pollfd>(fds), left);
    if (n == -EINTR) return gives_up(signals, true) ? -EINTR : 0;
    return n > 0 ? 1 : 0;
  }
};

int sleep_alone(WaitContext& waiter, const Call& call, std::span<pollfd> fds, std::int64_t left) {
  waiter.fall_asleep();
  int n = 0;
  if (!waiter.pending() && !call.done()) n = waiter.sleep(fds, left, nullptr);
  waiter.wake_up();
  if (fds[WaitContext::kLifeFd].revents != 0) Runtime::get().check_life();
  return n;
}

int wait_with(WaitContext& waiter, Lane& lane, const Call& call) {
  SignalWatch signals(waiter.kick_fd());
  const std::int64_t start = now_ns();
  int result = 0;
  std::uint32_t hints = 0;
  while (result == 0) {
    hints += waiter.discard();
    call.arm(lane);
    if (call.done()) break;
    if (waiter.spin([&call] { return call.done(); })) continue;
    result = call.sleep(signals, [&](std::span<pollfd> fds, std::int64_t left) {
      return sleep_alone(waiter, call, fds, left);
    });
  }
  const auto yield_ns = static_cast<std::int64_t>(waiter.client().profile().yield_ns);
  waiter.policy().on_wait_end(now_ns() - start, yield_ns, hints);
  return result > 0 ? 0 : result;
}

int wait_in_crowd(Attachment& attachment, const Call& call) {
  Lane& line_lane = lane_of(call.socket, call.want);
  Lane* lane = attachment.home.lane(line_lane.segment());
  if (lane == nullptr) return -ENOBUFS;  // has one: every line of ours was given through it
  Crowd::Member member(attachment.crowd, &lane->segment(), line_index_of(call.socket, call.want));
  SignalWatch signals(member.wake_fd());
  int result = 0;
  while (result == 0) {
    call.arm(*lane);
    if (call.done()) break;
    result = call.sleep(signals, [&](std::span<pollfd> fds, std::int64_t left) {
      return member.sleep(fds, left, nullptr, [&call] { return call.done(); });
    });
  }
  return result > 0 ? 0 : result;
}

}  // namespace

std::int64_t Deadline::left() {
  if (timeout_ns_ < 0) return -1;
  const std::int64_t now = now_ns();
  if (end_ns_ < 0) end_ns_ = now + timeout_ns_;
  return std::max<std::int64_t>(0, end_ns_ - now);
}

// A signal whose handler was not installed through libtoe: any handler without SA_RESTART may have
// been the one.
bool restarts_after_signal(SignalWatch& signals) {
  if (signals.any()) return !signals.interrupts();
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    if (libc().sigaction(signal, nullptr, &action) != 0 || is_watched(action)) continue;
    const bool handled = action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
    if (handled && (action.sa_flags & SA_RESTART) == 0) return false;
  }
  return true;
}

int wait_for_kernel(int fd, Deadline& deadline) {
  const std::int64_t left = deadline.left();
  if (left == 0) return -EAGAIN;
  const std::int64_t slice = left < 0 ? kRetryNs : std::min(left, kRetryNs);
  SignalWatch signals(-1);
  std::array<pollfd, 1> kernel{{{fd, POLLIN, 0}}};
  const int n = sleep_in_kernel(kernel, slice, nullptr);
  if (n >= 0) return 0;
  return deadline.limited() || !restarts_after_signal(signals) ? -EINTR : 0;
}

int wait_for(Socket& socket, Want want, Deadline& deadline, int kernel_fd) {
  if (satisfied(socket, want)) return 0;
  Attachment* attachment = socket.attachment.load(std::memory_order_acquire);
  // Of an engine that is gone every connection has ended, and every listener is the kernel's.
  if (attachment == nullptr || !attachment->client.alive()) return 0;
  const Call call{.socket = socket, .want = want, .deadline = deadline, .kernel_fd = kernel_fd};
  const NoCancel between_sleeps;
  const CallWaiter waiter(*attachment);
  Lane* lane =
      waiter.get() != nullptr ? waiter.get()->lane(lane_of(socket, want).segment()) : nullptr;
  socket.waiting.fetch_add(1, std::memory_order_relaxed);
  const int result =
      lane != nullptr ? wait_with(*waiter.get(), *lane, call) : wait_in_crowd(*attachment, call);
  socket.waiting.fetch_sub(1, std::memory_order_relaxed);
  return result == 0 && call.over() ? -EBADF : result;
}

}  // namespace toe::libtoe
