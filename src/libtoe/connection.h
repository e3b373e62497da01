// One offloaded connection as a process sees it: bytes in and out of the rings of its line, what
// it is ready for, and its end. No call here blocks, reads a clock or makes a system call (but for
// the doorbell of a sleeping engine).
//
// Errors are negative errno values, as the kernel's own calls return them inside.
// Thread: any; each direction is serialised by a lock word of the line, also between processes.
#ifndef TOE_LIBTOE_CONNECTION_H_
#define TOE_LIBTOE_CONNECTION_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "libtoe/io_cursor.h"
#include "libtoe/lane.h"

namespace toe::libtoe {

/// Readiness, with the numbers of EPOLLIN and its kin.
using Events = std::uint32_t;

enum class RecvMode : std::uint8_t {
  kTake,     ///< copy and consume
  kPeek,     ///< copy only
  kDiscard,  ///< consume without copying (MSG_TRUNC)
};

class Connection {
 public:
  /// Stands for line `line` of the lane's segment from now on.
  void attach(Lane* lane, std::uint32_t line);
  /// The line is out of reach: stands for `ended`, which says why, from now on.
  void detach(shm::Line* ended);
  bool attached() const { return line_.load(std::memory_order_relaxed) != nullptr; }

  /// Bytes taken, 0 at the end of the stream, -EAGAIN, or the connection's error (once).
  ssize_t recv(IoCursor& into, RecvMode mode);
  /// Bytes accepted for sending, -EAGAIN, -EPIPE, or the connection's error (once). With `more`
  /// a short last segment may wait for further bytes.
  ssize_t send(IoCursor& from, bool more) { return send(from, more, false); }
  /// As send(); the last byte taken is urgent.
  ssize_t send_urgent(IoCursor& from) { return send(from, false, true); }
  /// The engine knows urgent data.
  bool carries_urgent() const {
    return (lane().segment().view.header().features & shm::kFeatureUrgent) != 0;
  }
  /// The urgent byte (MSG_OOB): 1; 0 at the end of the stream, or
  /// without room for it; -EAGAIN while it is only announced; -EINVAL when there is none to take.
  ssize_t recv_urgent(IoCursor& into, RecvMode mode);

  Events readiness() const;
  /// recv() would not say -EAGAIN. The low-water mark is for readiness() only.
  bool readable() const;
  /// The engine has not taken the last hint to it yet.
  bool hint_waits() const;
  bool writable() const;
  /// 0 once established, -EINPROGRESS before, or the error that ended the attempt (once).
  int connect_result();
  bool connect_result_pending() const;

  /// Both ends have finished, or the connection was reset: there is nothing left to shut.
  bool over() const;

  void shut_read();
  void shut_write();
  /// Gives up this process's hold. A call of another thread that is copying has finished before;
  /// later ones answer EBADF.
  void close(bool reset);

  /// The next byte of the stream is the urgent one (SIOCATMARK).
  bool at_mark() const;

  /// Bytes that recv() could take; the same up to the urgent byte (FIONREAD); bytes sent and not
  /// acknowledged, the FIN counted as one.
  std::uint64_t unread() const;
  std::uint64_t unread_before_mark() const;
  std::uint64_t unacknowledged() const;
  /// The pending error, forgotten by this call (SO_ERROR); 0 = none.
  int take_error();
  void put_error_back() { line().error_taken.store(0, std::memory_order_release); }
  /// The last send said `more`, and nothing more comes.
  void end_of_more();

  /// Sets or clears AppFlag bits and tells the engine. kCork set here outlives MSG_MORE.
  void set_app_flags(std::uint32_t bits, bool on);
  std::uint32_t app_flags() const { return line().app_flags.load(std::memory_order_relaxed); }
  /// Tells the engine that an option word of the line has changed.
  void options_changed();

  shm::Line& line() const { return *line_.load(std::memory_order_relaxed); }
  std::uint32_t line_index() const { return index_; }
  Lane& lane() const { return *lane_.load(std::memory_order_relaxed); }
  Lane& home() const { return *home_; }
  /// Posts looks through `lane` from now on (a lane of the same segment). The hold itself stays
  /// with the lane of attach(), so that its beginning and end keep their order.
  void set_lane(Lane* lane) { lane_.store(lane, std::memory_order_relaxed); }
  /// SO_RCVLOWAT, at least 1: so many unread bytes are input worth telling of.
  void set_low_water(std::uint32_t bytes) { low_water_.store(bytes, std::memory_order_relaxed); }
  std::uint32_t low_water() const { return low_water_.load(std::memory_order_relaxed); }
  bool shut_for_reading() const { return (app_flags() & shm::AppFlag::kShutRead) != 0; }

 private:
  /// Closed since the caller has locked a word of `line`.
  bool left(const shm::Line& line) const { return &this->line() != &line; }

  /// The urgent byte that is still ahead of the reader, or under way.
  struct Mark {
    std::uint64_t up = 0;  ///< one past it; 0 = none
    bool inline_ = false;  ///< it stays in the stream (SO_OOBINLINE)

    bool at(std::uint64_t position) const { return up != 0 && position + 1 == up; }
  };

  /// Words of the line, `flags` read before `tail`.
  struct Seen {
    std::uint32_t flags;
    std::uint64_t tail;
  };
  struct RxRings;
  ssize_t send(IoCursor& from, bool more, bool urgent);
  ssize_t take(IoCursor& into, RecvMode mode, std::uint64_t head, std::uint64_t count);
  ssize_t recv_around_mark(IoCursor& into, RecvMode mode, const Seen& seen);
  bool urgent_seen() const {
    return (line().flags.load(std::memory_order_relaxed) & shm::LineFlag::kRxUrgent) != 0;
  }
  std::uint64_t unread_beside_mark() const;
  std::uint64_t reading_at() const;
  Mark mark(std::uint64_t head) const;
  bool urgent_to_take(const Mark& mark) const;
  RxRings rx_rings() const;
  void consume(std::uint64_t head, std::uint64_t count);
  ssize_t nothing_to_read(std::uint32_t flags);
  int why_not_send();
  shm::RingMemory tx_ring(std::uint64_t tail);
  std::uint64_t tx_space(std::uint64_t tail, std::uint32_t ring_bytes) const;
  void set_flag_if_clear(std::uint32_t bit);
  bool ended() const;
  bool enough_unread() const;

  std::atomic<Lane*> lane_{nullptr};
  Lane* home_ = nullptr;
  std::atomic<shm::Line*> line_{nullptr};
  std::uint32_t index_ = 0;
  std::atomic<bool> corked_{false};  ///< TCP_CORK, as opposed to MSG_MORE
  std::atomic<std::uint32_t> low_water_{1};
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_CONNECTION_H_
