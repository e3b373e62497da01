#include "port/afxdp/afxdp_port.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "port/afxdp/uapi_compat.h"

namespace toe::port {
namespace {

constexpr std::uint32_t kQueue = 0;
// What the kernel leaves free in front of a received frame (XDP_PACKET_HEADROOM).
constexpr std::uint32_t kRxHeadroom = 256;
constexpr std::uint32_t kLargestSmallMtu = 1500;
constexpr std::uint32_t kRefillBatch = kBurst;
// Frames the kernel sends per system call in copy mode unless told otherwise.
constexpr std::uint32_t kKernelTxBatch = 32;
// Frames under way count against the socket's send buffer; the rings are the real bound.
constexpr int kSendBufferBytes = 64 << 20;
constexpr int kMoreKicks = 8;  // beyond the number that the queued frames need

std::uint32_t chunk_bytes_for(std::uint32_t mtu) { return mtu <= kLargestSmallMtu ? 2048 : 4096; }

PortCaps caps_for(const Device& device, std::uint32_t chunk_bytes) {
  PortCaps caps;
  caps.name = device.name;
  caps.ifindex = device.ifindex;
  caps.mac = device.mac;
  caps.mtu = device.mtu;
  caps.max_frame = chunk_bytes - kRxHeadroom;
  caps.partial_checksum = device.is_veth;
  return caps;
}

std::string queue_error(const Device& device) {
  const char* one = device.is_veth ? " rx 1 tx 1" : " combined 1";
  return device.name + " has " + std::to_string(device.rx_queues) +
         " receive queues and the engine serves one; set it with `ethtool -L " + device.name + one +
         "`";
}

Time now() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return Time{} + seconds(t.tv_sec) + Nanos{t.tv_nsec};
}

void pause_millisecond() {
  const timespec t{0, 1'000'000};
  ::nanosleep(&t, nullptr);
}

}  // namespace

Result<std::unique_ptr<AfXdpPort>> AfXdpPort::open(const Device& device,
                                                   const AfXdpOptions& options) {
  TOE_CHECK(options.chunks >= 2048 && std::has_single_bit(options.ring));
  if (device.rx_queues != 1) return Error{EINVAL, queue_error(device)};
  auto umem = Umem::create(options.chunks, chunk_bytes_for(device.mtu));
  if (!umem.ok()) return umem.error();
  std::unique_ptr<AfXdpPort> port(new AfXdpPort(device, options, std::move(umem.value())));
  Status status = port->set_up();
  if (!status.ok()) return status.error();
  return port;
}

AfXdpPort::AfXdpPort(const Device& device, const AfXdpOptions& options, Umem umem)
    : device_(device),
      options_(options),
      umem_(std::move(umem)),
      pool_(umem_.memory(), umem_.chunk_bytes()),
      chunk_shift_(static_cast<std::uint32_t>(std::countr_zero(umem_.chunk_bytes()))),
      tx_reserve_(options.chunks / 4),
      caps_(caps_for(device, umem_.chunk_bytes())) {}

AfXdpPort::~AfXdpPort() = default;

Error AfXdpPort::error(int code, const char* what) const {
  return {code, std::string(what) + " for " + device_.name + ": " + strerror(code)};
}

Status AfXdpPort::set_up() {
  socket_.reset(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!socket_.valid()) {
    if (errno == EPERM) {
      return Error{EPERM, "an AF_XDP socket was refused: the engine needs CAP_NET_RAW"};
    }
    return error(errno, "no AF_XDP socket");
  }
  for (const auto step :
       {&AfXdpPort::register_umem, &AfXdpPort::map_rings, &AfXdpPort::bind_queue}) {
    Status status = (this->*step)();
    if (!status.ok()) return status;
  }
  refill();
  return Done{};
}

Status AfXdpPort::register_umem() {
  xdp_umem_reg reg;
  std::memset(&reg, 0, sizeof(reg));
  reg.addr = reinterpret_cast<std::uint64_t>(umem_.memory().data());
  reg.len = umem_.memory().size();
  reg.chunk_size = umem_.chunk_bytes();
  if (::setsockopt(socket_.get(), SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)) == 0) return Done{};
  const int code = errno;
  if (code != ENOBUFS && code != EPERM) return error(code, "frame memory was not accepted");
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return Error{code, "the locked-memory limit (" + std::to_string(limit.rlim_cur >> 10) +
                         " KiB) is too small for " + std::to_string(reg.len >> 10) +
                         " KiB of frames; give the engine CAP_IPC_LOCK or raise `ulimit -l`"};
}

