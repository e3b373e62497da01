// Socket options: read back from the kernel socket when it is offloaded, then kept in the line.
#ifndef TOE_LIBTOE_OPTIONS_H_
#define TOE_LIBTOE_OPTIONS_H_

#include <sys/socket.h>

#include <cstdint>

#include "libtoe/socket.h"

namespace toe::libtoe {

/// One getsockopt or setsockopt call.
struct OptionCall {
  int level;
  int name;
};

/// An option with an effect that the engine cannot give.
bool is_kernel_option(OptionCall call);
/// What the program set on the kernel socket `fd`. False: an option only the kernel can honour.
bool read_options(const Socket& socket, int fd, shm::SocketOptions& out);
/// SO_REUSEADDR and SO_REUSEPORT of the kernel socket, which accepted sockets show as well.
void read_reuse(Socket& socket, int fd);
/// SO_RCVTIMEO or SO_SNDTIMEO of a kernel socket; -1 = none.
std::int64_t kernel_timeout_ns(int fd, int option);
/// SO_RCVLOWAT of a kernel socket, at least 1.
std::uint32_t kernel_low_water(int fd);
/// The SO_RCVBUF without which so many bytes might never wait in a ring; 0 = any.
std::uint32_t buffer_for_low_water(std::uint32_t bytes);

/// setsockopt on a fresh socket has succeeded in the kernel: remembers what cannot be read back.
void note_option(Socket& socket, OptionCall call, const void* value, socklen_t length);
/// TCP_CONGESTION on a fresh socket: 0 when it names an algorithm of the engine, kLeaveToKernel
/// when the kernel shall decide.
int set_fresh_congestion(Socket& socket, const void* value, socklen_t length);

/// On offloaded sockets. 0, a negative errno, or kLeaveToKernel for what the kernel socket holds.
int socket_setsockopt(Socket& socket, OptionCall call, const void* value, socklen_t length);
int socket_getsockopt(Socket& socket, OptionCall call, void* value, socklen_t* length);
int socket_ioctl(Socket& socket, unsigned long request, void* argument);

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_OPTIONS_H_
