// One AF_XDP socket: a receive queue of the device and the four rings between it and the kernel.
//
// The first socket of a port registers the frame memory; those of further queues share it, each
// with rings of its own.
#ifndef TOE_PORT_AFXDP_XSK_SOCKET_H_
#define TOE_PORT_AFXDP_XSK_SOCKET_H_

#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/types.h"
#include "base/unique_fd.h"
#include "port/afxdp/xsk_ring.h"
#include "port/port.h"

namespace toe::port {

struct XskOptions {
  std::uint32_t ring = 4096;  ///< slots of each ring; power of two
  bool zero_copy = true;
  bool multi_buffer = true;
  Time give_up;  ///< until then a queue still held by a dying engine is retried
};

/// Move-only. The rings are for whoever drives the queue.
class XskSocket {
 public:
  /// Makes the socket and its rings; bind() or share() makes it receive.
  static Result<XskSocket> create(const Device& device, std::uint32_t queue, std::uint32_t slots);

  /// For the first queue: registers the frame memory.
  Status register_memory(std::span<std::uint8_t> memory, std::uint32_t chunk_bytes);
  /// Binds the first queue in the best way that device and kernel offer.
  Status bind(const XskOptions& options);
  /// Binds a further queue, in the way and with the frame memory of `first`.
  Status share(const XskSocket& first, const XskOptions& options);

  int fd() const { return fd_.get(); }
  /// Whether a frame may take several chunks (bound with XDP_USE_SG).
  bool multi_buffer() const { return multi_buffer_; }
  bool zero_copy() const;
  /// Adds what the kernel has counted.
  void add_counts(PortStats& stats) const;

  XskRing<std::uint64_t> fill;
  XskRing<std::uint64_t> completion;
  XskRing<xdp_desc> rx;
  XskRing<xdp_desc> tx;

 private:
  Status map_rings(std::uint32_t slots);
  int try_bind(std::uint16_t flags, int shared, Time give_up) const;
  Error bind_error(int code) const;
  Error error(int code, const char* what) const;

  Device device_;
  std::uint32_t queue_ = 0;
  UniqueFd fd_;
  bool multi_buffer_ = false;
};

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_XSK_SOCKET_H_
