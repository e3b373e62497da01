#include "port/afxdp/afxdp_port.h"

#include <sys/epoll.h>
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
#include "port/afxdp/clock.h"
#include "port/afxdp/uapi_compat.h"

namespace toe::port {
namespace {

// What the kernel leaves free in front of a received frame (XDP_PACKET_HEADROOM).
constexpr std::uint32_t kRxHeadroom = 256;
constexpr std::uint32_t kLargestSmallMtu = 1500;
constexpr std::uint32_t kRefillBatch = kBurst;
// Frames the kernel sends per system call in copy mode unless told otherwise.
constexpr std::uint32_t kKernelTxBatch = 32;
constexpr int kMoreKicks = 8;  // beyond the number that the queued frames need

std::uint32_t chunk_bytes_for(std::uint32_t mtu) { return mtu <= kLargestSmallMtu ? 2048 : 4096; }

PortCaps caps_for(const Device& device, std::uint32_t chunk_bytes) {
  PortCaps caps;
  caps.name = device.name;
  caps.ifindex = device.ifindex;
  caps.mac = device.mac;
  caps.mtu = device.mtu;
  caps.max_frame = chunk_bytes - kRxHeadroom;
  caps.queues = device.rx_queues;
  caps.partial_checksum = device.is_veth;
  return caps;
}

std::string too_many_queues(const Device& device) {
  const char* option = device.is_veth ? " rx " : " combined ";
  const std::string most = std::to_string(AfXdpPort::kMaxQueues);
  return device.name + " has " + std::to_string(device.rx_queues) +
         " receive queues and the engine serves " + most + " at most; set it with `ethtool -L " +
         device.name + option + most + "`";
}

std::string too_few_frames(const Device& device, std::uint32_t least) {
  return device.name + " has " + std::to_string(device.rx_queues) +
         " receive queues, which need frames to receive into: give --frames " +
         std::to_string(least) + " or more";
}

// Chunks that are never offered for receiving.
std::uint32_t reserve_of(std::uint32_t chunks) { return chunks / 4; }

}  // namespace

Result<std::unique_ptr<AfXdpPort>> AfXdpPort::open(const Device& device,
                                                   const AfXdpOptions& options) {
  TOE_CHECK(options.chunks >= 2048 && std::has_single_bit(options.ring) && device.rx_queues > 0);
  if (device.rx_queues > kMaxQueues) return Error{EINVAL, too_many_queues(device)};
  const std::uint32_t offered = device.rx_queues * kLeastChunksPerQueue;
  if (options.chunks - reserve_of(options.chunks) < offered) {
    return Error{EINVAL, too_few_frames(device, offered + offered / 2)};
  }
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
      tx_reserve_(reserve_of(options.chunks)),
      queue_share_((options.chunks - tx_reserve_) / device.rx_queues),
      caps_(caps_for(device, umem_.chunk_bytes())) {}

AfXdpPort::~AfXdpPort() = default;

Status AfXdpPort::set_up() {
  XskOptions options;
  options.ring = options_.ring;
  options.zero_copy = options_.zero_copy;
  options.multi_buffer = options_.multi_buffer;
  options.give_up = now() + options_.bind_patience;
  queues_.reserve(device_.rx_queues);
  for (std::uint32_t i = 0; i < device_.rx_queues; ++i) {
    Status status = add_queue(options);
    if (!status.ok()) return status;
  }
  if (multi_buffer()) caps_.max_frame *= kMaxFrameChunks;
  caps_.zero_copy = first().zero_copy();
  for (Queue& queue : queues_) refill(queue);
  return queues_.size() == 1 ? Status(Done{}) : watch_all();
}

Status AfXdpPort::add_queue(const XskOptions& options) {
  const auto number = static_cast<std::uint32_t>(queues_.size());
  Result<XskSocket> made = XskSocket::create(device_, number, options.ring);
  if (!made.ok()) return made.error();
  queues_.emplace_back(std::move(made.value()));
  XskSocket& socket = queues_.back().socket;
  if (number != 0) return socket.share(first(), options);
  Status status = socket.register_memory(umem_.memory(), umem_.chunk_bytes());
  return status.ok() ? socket.bind(options) : status;
}

// One descriptor that is readable when any of the queues is.
Status AfXdpPort::watch_all() {
  all_.reset(::epoll_create1(EPOLL_CLOEXEC));
  for (const Queue& queue : queues_) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(all_.get(), EPOLL_CTL_ADD, queue.socket.fd(), &event) != 0) {
      return Error{errno, std::string("receive queues not watched: ") + strerror(errno)};
    }
  }
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

// The next call begins with another queue, so that a busy one does not starve the others.
std::size_t AfXdpPort::rx(std::span<Frame> out) {
  const auto queues = static_cast<std::uint32_t>(queues_.size());
  if (queues == 1) return rx_queue(queues_.front(), out);
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < queues && count < out.size(); ++i) {
    count += rx_queue(queues_[(next_queue_ + i) % queues], out.subspan(count));
  }
  next_queue_ = (next_queue_ + 1) % queues;
  return count;
}

std::size_t AfXdpPort::rx_queue(Queue& queue, std::span<Frame> out) {
  XskRing<xdp_desc>& ring = queue.socket.rx;
  const auto wanted = static_cast<std::uint32_t>(out.size());
  const std::uint32_t filled = std::min(ring.filled_slots(wanted), wanted);
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < filled; ++i) {
    const xdp_desc desc = ring.filled(i);
    stats_.rx_bytes += desc.len;
    if (queue.open_parts != 0 || (desc.options & XDP_PKT_CONTD) != 0) [[unlikely]] {
      if (take_part(queue, desc, out[count])) ++count;
      continue;
    }
    const Frame frame = frame_at(desc.addr, desc.len);
    __builtin_prefetch(pool_.bytes(frame).data());  // the headers, read soon
    out[count++] = frame;
  }
  if (filled != 0) {
    ring.consume(filled);
    queue.offered -= filled;
    stats_.rx_frames += count;
    refill(queue);
  }
  return count;
}

