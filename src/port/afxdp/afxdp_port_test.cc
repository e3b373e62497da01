// The AF_XDP port on a veth pair of two private namespaces, with the kernel at the other end.
// Needs root.
#include "port/afxdp/afxdp_port.h"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "port/afxdp/test_port.h"

namespace toe::port {
namespace {

sockaddr_in address(const char* host, std::uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  ::inet_pton(AF_INET, host, &a.sin_addr);
  return a;
}

/// A non-blocking TCP connection attempt from the peer to v0.
UniqueFd start_connect(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const sockaddr_in to = address("10.99.0.1", port);
  const int rc = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  TOE_CHECK(rc == 0 || errno == EINPROGRESS);
  return fd;
}

/// 0 connected, else the errno of the attempt; ETIMEDOUT if nothing happened.
int finish_connect(const UniqueFd& fd) {
  pollfd wait{fd.get(), POLLOUT, 0};
  if (::poll(&wait, 1, kWaitMs) != 1) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

UniqueFd listener(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in at = address("10.99.0.1", port);
  TOE_CHECK(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) == 0);
  TOE_CHECK(::listen(fd.get(), 8) == 0);
  return fd;
}

TEST_F(AfXdpPortTest, ReceivesOwnedSegmentsAndLeavesTheRestToTheKernel) {
  open();
  const UniqueFd kernel = listener(kPort + 1);
  steering_->mark(index_, kPort, kOwned);
  netns_.enter_there();
  const UniqueFd to_engine = start_connect(kPort);
  const UniqueFd to_kernel = start_connect(kPort + 1);
  EXPECT_EQ(finish_connect(to_kernel), 0);

  const auto frames = receive();
  ASSERT_EQ(frames.size(), 1u);
  const auto bytes = port_->pool().bytes(frames[0]);
  ASSERT_GE(bytes.size(), 54u);
  EXPECT_EQ(std::memcmp(bytes.data(), port_->caps().mac.bytes.data(), 6), 0);
  EXPECT_EQ(bytes[36] << 8 | bytes[37], kPort);
  EXPECT_EQ(bytes[47] & 0x12, 0x02) << "a SYN";
  const auto inside = [&] { return port_->stats().chunks_inside; };
  EXPECT_EQ(inside() + port_->pool().free_count() + 1, port_->pool().chunks());
  port_->pool().release(frames[0]);
}

TEST_F(AfXdpPortTest, DetachGivesThePortBackToTheKernel) {
  open();
  const UniqueFd kernel = listener(kPort);
  steering_->mark(index_, kPort, kOwned);
  netns_.enter_there();
  const UniqueFd waiting = start_connect(kPort);
  ASSERT_EQ(receive().size(), 1u);
  steering_->detach();
  const UniqueFd served = start_connect(kPort);
  EXPECT_EQ(finish_connect(served), 0);
  EXPECT_EQ(finish_connect(waiting), 0) << "its SYN is sent again";
  EXPECT_EQ(port_->stats().rx_frames, 1u);
}

TEST_F(AfXdpPortTest, UnmarkGivesThePortBackToTheKernel) {
  open();
  const UniqueFd kernel = listener(kPort);
  steering_->mark(index_, kPort, kOwned);
  steering_->unmark(index_, kPort, kOwned);
  netns_.enter_there();
  EXPECT_EQ(finish_connect(start_connect(kPort)), 0);
}

/// Sends numbered frames of an experimental EtherType and counts them at the other end.
class AfXdpSendTest : public AfXdpPortTest {
 protected:
  static constexpr std::uint16_t kEtherType = 0x88b5;

  void open_receiver() {
    netns_.enter_there();
    peer_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(kEtherType)));
    const int bytes = 64 << 20;
    ::setsockopt(peer_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    netns_.enter_here();
  }

