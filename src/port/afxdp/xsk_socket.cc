#include "port/afxdp/xsk_socket.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/limits.h"
#include "port/afxdp/clock.h"
#include "port/afxdp/uapi_compat.h"

namespace toe::port {
namespace {

// Frames under way count against the socket's send buffer; the rings are the real bound.
constexpr int kSendBufferBytes = 64 << 20;

void pause_millisecond() {
  const timespec t{0, 1'000'000};
  ::nanosleep(&t, nullptr);
}

}  // namespace

Error XskSocket::error(int code, const char* what) const {
  return {code, std::string(what) + " for " + device_.name + ": " + strerror(code)};
}

Result<XskSocket> XskSocket::create(const Device& device, std::uint32_t queue,
                                    std::uint32_t slots) {
  XskSocket socket;
  socket.device_ = device;
  socket.queue_ = queue;
  socket.fd_.reset(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!socket.fd_.valid()) {
    if (errno == EPERM) {
      return Error{EPERM, "an AF_XDP socket was refused: the engine needs CAP_NET_RAW"};
    }
    return socket.error(errno, "no AF_XDP socket");
  }
  Status status = socket.map_rings(slots);
  if (!status.ok()) return status.error();
  return socket;
}

Status XskSocket::register_memory(std::span<std::uint8_t> memory, std::uint32_t chunk_bytes) {
  xdp_umem_reg reg;
  std::memset(&reg, 0, sizeof(reg));
  reg.addr = reinterpret_cast<std::uint64_t>(memory.data());
  reg.len = memory.size();
  reg.chunk_size = chunk_bytes;
  if (::setsockopt(fd_.get(), SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)) == 0) return Done{};
  const int code = errno;
  if (code != ENOBUFS && code != EPERM) return error(code, "frame memory was not accepted");
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return Error{code, "the locked-memory limit (" + std::to_string(limit.rlim_cur >> 10) +
                         " KiB) is too small for " + std::to_string(reg.len >> 10) +
                         " KiB of frames; give the engine CAP_IPC_LOCK or raise `ulimit -l`"};
}

Status XskSocket::map_rings(std::uint32_t slots) {
  const int fd = fd_.get();
  const int size = static_cast<int>(slots);
  for (const int ring : {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING}) {
    if (::setsockopt(fd, SOL_XDP, ring, &size, sizeof(size)) != 0) {
      return error(errno, "no AF_XDP ring");
    }
  }
  xdp_mmap_offsets layout{};
  socklen_t length = sizeof(layout);
  if (::getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &layout, &length) != 0 ||
      length != sizeof(layout)) {
    return error(errno, "no layout of the AF_XDP rings");
  }
  const bool mapped =
      fill.map(fd, layout.fr, slots, static_cast<off_t>(XDP_UMEM_PGOFF_FILL_RING)) &&
      completion.map(fd, layout.cr, slots, static_cast<off_t>(XDP_UMEM_PGOFF_COMPLETION_RING)) &&
      rx.map(fd, layout.rx, slots, XDP_PGOFF_RX_RING) &&
      tx.map(fd, layout.tx, slots, static_cast<off_t>(XDP_PGOFF_TX_RING));
  if (!mapped) return error(errno, "AF_XDP rings could not be mapped");
  // One call per burst instead of one per 32 frames; older kernels refuse, which is fine.
  const int budget = static_cast<int>(std::min(slots, 4 * kBurst));
  ::setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSendBufferBytes, sizeof(kSendBufferBytes));
  return Done{};
}

// A queue that a dying engine still holds is EBUSY for some milliseconds.
int XskSocket::try_bind(std::uint16_t flags, int shared, Time give_up) const {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = static_cast<std::uint32_t>(device_.ifindex);
  address.sxdp_queue_id = queue_;
  address.sxdp_flags = flags;
  address.sxdp_shared_umem_fd = static_cast<std::uint32_t>(shared);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  for (;;) {
    if (::bind(fd_.get(), generic, sizeof(address)) == 0) return 0;
    const int code = errno;
    if (code != EBUSY || now() >= give_up) return code;
    pause_millisecond();
  }
}

Error XskSocket::bind_error(int code) const {
  switch (code) {
    case EBUSY:
      return {code, "queue " + std::to_string(queue_) + " of " + device_.name +
                        " is held by another AF_XDP program"};
    case ENODEV:
      return {code, "there is no interface " + device_.name};
    case ENETDOWN:
      return {code, device_.name + " is down; `ip link set " + device_.name + " up`"};
    default:
      return error(code, "the AF_XDP socket could not be bound");
  }
}

// From the best to the plainest way. Without XDP_COPY the kernel takes zero-copy if the driver
// offers it and copies otherwise.
Status XskSocket::bind(const XskOptions& options) {
  const std::uint16_t ways[] = {XDP_USE_NEED_WAKEUP | XDP_USE_SG,
                                XDP_USE_NEED_WAKEUP | XDP_USE_SG | XDP_COPY, XDP_USE_NEED_WAKEUP,
                                XDP_USE_NEED_WAKEUP | XDP_COPY, XDP_COPY};
  int code = 0;
  for (const std::uint16_t way : ways) {
    if (!options.zero_copy && (way & XDP_COPY) == 0) continue;
    if (!options.multi_buffer && (way & XDP_USE_SG) != 0) continue;
    code = try_bind(way, 0, options.give_up);
    if (code == 0) {
      multi_buffer_ = (way & XDP_USE_SG) != 0;
      return Done{};
    }
    if (code != EINVAL && code != EOPNOTSUPP) break;
  }
  return bind_error(code);
}

// The kernel takes the way of binding from the first socket and wants no other flags here.
Status XskSocket::share(const XskSocket& first, const XskOptions& options) {
  const int code = try_bind(XDP_SHARED_UMEM, first.fd(), options.give_up);
  if (code != 0) return bind_error(code);
  multi_buffer_ = first.multi_buffer_;
  return Done{};
}

bool XskSocket::zero_copy() const {
  xdp_options granted{};
  socklen_t length = sizeof(granted);
  return ::getsockopt(fd_.get(), SOL_XDP, XDP_OPTIONS, &granted, &length) == 0 &&
         (granted.flags & XDP_OPTIONS_ZEROCOPY) != 0;
}

void XskSocket::add_counts(PortStats& stats) const {
  xdp_statistics kernel{};
  socklen_t length = sizeof(kernel);
  if (::getsockopt(fd_.get(), SOL_XDP, XDP_STATISTICS, &kernel, &length) != 0) return;
  stats.rx_dropped_full += kernel.rx_ring_full;
  stats.rx_dropped_no_fill += kernel.rx_fill_ring_empty_descs;
  // The kernel's sum names the cause only where it counts it apart.
  stats.rx_dropped_other += kernel.rx_dropped + kernel.rx_invalid_descs;
  stats.tx_invalid += kernel.tx_invalid_descs;
}

}  // namespace toe::port
