// One direction of the wire: frames read from one socket, decided upon, sent by the other.
#ifndef TOE_NETLAB_FORWARDER_H_
#define TOE_NETLAB_FORWARDER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "netlab/impairer.h"
#include "netlab/line.h"
#include "netlab/packet_socket.h"

namespace toe::netlab {

/// Not for several threads. Both sockets outlive it.
class Forwarder {
 public:
  /// Room for the frames under way, each taken to be of full size; one more is lost, and counted
  /// as the wire's own loss.
  static constexpr std::size_t kMemoryBytes = 32u << 20;

  Forwarder(PacketSocket& from, PacketSocket& to, Impairer impairer);

  /// Reads what has come, a bounded number of frames.
  void take(Time now);
  void send_due(Time now);
  Time next() const { return line_.next(); }

  const Tally& tally() const { return impairer_.tally(); }
  std::uint64_t sent() const { return sent_; }
  std::uint64_t line_full() const { return line_full_; }
  std::uint64_t under_way() const { return line_.size(); }
  std::uint64_t peak_under_way() const { return peak_; }
  SocketLosses from_losses() const { return from_.losses(); }
  SocketLosses to_losses() const { return to_.losses(); }

 private:
  std::span<std::uint8_t> slot(Line::Handle handle) {
    return {&memory_[handle * slot_bytes_], slot_bytes_};
  }
  void carry(std::span<std::uint8_t> frame, const Verdict& verdict);

  PacketSocket& from_;
  PacketSocket& to_;
  Impairer impairer_;
  Line line_;
  std::size_t slot_bytes_;
  std::vector<std::uint8_t> memory_;
  std::vector<std::uint8_t> incoming_;
  std::vector<std::uint32_t> lengths_;
  std::vector<Line::Handle> free_;
  std::uint64_t sent_ = 0;
  std::uint64_t line_full_ = 0;
  std::uint64_t peak_ = 0;
};

}  // namespace toe::netlab

#endif  // TOE_NETLAB_FORWARDER_H_
