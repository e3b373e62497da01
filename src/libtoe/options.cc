#include "libtoe/options.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "libtoe/libc.h"
#include "libtoe/open.h"
#include "libtoe/user_memory.h"
#include "shm/congestion_names.h"

namespace toe::libtoe {
namespace {

using shm::AppFlag;

constexpr int kBufLock = 72;      // SO_BUF_LOCK
constexpr int kTcpUlp = 31;       // TCP_ULP
constexpr int kTcpMd5 = 14;       // TCP_MD5SIG
constexpr int kTcpMd5Ext = 32;    // TCP_MD5SIG_EXT
constexpr int kDefaultMss = 536;  // what TCP_MAXSEG shows before it was set

/// Options with an effect that the engine cannot give: who sets one wants the kernel. (Those with a
/// value that says no more than the default are read back: only_kernel_can.)
constexpr std::array kKernelOptions = {
    OptionCall{SOL_SOCKET, SO_ATTACH_FILTER},   OptionCall{SOL_SOCKET, SO_ATTACH_BPF},
    OptionCall{SOL_SOCKET, SO_BINDTODEVICE},    OptionCall{SOL_SOCKET, SO_ZEROCOPY},
    OptionCall{SOL_SOCKET, SO_TIMESTAMPING},    OptionCall{SOL_SOCKET, SO_TXTIME},
    OptionCall{SOL_SOCKET, SO_MAX_PACING_RATE}, OptionCall{IPPROTO_TCP, kTcpMd5},
    OptionCall{IPPROTO_TCP, kTcpMd5Ext},        OptionCall{IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    OptionCall{IPPROTO_TCP, TCP_WINDOW_CLAMP},  OptionCall{IPPROTO_TCP, TCP_LINGER2},
    OptionCall{IPPROTO_TCP, TCP_SAVE_SYN},      OptionCall{IPPROTO_TCP, TCP_REPAIR},
    OptionCall{IPPROTO_IP, IP_OPTIONS},         OptionCall{IPPROTO_IP, IP_MINTTL},
    OptionCall{IPPROTO_IPV6, IPV6_MINHOPCOUNT},
};

int kernel_int(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof(value);
  return libc().getsockopt(fd, level, name, &value, &length) == 0 ? value : 0;
}

std::uint32_t kernel_word(int fd, int level, int name) {
  return static_cast<std::uint32_t>(std::max(0, kernel_int(fd, level, name)));
}

bool only_kernel_can(int fd, int family) {
  if (kernel_int(fd, SOL_SOCKET, SO_MARK) != 0) return true;
  if (kernel_int(fd, IPPROTO_IP, IP_TRANSPARENT) != 0) return true;
  if (kernel_int(fd, IPPROTO_IP, IP_TOS) != 0) return true;
  if (family == AF_INET6 && kernel_int(fd, IPPROTO_IPV6, IPV6_TCLASS) > 0) return true;
  if (kernel_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) != 0) return true;
  std::array<char, 16> text{};
  socklen_t length = text.size();
  if (libc().getsockopt(fd, IPPROTO_TCP, kTcpUlp, text.data(), &length) == 0 && length > 0 &&
      text[0] != 0) {
    return true;
  }
  return false;
}

void read_buffers(int fd, shm::SocketOptions& out) {
  const int locked = kernel_int(fd, SOL_SOCKET, kBufLock);
  if ((locked & 2) != 0) out.rcvbuf = kernel_word(fd, SOL_SOCKET, SO_RCVBUF);
  if ((locked & 1) != 0) out.sndbuf = kernel_word(fd, SOL_SOCKET, SO_SNDBUF);
  if (out.rcvbuf == 0) out.rcvbuf = buffer_for_low_water(kernel_low_water(fd));
}

void read_keepalive(int fd, shm::SocketOptions& out) {
  out.keep_idle_s = kernel_word(fd, IPPROTO_TCP, TCP_KEEPIDLE);
  out.keep_interval_s = kernel_word(fd, IPPROTO_TCP, TCP_KEEPINTVL);
  out.keep_count = kernel_word(fd, IPPROTO_TCP, TCP_KEEPCNT);
  out.user_timeout_ms = kernel_word(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
  if (kernel_int(fd, SOL_SOCKET, SO_KEEPALIVE) != 0) out.app_flags |= AppFlag::kKeepAlive;
}

void read_linger(int fd, shm::SocketOptions& out) {
  linger value{};
  socklen_t length = sizeof(value);
  if (libc().getsockopt(fd, SOL_SOCKET, SO_LINGER, &value, &length) == 0 && value.l_onoff != 0) {
    out.linger_s = 1 + static_cast<std::uint32_t>(std::max(0, value.l_linger));
  }
}

}  // namespace

std::uint32_t kernel_low_water(int fd) {
  return std::max(1u, kernel_word(fd, SOL_SOCKET, SO_RCVLOWAT));
}

std::uint32_t buffer_for_low_water(std::uint32_t bytes) {
  if (bytes <= shm::kMinRingBytes / 2) return 0;
  return 2 * std::min(bytes, shm::kMaxRingBytes / 2);
}

std::int64_t kernel_timeout_ns(int fd, int option) {
  timeval value{};
  socklen_t length = sizeof(value);
  if (libc().getsockopt(fd, SOL_SOCKET, option, &value, &length) != 0) return -1;
  const std::int64_t ns = std::int64_t{value.tv_sec} * 1'000'000'000 + value.tv_usec * 1000;
  return ns == 0 ? -1 : ns;
}

void read_reuse(Socket& socket, int fd) {
  socket.settings.reuse_addr.store(kernel_int(fd, SOL_SOCKET, SO_REUSEADDR) != 0);
  socket.settings.reuse_port.store(kernel_int(fd, SOL_SOCKET, SO_REUSEPORT) != 0);
}

bool read_options(const Socket& socket, int fd, shm::SocketOptions& out) {
  if (socket.needs_kernel.load()) return false;
  if (!socket.options_touched.load()) return true;
  if (only_kernel_can(fd, socket.family)) return false;
  read_buffers(fd, out);
  read_keepalive(fd, out);
  read_linger(fd, out);
  if (kernel_int(fd, IPPROTO_TCP, TCP_NODELAY) != 0) out.app_flags |= AppFlag::kNoDelay;
  if (kernel_int(fd, SOL_SOCKET, SO_OOBINLINE) != 0) out.app_flags |= AppFlag::kUrgentInline;
  if (kernel_int(fd, IPPROTO_TCP, TCP_CORK) != 0) out.app_flags |= AppFlag::kCork;
  const int mss = kernel_int(fd, IPPROTO_TCP, TCP_MAXSEG);
  if (mss != kDefaultMss && mss > 0) out.max_segment = static_cast<std::uint32_t>(mss);
  std::memcpy(out.congestion, socket.congestion, sizeof(out.congestion));
  return true;
}

bool is_kernel_option(OptionCall call) {
  return std::any_of(kKernelOptions.begin(), kKernelOptions.end(), [&call](const OptionCall& one) {
    return one.level == call.level && one.name == call.name;
  });
}

void note_option(Socket& socket, OptionCall call, const void*, socklen_t) {
  socket.options_touched.store(true, std::memory_order_relaxed);
  if (is_kernel_option(call)) socket.needs_kernel.store(true, std::memory_order_relaxed);
}

int set_fresh_congestion(Socket& socket, const void* value, socklen_t length) {
  if (!may_be_mapped(value, length) || length == 0) return kLeaveToKernel;
  char name[16] = {};
  std::memcpy(name, value, std::min<std::size_t>(length, sizeof(name) - 1));
  if (!shm::is_congestion_name(name)) return kLeaveToKernel;
  std::memcpy(socket.congestion, name, sizeof(name));
  socket.options_touched.store(true, std::memory_order_relaxed);
  return 0;
}

}  // namespace toe::libtoe
