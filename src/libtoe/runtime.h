// What libtoe keeps per process: the attachment to the engine, waiters to lend, settings.
#ifndef TOE_LIBTOE_RUNTIME_H_
#define TOE_LIBTOE_RUNTIME_H_

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "libtoe/crowd.h"
#include "libtoe/engine_client.h"
#include "libtoe/wait_context.h"

namespace toe::libtoe {

/// One engine life: its client and the waiters that belong to it. Never freed, so that a thread
/// may look at a dead one.
class Attachment {
 public:
  explicit Attachment(std::unique_ptr<EngineLink> link) : client(std::move(link)), home(client) {}

  /// A waiter for an epoll instance; null when the engine has no context left.
  WaitContext* borrow();
  void give_back(WaitContext* waiter);
  /// Sockets that belong to it. Behind the last one of a dead engine its segments are given back.
  void add_socket() { sockets_.fetch_add(1, std::memory_order_relaxed); }
  void drop_socket() {
    if (sockets_.fetch_sub(1, std::memory_order_acq_rel) == 1) release_if_unused();
  }
  void release_if_unused();
  /// Ends the sleep of every lent waiter.
  void kick_all();
  /// Closes the descriptors of an engine long dead. No thread waits on them any more.
  void retire();

  EngineClient client;
  WaitContext home;   ///< posts of sockets that are in no epoll instance
  Crowd crowd{home};  ///< threads without a waiter

 private:
  Mutex mutex_;
  std::int64_t none_left_until_ns_ = 0;  ///< the engine has refused a context lately
  std::atomic<std::uint32_t> sockets_{0};
  std::vector<WaitContext*> idle_;
  std::vector<WaitContext*> all_;
  std::atomic<std::uint32_t> calls_{0};  ///< waiters lent to blocking calls
  friend class CallWaiter;
};

/// A waiter for one blocking call, given back at its end, also by pthread_cancel.
class CallWaiter {
 public:
  explicit CallWaiter(Attachment& attachment);
  ~CallWaiter();
  CallWaiter(const CallWaiter&) = delete;
  CallWaiter& operator=(const CallWaiter&) = delete;

  /// Null when so many threads wait that the others have to share (Attachment::crowd): contexts
  /// are left for epoll instances.
  WaitContext* get() const { return waiter_; }

 private:
  static void give_back(void* self);

  Attachment& attachment_;
  WaitContext* waiter_ = nullptr;
  OnCancel on_cancel_;
};

class Runtime {
 public:
  static Runtime& get();

  /// At load: reads the settings and attaches.
  void start();
  /// The living attachment, or null; tries to attach at most once a second.
  Attachment* attachment();
  /// The living attachment without trying.
  Attachment* current() const;
  /// True when a dead engine was found by this call or before and not handled: see on_death().
  void note_death(Attachment& attachment);
  /// Looks whether the engine hung up; cheap enough for rare paths only.
  void check_life();

  /// False in a child made by vfork or a raw clone: its descriptors are its own, but the memory
  /// here speaks of its parent's. Such a child goes to the kernel only.
  bool own_process() const { return pid_ == ::getpid(); }

  bool strict() const { return strict_; }
  /// Prints one line on stderr, "libtoe: ...", for a socket that cannot be offloaded.
  void complain_strict(const char* call, shm::KernelReason reason) const;
  void complain_no_engine();
  /// For `flextoe status`: a socket stayed with the kernel.
  void report(shm::KernelReason reason);

  /// fork(2): the child attaches anew. The parent waits for that, so that it cannot give up a
  /// socket that the child is to keep before the child holds it.
  void before_fork();
  void after_fork_parent();
  void after_fork_child();

 private:
  bool try_attach();

  Mutex mutex_;
  std::atomic<Attachment*> attachment_{nullptr};
  Attachment* previous_ = nullptr;  ///< the engine before this one
  std::atomic<std::int64_t> next_try_ns_{0};
  std::atomic<bool> complained_{false};
  bool started_ = false;
  pid_t pid_ = 0;
  std::array<int, 2> fork_pipe_{-1, -1};  ///< the child tells its parent that it holds its sockets
  bool strict_ = false;
  std::array<char, 32> name_{};
  std::array<char, 108> path_{};
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_RUNTIME_H_
