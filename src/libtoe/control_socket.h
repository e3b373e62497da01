// The engine's control socket as an EngineLink.
#ifndef TOE_LIBTOE_CONTROL_SOCKET_H_
#define TOE_LIBTOE_CONTROL_SOCKET_H_

#include <memory>

#include "libtoe/engine_link.h"

namespace toe::libtoe {

class ControlSocket final : public EngineLink {
 public:
  /// Connects to `path`; null with errno set when nobody answers.
  static std::unique_ptr<ControlSocket> open(const char* path);
  ~ControlSocket() override;

  Exchange send(const Packet& packet) override;
  bool receive(Packet& packet) override;
  void ring() override;
  void set_doorbell(int fd) override;
  int life_fd() const override { return fd_; }
  void close() override;

  /// True for a connection to the control socket at `path`: one that a program left open for this
  /// one at exec (see keep_over_exec).
  static bool is_connection(int fd, const char* path);

 private:
  explicit ControlSocket(int fd) : fd_(fd) {}
  bool await(shm::MessageType& type);

  int fd_;
  int doorbell_ = -1;  ///< write end of the engine's doorbell
  int guard_ = -1;     ///< read end of the same pipe, never read
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_CONTROL_SOCKET_H_