Status AfXdpPort::map_rings() {
  const int fd = socket_.get();
  const int slots = static_cast<int>(options_.ring);
  for (const int ring : {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING}) {
    if (::setsockopt(fd, SOL_XDP, ring, &slots, sizeof(slots)) != 0) {
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
      fill_.map(fd, layout.fr, options_.ring, static_cast<off_t>(XDP_UMEM_PGOFF_FILL_RING)) &&
      completion_.map(fd, layout.cr, options_.ring,
                      static_cast<off_t>(XDP_UMEM_PGOFF_COMPLETION_RING)) &&
      rx_.map(fd, layout.rx, options_.ring, XDP_PGOFF_RX_RING) &&
      tx_.map(fd, layout.tx, options_.ring, static_cast<off_t>(XDP_PGOFF_TX_RING));
  if (!mapped) return error(errno, "AF_XDP rings could not be mapped");
  // One call per burst instead of one per 32 frames; older kernels refuse, which is fine.
  const int budget = static_cast<int>(std::min(options_.ring, 4 * kBurst));
  ::setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSendBufferBytes, sizeof(kSendBufferBytes));
  return Done{};
}

int AfXdpPort::try_bind(std::uint16_t flags) const {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = static_cast<std::uint32_t>(device_.ifindex);
  address.sxdp_queue_id = kQueue;
  address.sxdp_flags = flags;
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  return ::bind(socket_.get(), generic, sizeof(address)) == 0 ? 0 : errno;
}

// From the best to the plainest way. Without XDP_COPY the kernel takes zero-copy if the driver
// offers it and copies otherwise. A queue that a dying engine still holds is EBUSY for some
// milliseconds.
Status AfXdpPort::bind_queue() {
  const std::uint16_t ways[] = {XDP_USE_NEED_WAKEUP | XDP_USE_SG,
                                XDP_USE_NEED_WAKEUP | XDP_USE_SG | XDP_COPY, XDP_USE_NEED_WAKEUP,
                                XDP_USE_NEED_WAKEUP | XDP_COPY, XDP_COPY};
  const Time give_up = now() + options_.bind_patience;
  int code = 0;
  for (const std::uint16_t way : ways) {
    if (!options_.zero_copy && (way & XDP_COPY) == 0) continue;
    if (!options_.multi_buffer && (way & XDP_USE_SG) != 0) continue;
    while ((code = try_bind(way)) == EBUSY && now() < give_up) pause_millisecond();
    if (code == 0) {
      multi_buffer_ = (way & XDP_USE_SG) != 0;
      break;
    }
    if (code != EINVAL && code != EOPNOTSUPP) break;
  }
  switch (code) {
    case 0:
      break;
    case EBUSY:
      return Error{code, "queue 0 of " + device_.name + " is held by another AF_XDP program"};
    case ENODEV:
      return Error{code, "there is no interface " + device_.name};
    case ENETDOWN:
      return Error{code, device_.name + " is down; `ip link set " + device_.name + " up`"};
    default:
      return error(code, "the AF_XDP socket could not be bound");
  }
  xdp_options granted{};
  socklen_t length = sizeof(granted);
  ::getsockopt(socket_.get(), SOL_XDP, XDP_OPTIONS, &granted, &length);
  if (multi_buffer_) caps_.max_frame *= kMaxFrameChunks;
  caps_.zero_copy = (granted.flags & XDP_OPTIONS_ZEROCOPY) != 0;
  return Done{};
}

Frame AfXdpPort::frame_at(std::uint64_t address, std::uint32_t length) const {
  Frame frame;
  frame.chunk = static_cast<std::uint32_t>(address >> chunk_shift_);
  frame.offset = static_cast<std::uint16_t>(address & (umem_.chunk_bytes() - 1));
  frame.length = static_cast<std::uint16_t>(length);
  TOE_DCHECK(frame.chunk < pool_.chunks() && frame.offset + length <= umem_.chunk_bytes());
  return frame;
}

std::size_t AfXdpPort::rx(std::span<Frame> out) {
  const auto wanted = static_cast<std::uint32_t>(out.size());
  const std::uint32_t filled = std::min(rx_.filled_slots(wanted), wanted);
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < filled; ++i) {
    const xdp_desc desc = rx_.filled(i);
    stats_.rx_bytes += desc.len;
    if (open_parts_ != 0 || (desc.options & XDP_PKT_CONTD) != 0) [[unlikely]] {
      if (take_part(desc, out[count])) ++count;
      continue;
    }
    const Frame frame = frame_at(desc.addr, desc.len);
    __builtin_prefetch(pool_.bytes(frame).data());  // the headers, read soon
    out[count++] = frame;
  }
  if (filled != 0) {
    rx_.consume(filled);
    offered_ -= filled;
    stats_.rx_frames += count;
    refill();
  }
  return count;
}

// The kernel may have more chunks for a frame than a Frame may have; such a one is dropped whole.
bool AfXdpPort::take_part(const xdp_desc& desc, Frame& out) {
  const Frame part = frame_at(desc.addr, desc.len);
  ++open_parts_;
  if (open_parts_ == 1) {
    open_ = part;
  } else if (open_parts_ <= kMaxFrameChunks) {
    pool_.append(open_, part);
  } else {
    if (open_parts_ == kMaxFrameChunks + 1) {
      stats_.rx_dropped_jumbo++;
      pool_.release(open_);
    }
    pool_.release(part);
  }
  if ((desc.options & XDP_PKT_CONTD) != 0) return false;
  const bool whole = std::exchange(open_parts_, 0) <= kMaxFrameChunks;
  if (whole) out = open_;
  return whole;
}

