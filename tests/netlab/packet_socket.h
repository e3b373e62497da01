// Raw frames of one device: a receive ring shared with the kernel, and batches to send.
#ifndef TOE_NETLAB_PACKET_SOCKET_H_
#define TOE_NETLAB_PACKET_SOCKET_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace toe::netlab {

/// What the socket lost, as it counted it.
struct SocketLosses {
  std::uint64_t ring_full = 0;    ///< the program did not read fast enough
  std::uint64_t too_long = 0;     ///< larger than a slot of the ring
  std::uint64_t send_failed = 0;  ///< refused by the device
};

/// Not for several threads.
class PacketSocket {
 public:
  /// Opens `device` of this network namespace. Frames sent here are not received.
  static Result<PacketSocket> open(const std::string& device);
  ~PacketSocket();
  PacketSocket(PacketSocket&& other) noexcept;
  PacketSocket& operator=(PacketSocket&&) = delete;

  int fd() const { return fd_.get(); }
  /// The longest frame, with a VLAN tag.
  std::size_t max_frame() const { return max_frame_; }

  /// Copies the next received frame into `out` (at least max_frame() bytes); its length, or 0 if
  /// there is none. A VLAN tag that the kernel took out is put back.
  std::size_t receive(std::span<std::uint8_t> out);

  /// Sends as many frames as the device takes at once.
  void send(std::span<const std::span<const std::uint8_t>> frames);

  SocketLosses losses();

 private:
  PacketSocket() = default;
  Status bind_to(const std::string& device);
  Status make_ring();

  UniqueFd fd_;
  std::uint8_t* ring_ = nullptr;
  std::size_t ring_bytes_ = 0;
  std::size_t slot_bytes_ = 0;
  std::size_t slots_ = 0;
  std::size_t next_ = 0;
  std::size_t max_frame_ = 0;
  SocketLosses losses_;
};

}  // namespace toe::netlab

#endif  // TOE_NETLAB_PACKET_SOCKET_H_
