// The control socket: packets with descriptors.
#ifndef TOE_ENGINE_SOCKET_IO_H_
#define TOE_ENGINE_SOCKET_IO_H_

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "shm/control_format.h"

namespace toe::engine {

struct SocketAccess {
  mode_t mode = 0666;
  std::string group;  ///< "" = leave as it is
};

/// Binds and listens. A socket file in the way is removed: REQUIRES the lock of this name.
Result<UniqueFd> open_control_socket(const std::string& path, const SocketAccess& access);

struct Packet {
  enum class Kind : std::uint8_t { kMessage, kNothing, kEnd, kBroken };
  Kind kind = Kind::kNothing;
  std::size_t length = 0;
  std::vector<UniqueFd> fds;
  alignas(8) std::uint8_t bytes[shm::kMaxMessageBytes];
};

/// Takes one packet; never blocks. kBroken: longer than any message, or more descriptors than one
/// may carry.
void receive_packet(int socket, Packet& packet);

/// Sends one packet; never blocks. False with errno when it cannot be sent now or ever.
bool send_packet(int socket, std::span<const std::uint8_t> message, std::span<const int> fds);

}  // namespace toe::engine

#endif  // TOE_ENGINE_SOCKET_IO_H_
