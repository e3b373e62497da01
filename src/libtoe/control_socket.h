// The engine's control socket as an EngineLink.
#ifndef TOE_LIBTOE_CONTROL_SOCKET_H_
#define TOE_LIBTOE_CONTROL_SOCKET_H_

#include <memory>

#include "libtoe/engine_link.h"

namespace toe::libtoe {

/// Moves `fd` to the top of the descriptor range, close-on-exec, so that programs that expect
/// small numbers, or close all they know, do not meet it. Returns the new number.
int move_to_top(int fd);
/// True for descriptors that libtoe owns; the program may neither close nor replace them.
bool is_internal_fd(int fd);
void close_internal(int fd);
/// close_range(2) that leaves our own descriptors open. 0 or a negative errno.
int close_around_internal(unsigned first, unsigned last, int flags);
/// Before the program's dup2 onto `fd`: false when `fd` is one of ours.
bool make_room(int fd);
/// Fork child: closes all of them; they are the parent's.
void forget_internal_fds();

class ControlSocket final : public EngineLink {
 public:
  /// Connects to `path`; null with errno set when nobody answers.
  static std::unique_ptr<ControlSocket> open(const char* path);
  ~ControlSocket() override;

  bool send(const Packet& packet) override;
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

  int fd_;
  int doorbell_ = -1;  ///< write end of the engine's doorbell
  int guard_ = -1;     ///< read end of the same pipe, never read
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_CONTROL_SOCKET_H_
