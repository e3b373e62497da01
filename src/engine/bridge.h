// Between the worker thread (core with control) and the admin thread (everything that may block):
// one bounded ring of values each way, with an eventfd to wake the reader.
//
// Orders (admin -> worker) carry Requests of control and doorbells; notes (worker -> admin) carry
// what control asks of its World. A producer that finds its ring full keeps the rest in a private
// queue and goes on; kMaxSpill bounds that queue.
#ifndef TOE_ENGINE_BRIDGE_H_
#define TOE_ENGINE_BRIDGE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/spsc_ring.h"
#include "base/unique_fd.h"
#include "control/world.h"
#include "port/port.h"
#include "shm/segment_format.h"

namespace toe::engine {

inline constexpr std::size_t kOrderRing = 1024;
inline constexpr std::size_t kNoteRing = 8192;
inline constexpr std::size_t kMaxSpill = 1 << 17;

/// Asked of the worker, which fills it and sets `done` (release).
struct PortSnapshot {
  port::PortStats stats;
  std::uint32_t frames = 0;       ///< chunks of the pool
  std::uint32_t frames_held = 0;  ///< of them neither free nor the port's: 0 at rest
  std::uint32_t flows = 0;        ///< connection records in use
  std::atomic<bool> done{false};
};

/// Admin -> worker.
struct Order {
  enum class Kind : std::uint8_t {
    kRequest,     ///< request
    kAddBell,     ///< bell, fd: the worker owns the descriptor from now on
    kRemoveBell,  ///< bell: close it
    kWatch,       ///< fd: a program's doorbell to the engine; the worker owns it from now on
    kUnwatch,     ///< fd: close it
    kSnapshot,    ///< snapshot
    kStop,        ///< end the loop once control is quiet, or after a bounded time
  };
  Kind kind = Kind::kRequest;
  std::uint32_t bell = 0;
  int fd = -1;
  PortSnapshot* snapshot = nullptr;
  control::Request request;
};

/// Worker -> admin; the kinds are the calls of control::World.
struct Note {
  enum class Kind : std::uint8_t {
    kReply,  ///< client, bytes, length: the reader frees the bytes with delete[]
    kShareSegment,
    kWantSegment,
    kFreeSegment,
    kReturnPages,
    kDropClient,
    kWantRoute,
    kForgetRoute,
    kConfirmNeighbor,
    kMarkListener,
    kCloseListener,
    kReleasePort,
    kWantPort,
    kPortFailed,  ///< error: the device is gone
    kStopped,     ///< the worker has left its loop
  };
  Kind kind = Kind::kStopped;
  std::uint16_t port = 0;
  std::int32_t error = 0;
  ClientId client = kNoClient;
  SegmentId segment = kNoSegment;
  std::uint64_t cookie = 0;
  shm::RingRef ring{};
  IpAddr address;
  control::RouteKey route;
  std::uint8_t* bytes = nullptr;
  std::uint32_t length = 0;
  const char* reason = nullptr;  ///< a string literal
};

/// One direction: ring, overflow queue of the producer, eventfd of the consumer.
template <typename T>
class Channel {
 public:
  Channel(std::size_t capacity, UniqueFd event) : ring_(capacity), event_(std::move(event)) {}

  /// Producer. False when even the overflow queue is full.
  bool push(const T& value) {
    flush();
    if (spill_.empty() && ring_.push(value)) return true;
    if (spill_.size() >= kMaxSpill) return false;
    spill_.push_back(value);
    return true;
  }
  /// Producer: moves what waits into the ring. True when nothing waits any more.
  bool flush() {
    while (!spill_.empty() && ring_.push(spill_.front())) spill_.pop_front();
    return spill_.empty();
  }
  /// Consumer.
  bool pop(T& value) { return ring_.pop(value); }
  bool empty() const { return ring_.empty(); }
  std::size_t size() const { return ring_.size(); }

  int event_fd() const { return event_.get(); }
  void wake() const;         ///< producer
  void clear_event() const;  ///< consumer, before it looks at the ring

 private:
  SpscRing<T> ring_;
  std::deque<T> spill_;
  UniqueFd event_;
};

/// Both directions; outlives both threads.
class Bridge {
 public:
  static Result<std::unique_ptr<Bridge>> make(shm::EnginePage& page);

  Channel<Order> orders;
  Channel<Note> notes;

  /// Admin: queues an order and wakes the worker if it sleeps.
  void send(const Order& order);
  void send(const control::Request& request);
  /// Admin, at the end of each turn: hands on what found no room and wakes the worker for it. False
  /// while some still waits; then the admin may not sleep.
  bool settle();

 private:
  void wake_sleeper() const;
  Bridge(shm::EnginePage& page, UniqueFd order_event, UniqueFd note_event);

  shm::EnginePage& page_;
};

/// The worker's side of control's World. transmit() and reinject() are Core's own.
/// Thread: worker.
class WorldBridge : public control::World {
 public:
  explicit WorldBridge(Bridge& bridge) : bridge_(bridge) {}

  void transmit(Frame frame) override;
  void reinject(Frame frame) override;
  void reply(ClientId client, std::span<const std::uint8_t> message) override;
  void share_segment(ClientId client, SegmentId segment) override;
  void want_segment(ClientId client) override;
  void free_segment(SegmentId segment) override;
  void drop_client(ClientId client, const char* reason) override;
  void want_route(const control::RouteKey& key) override;
  void forget_route(const control::RouteKey& key) override;
  void confirm_neighbor(const control::RouteKey& key) override;
  void return_pages(SegmentId segment, shm::RingRef ring) override;
  void mark_listener(std::uint64_t cookie) override;
  void close_listener(std::uint64_t cookie) override;
  void release_port(const IpAddr& local, std::uint16_t port) override;
  void want_port(const IpAddr& local) override;

  void note(const Note& note);
  /// After each step: `idle` = the step found nothing to do, so every command of control has been
  /// carried out and freed segments are out of the data path.
  void after_step(bool idle);

 private:
  struct Leaving {
    SegmentId segment;
    std::uint32_t steps = 0;
  };

  Bridge& bridge_;
  std::vector<Leaving> leaving_;
  bool pushed_ = false;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_BRIDGE_H_