  Frame numbered(std::uint32_t number, std::uint32_t length) {
    Frame frame = port_->pool().acquire();
    TOE_CHECK(frame.valid());
    frame.length = static_cast<std::uint16_t>(length);
    auto bytes = port_->pool().bytes(frame);
    std::fill(bytes.begin(), bytes.end(), std::uint8_t{0xff});
    std::memcpy(&bytes[6], port_->caps().mac.bytes.data(), 6);
    bytes[12] = kEtherType >> 8;
    bytes[13] = kEtherType & 0xff;
    std::memcpy(&bytes[14], &number, 4);
    return frame;
  }

  /// The number and length of the next frame at the peer; -1 if none comes.
  std::pair<std::int64_t, ssize_t> next_at_peer() {
    pollfd wait{peer_.get(), POLLIN, 0};
    if (::poll(&wait, 1, kWaitMs) != 1) return {-1, 0};
    std::uint8_t bytes[9100];
    const ssize_t length = ::recv(peer_.get(), bytes, sizeof(bytes), 0);
    std::uint32_t number = 0;
    std::memcpy(&number, &bytes[14], 4);
    return {number, length};
  }

  UniqueFd peer_;
};

TEST_F(AfXdpSendTest, SendsBurstsInOrderAndTakesEveryChunkBack) {
  open();
  open_receiver();
  const std::uint32_t free = port_->pool().free_count();
  constexpr std::uint32_t kFrames = 10000;
  std::uint32_t sent = 0;
  while (sent < kFrames) {
    Frame burst[100];
    for (std::uint32_t i = 0; i < 100; ++i) burst[i] = numbered(sent + i, 60 + (sent + i) % 1400);
    ASSERT_EQ(port_->tx(burst), 100u);
    port_->flush();
    for (std::uint32_t i = 0; i < 100; ++i) {
      const auto [number, length] = next_at_peer();
      ASSERT_EQ(number, sent + i);
      ASSERT_EQ(length, 60 + (sent + i) % 1400);
    }
    sent += 100;
  }
  port_->flush();
  EXPECT_EQ(port_->pool().free_count(), free);
  EXPECT_EQ(port_->stats().chunks_inside + free, port_->pool().chunks());
  EXPECT_EQ(port_->stats().tx_frames, kFrames);
  EXPECT_EQ(port_->stats().tx_invalid, 0u);
  EXPECT_LE(port_->stats().tx_kicks, 4u * kFrames / 100) << "one call sends at least 32 frames";
}

TEST_F(AfXdpSendTest, AcceptsNoMoreThanTheRingHolds) {
  open(device(), {.chunks = 16384});
  open_receiver();
  std::vector<Frame> frames;
  for (std::uint32_t i = 0; i < 4000; ++i) frames.push_back(numbered(i, 60));
  ASSERT_EQ(port_->tx(frames), 4000u);
  std::vector<Frame> more;
  for (std::uint32_t i = 0; i < 200; ++i) more.push_back(numbered(4000 + i, 60));
  EXPECT_EQ(port_->tx(more), 96u);
  EXPECT_EQ(port_->stats().tx_rejected_full, 104u);
  port_->flush();
  EXPECT_EQ(port_->stats().tx_stalls, 0u);
  for (std::uint32_t i = 0; i < 4096; ++i) ASSERT_EQ(next_at_peer().first, i);
  EXPECT_EQ(port_->tx(std::span(more).subspan(96)), 104u) << "room again";
}

TEST_F(AfXdpSendTest, KeepsFramesWhileTheDeviceIsDownAndLetsTheWorkerSleep) {
  open();
  open_receiver();
  TestNetns::run("ip link set v0 down");
  const Frame frame = numbered(7, 60);
  ASSERT_EQ(port_->tx({&frame, 1}), 1u);
  EXPECT_TRUE(port_->prepare_sleep());
  EXPECT_EQ(port_->failure(), 0);
  EXPECT_GE(port_->stats().tx_stalls, 1u);
  TestNetns::run("ip link set v0 up");
  port_->flush();
  EXPECT_EQ(next_at_peer().first, 7);
}

TEST_F(AfXdpSendTest, GoesOnAfterTheRingsWereFull) {
  open();
  open_receiver();
  steering_->mark(index_, kPort, kOwned);
  const auto bytes = segment(port_->caps().mac);
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  netns_.enter_there();
  to.sll_ifindex = static_cast<int>(::if_nametoindex("v1"));
  const auto send = [&](int count) {
    for (int i = 0; i < count; ++i) {
      TOE_CHECK(::sendto(peer_.get(), bytes.data(), bytes.size(), 0,
                         reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 60);
    }
  };
  const auto drain = [&] {
    std::size_t count = 0;
    for (auto frames = receive(100); !frames.empty(); frames = receive(100)) {
      for (const Frame& frame : frames) port_->pool().release(frame);
      count += frames.size();
    }
    return count;
  };
  send(5000);
  EXPECT_EQ(drain(), 4096u);
  const PortStats stats = port_->stats();
  EXPECT_EQ(stats.rx_dropped_no_fill + stats.rx_dropped_full, 5000u - 4096u);
  for (int i = 0; i < 10; ++i) {
    send(1000);
    EXPECT_EQ(drain(), 1000u) << i;
  }
  EXPECT_EQ(port_->pool().free_count(), port_->pool().chunks() - 4096) << "no chunk lost";
}

TEST_F(AfXdpPortTest, NamesTheLockedMemoryLimit) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before), 0);
  const rlimit low{1 << 20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &low), 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  ASSERT_EQ(::syscall(SYS_capget, &header, sets), 0);
  sets[0].effective &= ~(1u << CAP_IPC_LOCK);
  ASSERT_EQ(::syscall(SYS_capset, &header, sets), 0);
  auto port = AfXdpPort::open(device(), {});
  sets[0].effective |= 1u << CAP_IPC_LOCK;
  ASSERT_EQ(::syscall(SYS_capset, &header, sets), 0);
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before), 0);
  ASSERT_FALSE(port.ok());
  EXPECT_EQ(port.error().text,
            "the locked-memory limit (1024 KiB) is too small for 16384 KiB of frames; give the "
            "engine CAP_IPC_LOCK or raise `ulimit -l`");
}

