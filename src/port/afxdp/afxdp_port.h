// A port on a Linux network device through AF_XDP sockets, one for each of its receive queues.
//
// Received frames come from all queues in turn, what is sent leaves by the first: the queues share
// one frame memory, and a flow's frames all come by the queue that the device chose for it.
//
// The steering program decides which frames come here. No call makes a system call per frame:
// rx() and tx() touch the shared rings only, flush() kicks the kernel once per burst.
#ifndef TOE_PORT_AFXDP_AFXDP_PORT_H_
#define TOE_PORT_AFXDP_AFXDP_PORT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "base/unique_fd.h"
#include "port/afxdp/steering_maps.h"
#include "port/afxdp/umem.h"
#include "port/afxdp/xsk_socket.h"
#include "port/port.h"

namespace toe::port {

struct AfXdpOptions {
  std::uint32_t chunks = 8192;       ///< frames in the pool; at least 2048
  std::uint32_t ring = 4096;         ///< slots of each ring; power of two
  bool zero_copy = true;             ///< use it if the driver offers it
  bool multi_buffer = true;          ///< frames in several chunks, if the kernel offers it
  Nanos bind_patience = seconds(5);  ///< how long a queue still held by a dying engine is retried
};

/// Owns the sockets, their rings, the frame memory and the pool over it.
class AfXdpPort final : public Port {
 public:
  static constexpr std::uint32_t kMaxQueues = kSteerQueues;
  /// A queue with fewer chunks than this would drop a burst.
  static constexpr std::uint32_t kLeastChunksPerQueue = 256;

  /// Opens every receive queue of `device`. Blocks up to options.bind_patience.
  static Result<std::unique_ptr<AfXdpPort>> open(const Device& device, const AfXdpOptions& options);

  ~AfXdpPort() override;

  std::size_t rx(std::span<Frame> out) override;
  std::size_t tx(std::span<const Frame> frames) override;
  void flush() override;
  bool prepare_sleep() override;
  int fd() const override { return all_.valid() ? all_.get() : first().fd(); }
  FramePool& pool() override { return pool_; }
  const PortCaps& caps() const override { return caps_; }
  PortStats stats() const override;
  int failure() const override { return failure_; }

  /// The frame memory's descriptor, for a guardian or a successor.
  int umem_fd() const { return umem_.fd(); }
  /// The socket of a receive queue, for the steering program. REQUIRES: queue < caps().queues.
  int queue_fd(std::uint32_t queue) const { return queues_[queue].socket.fd(); }
  /// Whether a frame may take several chunks (bound with XDP_USE_SG).
  bool multi_buffer() const { return first().multi_buffer(); }
  /// Tells the port that the steering program runs in the generic hook.
  void set_generic(bool generic) { caps_.generic = generic; }

 private:
  /// A receive queue.
  struct Queue {
    explicit Queue(XskSocket s) : socket(std::move(s)) {}

    XskSocket socket;
    std::uint32_t offered = 0;     ///< chunks offered, not yet back with a frame
    Frame open;                    ///< the frame whose last chunk is still to come
    std::uint32_t open_parts = 0;  ///< its chunks so far, dropped ones too; 0: none is open
  };

  AfXdpPort(const Device& device, const AfXdpOptions& options, Umem umem);

  Status set_up();
  Status add_queue(const XskOptions& options);
  Status watch_all();
  XskSocket& first() { return queues_.front().socket; }
  const XskSocket& first() const { return queues_.front().socket; }

  std::size_t rx_queue(Queue& queue, std::span<Frame> out);
  /// Offers free chunks to the kernel, keeping some for sending.
  void refill(Queue& queue);
  /// Takes back the chunks of sent frames.
  void reclaim();
  bool kick();
  /// A chunk of a frame in several. True: it was the last one, and `out` is the frame.
  bool take_part(Queue& queue, const xdp_desc& desc, Frame& out);
  /// Slots of the send ring for as many chunks as are wanted, or fewer.
  std::uint32_t tx_room(std::uint32_t wanted);
  /// Writes the chunks of a frame in several into the free slots from `at` on.
  void put_parts(const Frame& frame, std::uint32_t at);
  xdp_desc descriptor(const Frame& part) const;
  Frame frame_at(std::uint64_t address, std::uint32_t length) const;

  const Device device_;
  const AfXdpOptions options_;
  Umem umem_;
  FramePool pool_;
  std::uint32_t chunk_shift_;
  std::uint32_t tx_reserve_;   ///< chunks never offered for receiving
  std::uint32_t queue_share_;  ///< chunks offered to one queue at most
  std::vector<Queue> queues_;
  UniqueFd all_;                  ///< epoll of all queues; none if there is one queue only
  std::uint32_t next_queue_ = 0;  ///< where rx() looks first
  std::uint32_t in_flight_ = 0;   ///< sent, chunk not yet back
  bool tx_unflushed_ = false;
  bool tx_blocked_ = false;  ///< the device is down or gone: kicking helps nobody
  int failure_ = 0;
  PortCaps caps_;
  PortStats stats_;
};

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_AFXDP_PORT_H_
