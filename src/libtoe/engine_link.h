// The border between libtoe and whatever carries its control messages: the engine's control socket
// in a program, plain function calls in the simulator.
#ifndef TOE_LIBTOE_ENGINE_LINK_H_
#define TOE_LIBTOE_ENGINE_LINK_H_

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "shm/control_format.h"

namespace toe::libtoe {

/// One control message and the file descriptors that travel with it. `fds` of a received packet
/// belong to the receiver; those of a sent one stay the sender's.
struct Packet {
  alignas(8) std::array<std::uint8_t, shm::kMaxMessageBytes> bytes{};
  std::uint32_t length = 0;
  std::array<int, shm::kMaxShown> fds{};
  std::uint32_t fd_count = 0;

  const shm::MessageHeader& header() const {
    return *reinterpret_cast<const shm::MessageHeader*>(bytes.data());
  }
  void set_tag(std::uint64_t tag) {
    reinterpret_cast<shm::MessageHeader*>(bytes.data())->tag = tag;
  }
  /// The message as a T, or null when type or length do not match.
  template <typename T>
  const T* as(shm::MessageType type) const {
    if (length != sizeof(T) || header().type != type || header().length != length) return nullptr;
    return reinterpret_cast<const T*>(bytes.data());
  }
  template <typename T>
  void set(shm::MessageType type, T message) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= shm::kMaxMessageBytes);
    message.header.type = type;
    message.header.length = sizeof(T);
    std::memcpy(bytes.data(), &message, sizeof(T));
    length = sizeof(T);
  }
  void add_fd(int fd) { fds[fd_count++] = fd; }
};

/// How the sending of a message, or the question in it, has ended.
enum class Exchange : std::uint8_t {
  kDone,
  kNotSent,  ///< the kernel does not carry it: another thread has closed the descriptor that
             ///< travels with it, or memory is short. The engine lives.
  kGone,     ///< the engine is gone or mute
};

class EngineLink {
 public:
  virtual ~EngineLink() = default;
  virtual Exchange send(const Packet& packet) = 0;
  /// The next message from the engine; waits for it. False: the engine is gone.
  virtual bool receive(Packet& packet) = 0;
  /// Wakes the engine; never blocks.
  virtual void ring() = 0;
  /// Takes over the write end of the doorbell that came with kWelcome (-1 in a simulation).
  virtual void set_doorbell(int fd) = 0;
  /// An fd that becomes hung-up when the engine goes; -1 in a simulation.
  virtual int life_fd() const = 0;
  /// Gives up what it holds; nothing is called afterwards.
  virtual void close() = 0;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_ENGINE_LINK_H_