TEST_F(AfXdpPortTest, RefusesMoreQueuesThanItCanServeWithTheLineThatHelps) {
  Device dev = device();
  dev.rx_queues = 65;
  auto veth = AfXdpPort::open(dev, {.chunks = 65536});
  ASSERT_FALSE(veth.ok());
  EXPECT_NE(veth.error().text.find("`ethtool -L v0 rx 64`"), std::string::npos);
  dev.is_veth = false;
  auto nic = AfXdpPort::open(dev, {.chunks = 65536});
  ASSERT_FALSE(nic.ok());
  EXPECT_NE(nic.error().text.find("`ethtool -L v0 combined 64`"), std::string::npos);
  dev.rx_queues = 64;
  auto poor = AfXdpPort::open(dev, {.chunks = 8192});
  ASSERT_FALSE(poor.ok());
  EXPECT_NE(poor.error().text.find("give --frames 24576"), std::string::npos) << poor.error().text;
}

TEST_F(AfXdpPortTest, NamesAQueueThatTheDeviceDoesNotHave) {
  Device dev = device();
  dev.rx_queues = 2;
  EXPECT_FALSE(AfXdpPort::open(dev, {}).ok());
}

TEST_F(AfXdpPortTest, SaysThatTheQueueIsTakenAndGetsItWhenItIsFree) {
  open();
  auto second = AfXdpPort::open(device(), {.bind_patience = millis(20)});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, EBUSY);
  EXPECT_NE(second.error().text.find("held by another AF_XDP program"), std::string::npos);
  steering_.reset();
  port_.reset();
  EXPECT_TRUE(AfXdpPort::open(device(), {}).ok());
}

TEST_F(AfXdpPortTest, ReportsADeviceThatIsGone) {
  open();
  TestNetns::run("ip link del v0");
  Frame frame = port_->pool().acquire();
  frame.length = 60;
  ASSERT_EQ(port_->tx({&frame, 1}), 1u);
  port_->flush();
  EXPECT_EQ(port_->failure(), ENXIO);
  EXPECT_TRUE(port_->prepare_sleep());
}

}  // namespace
}  // namespace toe::port
