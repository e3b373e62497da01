// A port on a Linux network device through one AF_XDP socket.
//
// The steering program decides which frames come here. No call makes a system call per frame:
// rx() and tx() touch the shared rings only, flush() kicks the kernel once per burst.
#ifndef TOE_PORT_AFXDP_AFXDP_PORT_H_
#define TOE_PORT_AFXDP_AFXDP_PORT_H_

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "base/types.h"
#include "base/unique_fd.h"
#include "port/afxdp/umem.h"
#include "port/afxdp/xsk_ring.h"
#include "port/port.h"

namespace toe::port {

struct AfXdpOptions {
  std::uint32_t chunks = 8192;       ///< frames in the pool; at least 2048
  std::uint32_t ring = 4096;         ///< slots of each ring; power of two
  bool zero_copy = true;             ///< use it if the driver offers it
  bool multi_buffer = true;          ///< frames in several chunks, if the kernel offers it
  Nanos bind_patience = seconds(5);  ///< how long a queue still held by a dying engine is retried
};

/// Owns the socket, its rings, the frame memory and the pool over it.
class AfXdpPort final : public Port {
 public:
  /// Opens queue 0 of `device`. Blocks up to options.bind_patience. Refuses a device with more
  /// than one receive queue: frames of the others would not be seen.
  static Result<std::unique_ptr<AfXdpPort>> open(const Device& device, const AfXdpOptions& options);

  ~AfXdpPort() override;

  std::size_t rx(std::span<Frame> out) override;
  std::size_t tx(std::span<const Frame> frames) override;
  void flush() override;
  bool prepare_sleep() override;
  int fd() const override { return socket_.get(); }
  FramePool& pool() override { return pool_; }
  const PortCaps& caps() const override { return caps_; }
  PortStats stats() const override;
  int failure() const override { return failure_; }

  /// The frame memory's descriptor, for a guardian or a successor.
  int umem_fd() const { return umem_.fd(); }
  /// Whether a frame may take several chunks (bound with XDP_USE_SG).
  bool multi_buffer() const { return multi_buffer_; }
  /// Tells the port that the steering program runs in the generic hook.
  void set_generic(bool generic) { caps_.generic = generic; }

 private:
  AfXdpPort(const Device& device, const AfXdpOptions& options, Umem umem);

  Status set_up();
  Status register_umem();
  Status map_rings();
  Status bind_queue();
  int try_bind(std::uint16_t flags) const;
  Error error(int code, const char* what) const;

  /// Offers free chunks to the kernel, keeping some for sending.
  void refill();
  /// Takes back the chunks of sent frames.
  void reclaim();
  bool kick();
  /// A chunk of a frame in several. True: it was the last one, and `out` is the frame.
  bool take_part(const xdp_desc& desc, Frame& out);
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
  std::uint32_t tx_reserve_;  ///< chunks never offered for receiving
  UniqueFd socket_;
  XskRing<std::uint64_t> fill_;
  XskRing<std::uint64_t> completion_;
  XskRing<xdp_desc> rx_;
  XskRing<xdp_desc> tx_;
  std::uint32_t offered_ = 0;    ///< offered for receiving, not yet back with a frame
  std::uint32_t in_flight_ = 0;  ///< sent, chunk not yet back
  bool tx_unflushed_ = false;
  bool tx_blocked_ = false;       ///< the device is down or gone: kicking helps nobody
  Frame open_;                    ///< the frame whose last chunk is still to come
  std::uint32_t open_parts_ = 0;  ///< its chunks so far, dropped ones too; 0: none is open
  bool multi_buffer_ = false;
  int failure_ = 0;
  PortCaps caps_;
  PortStats stats_;
};

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_AFXDP_PORT_H_
