// The program's attachment to one engine: the exchanges of the control socket as calls, the
// segments that came with them, and whether the engine still lives.
//
// Thread: any; one exchange at a time. Once dead it stays dead: a new engine is a new client.
#ifndef TOE_LIBTOE_ENGINE_CLIENT_H_
#define TOE_LIBTOE_ENGINE_CLIENT_H_

#include <atomic>
#include <memory>
#include <optional>
#include <span>

#include "libtoe/engine_link.h"
#include "libtoe/lane.h"
#include "libtoe/mutex.h"
#include "libtoe/segment_map.h"

namespace toe::libtoe {

/// A line named by the engine, or why the kernel keeps the socket.
struct LineAnswer {
  MappedSegment* segment = nullptr;  ///< null: refused
  std::uint32_t line = 0;
  shm::KernelReason reason = shm::KernelReason::kNone;
  int error = 0;  ///< errno for the program, 0 = let the kernel decide

  bool ok() const { return segment != nullptr; }
};

struct ShownSocket {
  shm::ShownKind kind = shm::ShownKind::kKernel;
  MappedSegment* segment = nullptr;
  std::uint32_t line = 0;
};

struct ContextAnswer {
  std::uint32_t slot = 0;
  std::uint32_t doorbell = 0;
  int fd = -1;  ///< read end of a new doorbell, the caller's
};

/// How long to spin and to yield before sleeping (the engine's wait profile).
struct WaitProfile {
  std::uint64_t spin_ns = 500;
  std::uint64_t yield_ns = 50'000;
};

class EngineClient {
 public:
  explicit EngineClient(std::unique_ptr<EngineLink> link) : link_(std::move(link)) {}

  /// Hello to Welcome and the first segment. On false reason() says why.
  bool attach(bool strict);
  shm::KernelReason reason() const { return reason_; }

  LineAnswer listen(int fd, std::uint32_t backlog, const shm::SocketOptions& options);
  LineAnswer connect(int fd, const shm::Connect& request);
  /// `doorbell` 0 asks for a new one. None: no slot is free, or the engine is gone.
  std::optional<ContextAnswer> open_context(const MappedSegment& segment, std::uint32_t doorbell);
  /// REQUIRES: fds.size() <= kMaxShown, out as long as fds.
  bool show(std::span<const int> fds, std::span<ShownSocket> out);
  bool info(const MappedSegment& segment, std::uint32_t line, shm::InfoReply& out);
  /// errno of the engine, 0 = done.
  int set_option(const MappedSegment& segment, std::uint32_t line, const shm::Option& option);
  void report(shm::KernelReason reason);

  bool alive() const { return alive_.load(std::memory_order_acquire); }
  /// Nothing is sent or rung any more. True for the first caller.
  bool mark_dead() {
    bell_.muted.store(true, std::memory_order_relaxed);
    return alive_.exchange(false, std::memory_order_acq_rel);
  }

  EngineBell& bell() { return bell_; }
  EngineLink& link() { return *link_; }
  SegmentMap& segments() { return segments_; }
  const WaitProfile& profile() const { return profile_; }
  /// Gives a page that is already in memory (the simulator's) before attach().
  void adopt_page(const shm::EnginePage* page) { bell_.page = page; }
  /// Fork child: the lock's holder does not exist here.
  void reset_lock() { mutex_.reset(); }

 private:
  Exchange exchange(Packet& packet);
  bool on_segment(const Packet& packet);
  bool on_welcome(const Packet& packet);
  LineAnswer ask_for_line(Packet& packet, shm::MessageType type);
  LineAnswer line_answer(const Packet& packet, shm::MessageType type);

  std::unique_ptr<EngineLink> link_;
  Mutex mutex_;
  std::uint64_t next_tag_ = 1;
  std::atomic<bool> alive_{true};
  shm::KernelReason reason_ = shm::KernelReason::kNoEngine;
  SegmentMap segments_;
  EngineBell bell_;
  WaitProfile profile_;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_ENGINE_CLIENT_H_
