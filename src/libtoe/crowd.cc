#include "libtoe/crowd.h"

#include <algorithm>
#include <array>

#include "libtoe/internal_fds.h"
#include "libtoe/libc.h"
#include "libtoe/runtime.h"

namespace toe::libtoe {
namespace {

/// Without a descriptor to be woken by, a thread looks this often.
constexpr std::int64_t kLookNs = 1'000'000;
constexpr std::size_t kWakeEntry = WaitContext::kCallersFd;

}  // namespace

Crowd::Member::Member(Crowd& crowd, const MappedSegment* segment, std::uint32_t line)
    : crowd_(crowd),
      segment_(segment),
      line_(line),
      on_cancel_(
          [](void* member) {
            auto& gone = *static_cast<Member*>(member);
            gone.crowd_.leave(gone);
          },
          this) {
  crowd_.enter(*this);
}

Crowd::Member::~Member() { crowd_.leave(*this); }

void Crowd::Member::wake() const {
  const int saved = errno;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = plain_write(fd_, &one, sizeof(one));
  errno = saved;
}

void Crowd::Member::drain() const {
  const int saved = errno;
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = plain_read(fd_, &count, sizeof(count));
  errno = saved;
}

int Crowd::Member::lead(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask) {
  leads_ = true;
  fds[kWakeEntry] = {fd_, POLLIN, 0};
  const OnCancel undo([](void* home) { static_cast<WaitContext*>(home)->wake_up(); },
                      &crowd_.home_);
  const int n = crowd_.home_.sleep(fds, timeout_ns, mask);
  if (fds[kWakeEntry].revents != 0) drain();
  if (fds[WaitContext::kLifeFd].revents != 0) Runtime::get().check_life();
  leads_ = false;
  return n;
}

int Crowd::Member::follow(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask) {
  fds[kWakeEntry] = {fd_, POLLIN, 0};
  const bool blind = fd_ < 0;
  const std::int64_t slice = !blind           ? timeout_ns
                             : timeout_ns < 0 ? kLookNs
                                              : std::min(timeout_ns, kLookNs);
  const int n = sleep_in_kernel(fds.subspan(kWakeEntry), slice, mask);
  if (n <= 0 || fds[kWakeEntry].revents == 0) return n;
  drain();
  return n - 1;
}

void Crowd::enter(Member& member) {
  MutexLock lock(mutex_);
  if (free_fds_.empty()) {
    member.fd_ = make_internal([] { return ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); });
  } else {
    member.fd_ = free_fds_.back();
    free_fds_.pop_back();
  }
  member.next_ = members_;
  if (members_ != nullptr) members_->prev_ = &member;
  members_ = &member;
}

void Crowd::leave(Member& member) {
  MutexLock lock(mutex_);
  if (member.leads_) led_ = false;  // cancelled in its sleep
  (member.prev_ != nullptr ? member.prev_->next_ : members_) = member.next_;
  if (member.next_ != nullptr) member.next_->prev_ = member.prev_;
  if (member.fd_ >= 0) {
    member.drain();
    free_fds_.push_back(member.fd_);
  }
  if (!led_ && members_ != nullptr) members_->wake();
}

bool Crowd::try_lead() {
  MutexLock lock(mutex_);
  if (led_) return false;
  led_ = true;
  return true;
}

void Crowd::stop_leading(const Member* leader) {
  MutexLock lock(mutex_);
  distribute(leader);
  led_ = false;
}

// Holds mutex_. The interest in a line that nobody waits for is withdrawn: it costs one hint.
void Crowd::distribute(const Member* leader) {
  home_.drain([this, leader](Lane& lane, std::uint32_t index) {
    bool wanted = false;
    for (const Member* member = members_; member != nullptr; member = member->next_) {
      const bool all = member->segment_ == nullptr;
      if (!all && (member->segment_ != &lane.segment() || member->line_ != index)) continue;
      wanted = true;
      if (member != leader) member->wake();
    }
    if (wanted) return;
    shm::Line& line = lane.segment().view.line(index);
    line.rx_interest.fetch_and(~lane.bit(), std::memory_order_relaxed);
    line.tx_interest.fetch_and(~lane.bit(), std::memory_order_relaxed);
  });
}

void Crowd::kick_all() {
  home_.kick();
  MutexLock lock(mutex_);
  for (const Member* member = members_; member != nullptr; member = member->next_) member->wake();
}

void Crowd::close_fds() {
  MutexLock lock(mutex_);
  for (const int fd : free_fds_) close_internal(fd);
  free_fds_.clear();
}

}  // namespace toe::libtoe