void AfXdpPort::refill() {
  std::uint32_t count = fill_.free_slots(kRefillBatch);
  if (count < kRefillBatch) return;
  const std::uint32_t free = pool_.free_count();
  count = std::min(count, free > tx_reserve_ ? free - tx_reserve_ : 0);
  for (std::uint32_t i = 0; i < count; ++i) {
    fill_.slot(i) = static_cast<std::uint64_t>(pool_.acquire().chunk) << chunk_shift_;
  }
  if (count == 0) return;
  fill_.publish(count);
  offered_ += count;
  if (fill_.needs_wakeup()) ::recvfrom(socket_.get(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
}

void AfXdpPort::reclaim() {
  const std::uint32_t count = completion_.filled_slots(in_flight_);
  if (count == 0) return;
  for (std::uint32_t i = 0; i < count; ++i) pool_.release(frame_at(completion_.filled(i), 0));
  completion_.consume(count);
  in_flight_ -= count;
}

std::uint32_t AfXdpPort::tx_room(std::uint32_t wanted) {
  if (in_flight_ + wanted > options_.ring) reclaim();
  // The kernel needs a completion slot for each chunk under way.
  return std::min({tx_.free_slots(wanted), options_.ring - in_flight_, wanted});
}

xdp_desc AfXdpPort::descriptor(const Frame& part) const {
  const std::uint64_t address =
      (static_cast<std::uint64_t>(part.chunk) << chunk_shift_) + part.offset;
  return {.addr = address, .len = part.length, .options = 0};
}

void AfXdpPort::put_parts(const Frame& frame, std::uint32_t at) {
  Frame part = frame;
  do {
    TOE_DCHECK(part.length != 0);
    tx_.slot(at) = descriptor(part);
    if (part.next != kNoChunk) tx_.slot(at).options = XDP_PKT_CONTD;
    stats_.tx_bytes += part.length;
    ++at;
  } while (pool_.advance(part));
}

std::size_t AfXdpPort::tx(std::span<const Frame> frames) {
  std::uint32_t room = tx_room(static_cast<std::uint32_t>(frames.size()));
  std::uint32_t used = 0;
  std::size_t count = 0;
  for (; count < frames.size(); ++count) {
    const Frame& frame = frames[count];
    if (frame.next != kNoChunk) [[unlikely]] {
      const std::uint32_t parts = pool_.count_parts(frame);
      if (used + parts > room) room = tx_room(used + parts);
      if (used + parts > room) break;
      put_parts(frame, used);
      used += parts;
      continue;
    }
    if (used == room) [[unlikely]] {
      room = tx_room(used + 1);
      if (used == room) break;
    }
    TOE_DCHECK(frame.length != 0);
    tx_.slot(used++) = descriptor(frame);
    stats_.tx_bytes += frame.length;
  }
  stats_.tx_frames += count;
  stats_.tx_rejected_full += frames.size() - count;
  if (used != 0) {
    tx_.publish(used);
    in_flight_ += used;
    tx_unflushed_ = true;
  }
  return count;
}

// True if another kick may send more.
bool AfXdpPort::kick() {
  stats_.tx_kicks++;
  if (::sendto(socket_.get(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0) return true;
  if (errno == EAGAIN || errno == EBUSY || errno == ENOBUFS) return true;
  if (errno == ENXIO || errno == ENODEV) failure_ = errno;
  tx_blocked_ = true;
  return false;
}

void AfXdpPort::flush() {
  if (tx_unflushed_) {
    tx_blocked_ = false;
    std::uint32_t pending = tx_.pending();
    int kicks = static_cast<int>(pending / kKernelTxBatch) + kMoreKicks;
    while (pending != 0 && tx_.needs_wakeup() && kicks-- > 0 && kick()) {
      reclaim();
      pending = tx_.pending();
    }
    tx_unflushed_ = pending != 0 && tx_.needs_wakeup();
    if (tx_unflushed_) stats_.tx_stalls++;
  }
  if (in_flight_ != 0) reclaim();
}

bool AfXdpPort::prepare_sleep() {
  flush();
  refill();
  return rx_.filled_slots(1) == 0 && (!tx_unflushed_ || tx_blocked_);
}

PortStats AfXdpPort::stats() const {
  PortStats stats = stats_;
  stats.chunks_inside = offered_ + in_flight_ + std::min(open_parts_, kMaxFrameChunks);
  xdp_statistics kernel{};
  socklen_t length = sizeof(kernel);
  if (::getsockopt(socket_.get(), SOL_XDP, XDP_STATISTICS, &kernel, &length) == 0) {
    stats.rx_dropped_full = kernel.rx_ring_full;
    stats.rx_dropped_no_fill = kernel.rx_fill_ring_empty_descs;
    // The kernel's sum names the cause only where it counts it apart.
    stats.rx_dropped_other = kernel.rx_dropped + kernel.rx_invalid_descs;
    stats.tx_invalid = kernel.tx_invalid_descs;
  }
  return stats;
}

}  // namespace toe::port
