#include "netlab/packet_socket.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace toe::netlab {
namespace {

constexpr std::size_t kRingBytes = 32u << 20;
constexpr std::size_t kBlockBytes = 1u << 20;
constexpr std::size_t kHeadersBytes = 256;  ///< of a slot, in front of the frame
constexpr std::size_t kTagBytes = 4;
constexpr std::size_t kMacsBytes = 12;
constexpr std::size_t kBatch = 64;

Error system_error(const std::string& what) { return {errno, what + ": " + std::strerror(errno)}; }

bool set_option(int fd, int name, int value) {
  return ::setsockopt(fd, SOL_PACKET, name, &value, sizeof value) == 0;
}

std::size_t round_up_to_power(std::size_t n) {
  std::size_t power = 2048;
  while (power < n) power *= 2;
  return power;
}

}  // namespace

Result<PacketSocket> PacketSocket::open(const std::string& device) {
  PacketSocket socket;
  socket.fd_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.fd_.valid()) return system_error("a packet socket (needs CAP_NET_RAW)");
  ifreq request{};
  device.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (::ioctl(socket.fd(), SIOCGIFMTU, &request) != 0) return system_error(device);
  socket.max_frame_ = static_cast<std::size_t>(request.ifr_mtu) + ETH_HLEN + kTagBytes;
  Status made = socket.make_ring();
  if (!made.ok()) return made.error();
  Status bound = socket.bind_to(device);
  if (!bound.ok()) return bound.error();
  return socket;
}

PacketSocket::~PacketSocket() {
  if (ring_ != nullptr) ::munmap(ring_, ring_bytes_);
}

PacketSocket::PacketSocket(PacketSocket&& other) noexcept
    : fd_(std::move(other.fd_)),
      ring_(std::exchange(other.ring_, nullptr)),
      ring_bytes_(other.ring_bytes_),
      slot_bytes_(other.slot_bytes_),
      slots_(other.slots_),
      next_(other.next_),
      max_frame_(other.max_frame_),
      losses_(other.losses_) {}

/// Version 2 of the ring hands over single frames; version 3 hands over blocks, and a lone frame
/// would wait a millisecond for its block to be closed.
Status PacketSocket::make_ring() {
  slot_bytes_ = round_up_to_power(max_frame_ + kHeadersBytes);
  slots_ = kRingBytes / slot_bytes_;
  tpacket_req request{};
  request.tp_block_size = kBlockBytes;
  request.tp_block_nr = kRingBytes / kBlockBytes;
  request.tp_frame_size = static_cast<unsigned>(slot_bytes_);
  request.tp_frame_nr = static_cast<unsigned>(slots_);
  if (!set_option(fd(), PACKET_VERSION, TPACKET_V2) ||
      !set_option(fd(), PACKET_IGNORE_OUTGOING, 1) || !set_option(fd(), PACKET_QDISC_BYPASS, 1) ||
      ::setsockopt(fd(), SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0) {
    return system_error("the receive ring");
  }
  void* memory =
      ::mmap(nullptr, kRingBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd(), 0);
  if (memory == MAP_FAILED) return system_error("mapping the receive ring");
  ring_ = static_cast<std::uint8_t*>(memory);
  ring_bytes_ = kRingBytes;
  return Done{};
}

Status PacketSocket::bind_to(const std::string& device) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
  if (::bind(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return system_error("binding to " + device);
  }
  return Done{};
}

std::size_t PacketSocket::receive(std::span<std::uint8_t> out) {
  TOE_CHECK(out.size() >= max_frame_);
  for (;;) {
    std::uint8_t* slot = ring_ + next_ * slot_bytes_;
    auto* header = reinterpret_cast<tpacket2_hdr*>(slot);
    const std::atomic_ref<__u32> status(header->tp_status);
    const __u32 seen = status.load(std::memory_order_acquire);  // pairs with the kernel's release
    if ((seen & TP_STATUS_USER) == 0) return 0;
    const std::uint8_t* bytes = slot + header->tp_mac;
    const bool tagged = (seen & TP_STATUS_VLAN_VALID) != 0;
    const std::size_t tag = tagged ? kTagBytes : 0;
    std::size_t length = header->tp_len;
    if (header->tp_snaplen < length || length + tag > max_frame_ || length < ETH_HLEN) {
      losses_.too_long++;
      length = 0;
    } else {
      std::memcpy(out.data(), bytes, kMacsBytes);
      if (tagged) {
        const __u16 type =
            (seen & TP_STATUS_VLAN_TPID_VALID) != 0 ? header->tp_vlan_tpid : __u16{ETH_P_8021Q};
        const std::array<__u16, 2> words = {htons(type), htons(header->tp_vlan_tci)};
        std::memcpy(&out[kMacsBytes], words.data(), kTagBytes);
      }
      std::memcpy(&out[kMacsBytes + tag], bytes + kMacsBytes, length - kMacsBytes);
    }
    status.store(TP_STATUS_KERNEL, std::memory_order_release);
    next_ = (next_ + 1) % slots_;
    if (length != 0) return length + tag;
  }
}

void PacketSocket::send(std::span<const std::span<const std::uint8_t>> frames) {
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> parts{};
  while (!frames.empty()) {
    const std::size_t count = std::min(frames.size(), kBatch);
    for (std::size_t i = 0; i < count; ++i) {
      parts[i] = {const_cast<std::uint8_t*>(frames[i].data()), frames[i].size()};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int sent = ::sendmmsg(fd(), messages.data(), static_cast<unsigned>(count), 0);
    if (sent < 0 && errno == EINTR) continue;
    // The frame at which it stops is the one that failed.
    if (sent <= 0) losses_.send_failed++;
    frames = frames.subspan(sent > 0 ? static_cast<std::size_t>(sent) : 1);
  }
}

SocketLosses PacketSocket::losses() {
  tpacket_stats stats{};
  socklen_t length = sizeof stats;
  if (::getsockopt(fd(), SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0) {
    losses_.ring_full += stats.tp_drops;  // the kernel starts again from 0
  }
  return losses_;
}

}  // namespace toe::netlab
