// Threads that wait without a context of their own: a segment has 64, a program may have more
// blocked threads. They share the process's home context. One of them leads: it sleeps on the home
// doorbell and wakes those whose line is hinted; when it goes, another leads.
//
// No wake-up is lost: a member enters the list before it looks at its line, so that a hint taken
// later finds it; whoever stops leading and leaves passes the lead on.
// Thread: any.
#ifndef TOE_LIBTOE_CROWD_H_
#define TOE_LIBTOE_CROWD_H_

#include <cstdint>
#include <span>
#include <vector>

#include "libtoe/cancel.h"
#include "libtoe/mutex.h"
#include "libtoe/wait_context.h"

namespace toe::libtoe {

class Crowd {
 public:
  explicit Crowd(WaitContext& home) : home_(home) {}

  /// One waiting thread, on its stack. Leaves when it ends, also by pthread_cancel.
  class Member {
   public:
    /// Waits for `line` of `segment`; without a segment for every hint.
    Member(Crowd& crowd, const MappedSegment* segment, std::uint32_t line);
    ~Member();
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;

    /// What a signal handler has to write to, -1 when the process has no descriptor left.
    int wake_fd() const { return fd_; }
    /// As WaitContext::sleep(), with `done` as the look at every source before it.
    template <typename Done>
    int sleep(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask, Done done) {
      if (!crowd_.try_lead()) return follow(fds, timeout_ns, mask);
      crowd_.home_.fall_asleep();
      int n = 0;
      if (!crowd_.home_.pending() && !done()) n = lead(fds, timeout_ns, mask);
      crowd_.home_.wake_up();
      crowd_.stop_leading(this);
      return n;
    }

   private:
    friend class Crowd;
    int lead(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask);
    int follow(std::span<pollfd> fds, std::int64_t timeout_ns, const sigset_t* mask);
    void wake() const;
    void drain() const;

    Crowd& crowd_;
    const MappedSegment* segment_;
    std::uint32_t line_;
    int fd_ = -1;
    bool leads_ = false;
    Member* next_ = nullptr;
    Member* prev_ = nullptr;
    OnCancel on_cancel_;
  };

  /// All look again.
  void kick_all();
  void close_fds();

 private:
  bool try_lead();
  void stop_leading(const Member* leader);
  void distribute(const Member* leader);
  void enter(Member& member);
  void leave(Member& member);

  WaitContext& home_;
  Mutex mutex_;
  bool led_ = false;
  Member* members_ = nullptr;
  std::vector<int> free_fds_;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_CROWD_H_
