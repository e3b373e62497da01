// The border between the engine and a wire: bursts of frames in, bursts of frames out.
//
// A port brings the frame pool of the worker that drives it. Frames in flight inside the port
// (waiting to be filled, waiting to be sent) belong to the port; all others to the worker.
#ifndef TOE_PORT_PORT_H_
#define TOE_PORT_PORT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/addr.h"
#include "base/frame.h"

namespace toe::port {

/// The network device a port sits on, as the kernel describes it.
struct Device {
  std::string name;
  int ifindex = 0;
  MacAddr mac;
  std::uint32_t mtu = 1500;
  std::uint32_t rx_queues = 1;
  bool is_veth = false;  ///< a virtual pair: a local sender leaves its checksums unfinished
  bool is_up = false;    ///< carrier present and administratively up
};

/// What the wire behind a port can do. Fixed while the port lives.
struct PortCaps {
  std::string name;  ///< device name, for messages
  int ifindex = 0;   ///< 0: no kernel device
  MacAddr mac;
  std::uint32_t mtu = 1500;       ///< of the device, without the Ethernet header
  std::uint32_t max_frame = 0;    ///< longest frame in bytes, both ways, Ethernet header included
  std::uint32_t queues = 1;       ///< receive queues served
  bool partial_checksum = false;  ///< received frames may carry only the pseudo-header sum
  bool zero_copy = false;
  bool generic = false;  ///< the driver has no XDP of its own

  /// Longest IP packet whose frame fits, with two VLAN tags; the device's MTU may be larger.
  std::uint32_t max_mtu() const { return max_frame - 14 - 8; }
};

/// Counted since the port was opened. `rx_` drops never reached the worker.
struct PortStats {
  std::uint64_t rx_frames = 0;
  std::uint64_t rx_bytes = 0;
  std::uint64_t rx_dropped_full = 0;     ///< receive ring full: the worker was too slow
  std::uint64_t rx_dropped_no_fill = 0;  ///< no empty chunk offered: the pool ran dry
  std::uint64_t rx_dropped_jumbo = 0;    ///< frames of more than kMaxFrameChunks chunks
  std::uint64_t rx_dropped_other = 0;    ///< refused by the kernel for another reason
  std::uint64_t tx_frames = 0;
  std::uint64_t tx_bytes = 0;
  std::uint64_t tx_rejected_full = 0;  ///< frames not accepted, send ring full
  std::uint64_t tx_invalid = 0;        ///< descriptors the kernel refused
  std::uint64_t tx_kicks = 0;          ///< system calls made to send
  std::uint64_t tx_stalls = 0;         ///< flush() gave up with frames still queued
  std::uint64_t chunks_inside = 0;     ///< chunks that are the port's at this moment
};

/// One burst per call; no call blocks.
///
/// Thread: every call by the worker that owns the port.
class Port {
 public:
  Port() = default;
  virtual ~Port() = default;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  /// Writes up to out.size() received frames; they are the caller's from now on.
  virtual std::size_t rx(std::span<Frame> out) = 0;

  /// Accepts frames from the front of `frames` and returns how many. Accepted frames are the
  /// port's: their chunks return to the pool once sent. The others stay the caller's.
  /// Accepted frames leave at flush() at the latest.
  virtual std::size_t tx(std::span<const Frame> frames) = 0;

  /// Sends what tx() accepted and takes back the chunks of frames that have left.
  virtual void flush() = 0;

  /// Makes fd() report the next frame. False: frames are waiting already, do not sleep.
  virtual bool prepare_sleep() = 0;

  /// Readable (EPOLLIN) when frames wait; -1 if the port has none. Stays the port's.
  virtual int fd() const = 0;

  virtual FramePool& pool() = 0;
  virtual const PortCaps& caps() const = 0;
  virtual PortStats stats() const = 0;

  /// errno of a device that will not carry frames again (gone), else 0.
  virtual int failure() const = 0;
};

}  // namespace toe::port

#endif  // TOE_PORT_PORT_H_
