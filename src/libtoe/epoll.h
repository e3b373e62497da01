// Epoll instances: the program's real epoll fd serves kernel descriptors, the interest list here
// serves offloaded sockets, and wait() merges both in turn.
//
// An instance inside another or in a poll set lets the kernel do the nesting: its doorbell is put
// into its own real epoll fd, and it counts as asleep whenever no thread of it is awake.
//
// Thread: any; one thread of an instance waits in the kernel (the leader), others wait for it.
// Lock order: Socket::items_mutex before Epoll's mutex.
#ifndef TOE_LIBTOE_EPOLL_H_
#define TOE_LIBTOE_EPOLL_H_

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "libtoe/signals.h"
#include "libtoe/socket.h"

namespace toe::libtoe {

class Epoll;

/// One registration of a socket in an instance.
struct EpollItem {
  Epoll* epoll = nullptr;
  Socket* socket = nullptr;
  int fd = -1;
  std::uint32_t events = 0;  ///< interest and flags
  bool disarmed = false;     ///< EPOLLONESHOT has fired
  epoll_data_t data{};
  bool in_kernel = false;  ///< also registered in the real epoll fd
  Lane* lane = nullptr;    ///< this instance's context in the line's segment; null: fresh
  std::uint32_t line = 0;
  bool queued = false;
  EpollItem* ready_next = nullptr;
  EpollItem* ready_prev = nullptr;
  EpollItem* socket_next = nullptr;  ///< other registrations of the socket
  EpollItem* line_next = nullptr;    ///< others of the same line in this instance (dup)
  EpollItem* all_next = nullptr;     ///< all of the instance
  EpollItem* all_prev = nullptr;
};

class Epoll : public File {
 public:
  /// An instance for the real epoll fd `fd`, from a pool; close_all() gives it back.
  static Epoll* make(int fd);
  /// Fork child: the pool may have been half changed.
  static void reset_pool();

  /// epoll_ctl for a socket of ours. Negative errno.
  int control(int op, Socket& socket, int fd, epoll_event* event);
  /// epoll_wait. Negative errno.
  int wait(std::span<epoll_event> out, std::int64_t timeout_ns, const sigset_t* mask);

  /// The socket of `item` was offloaded: watch its line. Holds Socket::items_mutex.
  void on_offload(EpollItem& item);
  /// Something about the item may have changed: look at it soon.
  void touch(EpollItem& item);
  /// Unlinks and frees. Holds Socket::items_mutex.
  void remove(EpollItem* item);
  /// The instance is inside another one or in a poll set: from now on its real fd becomes readable
  /// by whatever makes the instance ready, now and then also by nothing. True when it watches a
  /// line, so that readable() knows more than the kernel.
  bool expose();
  /// `inner`, known by `fd`, was added to this instance.
  void add_nested(int fd, Epoll& inner);
  /// True when wait() would return events at once. `kernel_says`: the real fd was readable.
  bool readable(bool kernel_says);
  int fd() const { return fd_; }
  /// The last fd number that named it is closed. The memory stays that of an instance: another
  /// thread may still wait in it.
  void close_all();
  /// Fork child: contexts are the parent's; new ones are opened as items are offloaded again.
  void after_fork_child();

 private:
  Epoll() : File(Role::kEpoll) {}
  void drop_maps();
  int add(Socket& socket, int fd, const epoll_event& event);
  int modify(EpollItem& item, const epoll_event& event);
  bool ensure_waiter(Attachment& attachment);
  bool watch(EpollItem& item);
  void unwatch(EpollItem& item);
  void queue(EpollItem& item);
  void unqueue(EpollItem& item);
  void take_hints();
  int take_ready(std::span<epoll_event> out);
  std::uint32_t current(EpollItem& item);
  int collect(std::span<epoll_event> out, bool ask_kernel);
  int idle(std::int64_t deadline_ns, const sigset_t* mask, const SignalWatch& signals);
  int wait_for_events(std::span<epoll_event> out, std::int64_t timeout_ns, const sigset_t* mask);
  int wait_without_engine(std::span<epoll_event> out, std::int64_t deadline_ns,
                          const sigset_t* mask);
  bool any_ready();
  bool try_lead();
  void stop_leading();
  int without_own(std::span<epoll_event> events);
  void show_doorbell(WaitContext& waiter);
  void settle();
  void settle_nested();
  WaitContext* living_waiter();
  int lead(WaitContext& waiter, std::int64_t deadline_ns, const sigset_t* mask,
           const SignalWatch& signals);
  int follow(std::uint32_t seen, std::int64_t deadline_ns);
  int kernel_wait(std::span<epoll_event> out, std::int64_t timeout_ns, const sigset_t* mask);
  void wake_leader();

  using LineItems = std::array<EpollItem*, shm::kLines>;

  std::atomic<int> fd_{-1};
  Epoll* next_free_ = nullptr;
  Mutex mutex_;
  std::atomic<WaitContext*> waiter_{nullptr};
  std::array<LineItems*, kMaxMapped> by_line_{};
  EpollItem* ready_head_ = nullptr;
  EpollItem* ready_tail_ = nullptr;
  std::atomic<std::uint32_t> ready_count_{0};
  std::atomic<std::uint32_t> leader_{0};
  std::atomic<std::uint32_t> followers_{0};
  std::atomic<std::uint32_t> handover_{0};  ///< futex word: counts changes of leader
  std::uint32_t since_kernel_ = 0;          ///< waits served without a look at the kernel
  std::atomic<std::int64_t> idle_since_ns_{-1};
  std::atomic<bool> has_nested_{false};
  std::vector<std::pair<int, Epoll*>> nested_;  ///< by fd; one that was closed stays harmless
  std::atomic<bool> exposed_{false};            ///< doorbell and kick lie in the real epoll fd
  EpollItem* all_ = nullptr;
};

/// epoll_ctl on any epoll fd of the program.
int epoll_control(int epfd, int op, int fd, epoll_event* event);
/// The socket became a listener or a connection: its registrations follow. `drop_kernel` takes it
/// out of the real epoll fds.
void offload_items(Socket& socket, bool drop_kernel);
/// The last fd of the socket is gone, or the kernel serves it for good.
void drop_items(Socket& socket);
void touch_items(Socket& socket);
/// A write found the ring full: hint the watchers that want EPOLLOUT.
void arm_writable(Socket& socket);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_EPOLL_H_
