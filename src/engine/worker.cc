#include "engine/worker.h"

#include <sched.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/clock.h"
#include "engine/prepared_thread.h"

namespace toe::engine {
namespace {

constexpr int kEvents = 64;
constexpr std::size_t kOrdersPerStep = 64;
/// Steps after which hints have surely been taken, however busy the data path is.
constexpr std::uint32_t kSettleSteps = 16;

timespec to_timespec(Nanos d) {
  return {static_cast<time_t>(d.ns / 1'000'000'000), static_cast<long>(d.ns % 1'000'000'000)};
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::make(const WorkerLinks& links, Nanos yield_time) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Error{errno, std::string("epoll_create: ") + std::strerror(errno)};
  std::unique_ptr<Worker> worker(new Worker(links, yield_time, std::move(epoll)));
  Status status = worker->watch(links.bridge.orders.event_fd());
  if (status.ok() && links.port.fd() >= 0) status = worker->watch(links.port.fd());
  if (!status.ok()) return status.error();
  return worker;
}

Worker::Worker(const WorkerLinks& links, Nanos yield_time, UniqueFd epoll)
    : links_(links), policy_(yield_time), epoll_(std::move(epoll)) {}

Worker::~Worker() { join(); }

Status Worker::start(const std::function<Status()>& prepare) {
  return start_prepared(thread_, {"flextoe-rtc", prepare, [this] { run(); }});
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

Status Worker::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Error{errno, std::string("epoll_ctl: ") + std::strerror(errno)};
  }
  return Done{};
}

void Worker::run() {
  for (;;) {
    const Time now = clock_now();
    const bool ordered = take_orders(now);
    const bool worked = links_.core.step(now);
    bells_.ring(links_.core.doorbells());
    links_.core.clear_doorbells();
    links_.world.after_step(!worked);
    worked_ = worked;
    if (check_end(now, worked)) break;
    if (worked || ordered) {
      const std::uint64_t frames = links_.core.datapath_counters().frames_in.value();
      policy_.on_work(frames - frames_seen_);
      frames_seen_ = frames;
    } else {
      wait(now);
    }
  }
  Note stopped;
  links_.world.note(stopped);
  links_.world.after_step(true);
}

bool Worker::take_orders(Time now) {
  if (batch_ == 0) {
    batch_ = std::min(links_.bridge.orders.size(), kOrdersPerStep);
    batch_age_ = 0;
    return batch_ != 0;
  }
  ++batch_age_;
  if (!settled()) return true;
  Order order;
  for (; batch_ > 0 && links_.bridge.orders.pop(order); --batch_) carry_out(order, now);
  return true;
}

/// A program posts hints through shared memory and then asks over its socket: an accept, then a
/// child that shows the connection. The question must not overtake the hint, so it waits until
/// control has seen what lay in the queues before it came.
bool Worker::settled() const { return batch_age_ >= 2 && (!worked_ || batch_age_ >= kSettleSteps); }

void Worker::carry_out(const Order& order, Time now) {
  switch (order.kind) {
    case Order::Kind::kRequest:
      links_.core.request(order.request, now);
      break;
    case Order::Kind::kAddBell:
      bells_.add(order.bell, UniqueFd(order.fd));
      break;
    case Order::Kind::kRemoveBell:
      bells_.remove(order.bell);
      break;
    case Order::Kind::kWatch:
      (void)watch(order.fd);  // fails only without kernel memory: then posts wait for the next step
      break;
    case Order::Kind::kUnwatch:
      // Here and not in the admin thread: an event at hand must not name a reused descriptor.
      (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, order.fd, nullptr);
      ::close(order.fd);
      break;
    case Order::Kind::kSnapshot:
      take_snapshot(*order.snapshot);
      order.snapshot->done.store(true, std::memory_order_release);
      break;
    case Order::Kind::kStop:
      stop_at_ = now + kDrain;
      break;
  }
}

void Worker::take_snapshot(PortSnapshot& snapshot) const {
  const FramePool& pool = links_.port.pool();
  snapshot.stats = links_.port.stats();
  snapshot.frames = pool.chunks();
  snapshot.flows = links_.core.control().flows_in_use();
  const std::uint64_t elsewhere = pool.free_count() + snapshot.stats.chunks_inside;
  snapshot.frames_held = pool.chunks() - static_cast<std::uint32_t>(elsewhere);
}

bool Worker::check_end(Time now, bool worked) {
  if (links_.port.failure() != 0 && !failed_) {
    failed_ = true;
    Note gone;
    gone.kind = Note::Kind::kPortFailed;
    gone.error = links_.port.failure();
    links_.world.note(gone);
    links_.world.after_step(false);
  }
  if (stop_at_ == Time::never()) return false;
  // Not while the last step found work: it may be the last connections' RSTs.
  return now >= stop_at_ || (!worked && links_.core.control().quiet());
}

void Worker::wait(Time now) {
  switch (policy_.on_idle(now)) {
    case WaitPolicy::Next::kSpin:
      for (int i = 0; i < 8; ++i) __builtin_ia32_pause();
      break;
    case WaitPolicy::Next::kYield:
      ::sched_yield();
      break;
    case WaitPolicy::Next::kSleep:
      sleep();
      policy_.on_slept();
      break;
  }
}

/// Everything that must not be slept over, looked at after the epoch has become odd.
bool Worker::something_waits() const {
  return !links_.bridge.orders.empty() || links_.core.posted() || !links_.port.prepare_sleep();
}

void Worker::sleep() {
  auto& epoch = links_.page.sleep_epoch;
  const std::uint32_t awake = epoch.load(std::memory_order_relaxed);
  epoch.store(awake + 1, std::memory_order_relaxed);
  // Pairs with the fence between a producer's publication and its look at the epoch: either it
  // sees us asleep and rings, or we see what it published.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!something_waits()) {
    const Time deadline = std::min(links_.core.next_deadline(), stop_at_);
    const Nanos left = deadline - clock_now();
    const Nanos limit = std::clamp(left, Nanos{0}, kLongestSleep);
    const timespec timeout = to_timespec(limit);
    epoll_event events[kEvents];
    const int ready = ::epoll_pwait2(epoll_.get(), events, kEvents, &timeout, nullptr);
    for (int i = 0; i < ready; ++i) drain_event(events[i].data.fd);
  }
  epoch.store(awake + 2, std::memory_order_release);
}

void Worker::drain_event(int fd) const {
  if (fd == links_.port.fd()) return;
  char bytes[4096];
  (void)!::read(fd, bytes, sizeof bytes);
}

}  // namespace toe::engine
