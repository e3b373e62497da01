// A wire in memory: two ports joined, with a clock of its own and room for faults.
//
// Deterministic: what rx() yields depends only on the calls made. Time stands still until
// set_now(); a frame without delay is there as soon as it was sent.
#ifndef TOE_PORT_MEM_MEM_WIRE_H_
#define TOE_PORT_MEM_MEM_WIRE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/types.h"
#include "port/port.h"

namespace toe::port {

class MemWire;

/// What becomes of one frame on the wire.
struct Fate {
  static constexpr unsigned kMaxCopies = 4;
  unsigned copies = 1;                       ///< 0: lost; at most kMaxCopies
  std::array<Nanos, kMaxCopies> delay = {};  ///< of each copy; unequal delays reorder
};

/// Asked once per frame, in the order of sending. `from` is the sending side (0 or 1); the bytes
/// may be changed (corruption, congestion marks) and keep their length.
using Impairment = std::function<Fate(int from, std::span<std::uint8_t> bytes, Time now)>;

/// One end of a MemWire. Thread: one thread for a wire and both its ports.
class MemPort final : public Port {
 public:
  MemPort(MemWire& wire, int side, std::uint32_t chunks);

  std::size_t rx(std::span<Frame> out) override;
  std::size_t tx(std::span<const Frame> frames) override;
  void flush() override {}
  bool prepare_sleep() override;
  int fd() const override { return -1; }
  FramePool& pool() override { return pool_; }
  const PortCaps& caps() const override { return caps_; }
  PortCaps& mutable_caps() { return caps_; }
  /// Bytes put into the first chunk of a received frame and into each further one, which decide
  /// where a long frame is cut. REQUIRES: 1 <= each <= MemWire::kPartBytes.
  void cut_at(std::uint32_t first, std::uint32_t further) {
    first_part_ = first;
    further_part_ = further;
  }
  PortStats stats() const override { return stats_; }
  int failure() const override { return 0; }

 private:
  /// The bytes in as many chunks as they need; !valid() if there are not so many.
  Frame store(std::span<const std::uint8_t> bytes);

  MemWire& wire_;
  const int side_;
  std::vector<std::uint8_t> memory_;
  FramePool pool_;
  PortCaps caps_;
  PortStats stats_;
  std::uint32_t first_part_;
  std::uint32_t further_part_;
};

class MemWire {
 public:
  /// Frames under way in one direction; one more is lost.
  static constexpr std::size_t kMaxInFlight = 65536;
  static constexpr std::uint32_t kChunkBytes = 2048;
  static constexpr std::uint32_t kPartBytes = kChunkBytes - FramePool::kHeadroom;

  explicit MemWire(std::uint32_t chunks_per_side = 1024);

  MemPort& port(int side) { return *ports_[static_cast<std::size_t>(side)]; }

  /// Moves the wire's clock. REQUIRES: never backwards.
  void set_now(Time now);
  Time now() const { return now_; }

  /// When the next frame arrives at either side; may be past, Time::never() if none is under way.
  Time next_arrival() const;

  /// Replaces the fault hook; an empty one is a perfect wire.
  void set_impairment(Impairment hook) { impair_ = std::move(hook); }

  std::uint64_t lost() const { return lost_; }

 private:
  friend class MemPort;

  struct InFlight {
    Time due;
    std::uint64_t order = 0;
    std::vector<std::uint8_t> bytes;
  };
  struct Later {
    bool operator()(const InFlight& a, const InFlight& b) const {
      return a.due != b.due ? a.due > b.due : a.order > b.order;
    }
  };

  void send(int from, const FramePool& pool, const Frame& frame);
  void enqueue(int to, Time due, std::span<const std::uint8_t> bytes);
  /// The next due frame for `side`, or nullptr.
  const InFlight* front(int side) const;
  void pop(int side);

  Time now_{};
  std::uint64_t next_order_ = 0;
  std::uint64_t lost_ = 0;
  Impairment impair_;
  std::array<std::vector<InFlight>, 2> queues_;   // heaps, earliest first; indexed by receiver
  std::vector<std::vector<std::uint8_t>> spare_;  // buffers kept for reuse
  std::vector<std::uint8_t> scratch_;
  std::vector<std::uint8_t> joined_;
  std::array<std::unique_ptr<MemPort>, 2> ports_;
};

}  // namespace toe::port

#endif  // TOE_PORT_MEM_MEM_WIRE_H_