// The kernel may have more chunks for a frame than a Frame may have; such a one is dropped whole.
bool AfXdpPort::take_part(Queue& queue, const xdp_desc& desc, Frame& out) {
  const Frame part = frame_at(desc.addr, desc.len);
  ++queue.open_parts;
  if (queue.open_parts == 1) {
    queue.open = part;
  } else if (queue.open_parts <= kMaxFrameChunks) {
    pool_.append(queue.open, part);
  } else {
    if (queue.open_parts == kMaxFrameChunks + 1) {
      stats_.rx_dropped_jumbo++;
      pool_.release(queue.open);
    }
    pool_.release(part);
  }
  if ((desc.options & XDP_PKT_CONTD) != 0) return false;
  const bool whole = std::exchange(queue.open_parts, 0) <= kMaxFrameChunks;
  if (whole) out = queue.open;
  return whole;
}

void AfXdpPort::refill(Queue& queue) {
  XskRing<std::uint64_t>& ring = queue.socket.fill;
  std::uint32_t count = ring.free_slots(kRefillBatch);
  if (count < kRefillBatch) return;
  const std::uint32_t free = pool_.free_count();
  const std::uint32_t share = queue_share_ > queue.offered ? queue_share_ - queue.offered : 0;
  count = std::min({count, share, free > tx_reserve_ ? free - tx_reserve_ : 0});
  for (std::uint32_t i = 0; i < count; ++i) {
    ring.slot(i) = static_cast<std::uint64_t>(pool_.acquire().chunk) << chunk_shift_;
  }
  if (count == 0) return;
  ring.publish(count);
  queue.offered += count;
  if (ring.needs_wakeup()) {
    ::recvfrom(queue.socket.fd(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
  }
}

void AfXdpPort::reclaim() {
  XskRing<std::uint64_t>& ring = first().completion;
  const std::uint32_t count = ring.filled_slots(in_flight_);
  if (count == 0) return;
  for (std::uint32_t i = 0; i < count; ++i) pool_.release(frame_at(ring.filled(i), 0));
  ring.consume(count);
  in_flight_ -= count;
}

std::uint32_t AfXdpPort::tx_room(std::uint32_t wanted) {
  if (in_flight_ + wanted > options_.ring) reclaim();
  // The kernel needs a completion slot for each chunk under way.
  return std::min({first().tx.free_slots(wanted), options_.ring - in_flight_, wanted});
}

xdp_desc AfXdpPort::descriptor(const Frame& part) const {
  const std::uint64_t address =
      (static_cast<std::uint64_t>(part.chunk) << chunk_shift_) + part.offset;
  return {.addr = address, .len = part.length, .options = 0};
}

void AfXdpPort::put_parts(const Frame& frame, std::uint32_t at) {
  XskRing<xdp_desc>& ring = first().tx;
  Frame part = frame;
  do {
    TOE_DCHECK(part.length != 0);
    ring.slot(at) = descriptor(part);
    if (part.next != kNoChunk) ring.slot(at).options = XDP_PKT_CONTD;
    stats_.tx_bytes += part.length;
    ++at;
  } while (pool_.advance(part));
}

std::size_t AfXdpPort::tx(std::span<const Frame> frames) {
  XskRing<xdp_desc>& ring = first().tx;
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
    ring.slot(used++) = descriptor(frame);
    stats_.tx_bytes += frame.length;
  }
  stats_.tx_frames += count;
  stats_.tx_rejected_full += frames.size() - count;
  if (used != 0) {
    ring.publish(used);
    in_flight_ += used;
    tx_unflushed_ = true;
  }
  return count;
}

// True if another kick may send more.
bool AfXdpPort::kick() {
  stats_.tx_kicks++;
  if (::sendto(first().fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0) return true;
  if (errno == EAGAIN || errno == EBUSY || errno == ENOBUFS) return true;
  if (errno == ENXIO || errno == ENODEV) failure_ = errno;
  tx_blocked_ = true;
  return false;
}

void AfXdpPort::flush() {
  if (tx_unflushed_) {
    XskRing<xdp_desc>& ring = first().tx;
    tx_blocked_ = false;
    std::uint32_t pending = ring.pending();
    int kicks = static_cast<int>(pending / kKernelTxBatch) + kMoreKicks;
    while (pending != 0 && ring.needs_wakeup() && kicks-- > 0 && kick()) {
      reclaim();
      pending = ring.pending();
    }
    tx_unflushed_ = pending != 0 && ring.needs_wakeup();
    if (tx_unflushed_) stats_.tx_stalls++;
  }
  if (in_flight_ != 0) reclaim();
}

bool AfXdpPort::prepare_sleep() {
  flush();
  bool empty = true;
  for (Queue& queue : queues_) {
    refill(queue);
    empty &= queue.socket.rx.filled_slots(1) == 0;
  }
  return empty && (!tx_unflushed_ || tx_blocked_);
}

PortStats AfXdpPort::stats() const {
  PortStats stats = stats_;
  stats.chunks_inside = in_flight_;
  for (const Queue& queue : queues_) {
    stats.chunks_inside += queue.offered + std::min(queue.open_parts, kMaxFrameChunks);
    queue.socket.add_counts(stats);
  }
  return stats;
}

}  // namespace toe::port
