// For tests: an AF_XDP port with its steering program on one end of a veth pair.
#ifndef TOE_PORT_AFXDP_TEST_PORT_H_
#define TOE_PORT_AFXDP_TEST_PORT_H_

#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "port/afxdp/afxdp_port.h"
#include "port/afxdp/steering.h"
#include "port/afxdp/test_netns.h"

namespace toe::port {

inline constexpr std::uint16_t kPort = 8080;
inline constexpr int kWaitMs = 2000;  // liveness bound, far above what is expected

inline MacAddr mac_of(const char* dev) {
  ifreq request{};
  std::strncpy(request.ifr_name, dev, IFNAMSIZ - 1);
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  TOE_CHECK(::ioctl(fd.get(), SIOCGIFHWADDR, &request) == 0);
  MacAddr mac;
  std::memcpy(mac.bytes.data(), request.ifr_hwaddr.sa_data, 6);
  return mac;
}

inline Device device(std::uint32_t mtu = 1500) {
  return {.name = "v0",
          .ifindex = static_cast<int>(::if_nametoindex("v0")),
          .mac = mac_of("v0"),
          .mtu = mtu,
          .rx_queues = 1,
          .is_veth = true,
          .is_up = true};
}

/// A TCP segment from the peer to v0:kPort, as much as steering looks at.
inline std::vector<std::uint8_t> segment(const MacAddr& to, std::size_t length = 60) {
  std::vector<std::uint8_t> bytes(length, 0);
  std::copy(to.bytes.begin(), to.bytes.end(), bytes.begin());
  bytes[12] = 0x08;
  bytes[14] = 0x45;
  bytes[16] = static_cast<std::uint8_t>((length - 14) >> 8);
  bytes[17] = static_cast<std::uint8_t>((length - 14) & 0xff);
  bytes[23] = IPPROTO_TCP;
  const std::uint8_t addresses[] = {10, 99, 0, 2, 10, 99, 0, 1};
  std::copy(std::begin(addresses), std::end(addresses), &bytes[26]);
  bytes[36] = kPort >> 8;
  bytes[37] = kPort & 0xff;
  return bytes;
}

class AfXdpPortTest : public testing::Test {
 protected:
  explicit AfXdpPortTest(int queues = 1) : netns_(queues) {}
  void SetUp() override {
    if (!netns_.permitted()) GTEST_SKIP() << "AF_XDP port: needs root";
  }

  void open(const Device& dev = device(), const AfXdpOptions& options = {}) {
    auto loaded = Steering::load(dev);
    ASSERT_TRUE(loaded.ok()) << loaded.error().text;
    steering_ = std::make_unique<Steering>(std::move(loaded.value()));
    auto opened = AfXdpPort::open(dev, options);
    ASSERT_TRUE(opened.ok()) << opened.error().text;
    port_ = std::move(opened.value());
    for (std::uint32_t queue = 0; queue < dev.rx_queues; ++queue) {
      ASSERT_TRUE(steering_->set_socket(queue, port_->queue_fd(queue)).ok());
    }
    index_ = steering_->add_local_address(IpAddr::v4(10, 99, 0, 1)).value();
    const Status attached = steering_->attach();
    ASSERT_TRUE(attached.ok()) << attached.error().text;
  }

  /// Waits for frames; empty if none came in time.
  std::vector<Frame> receive(int wait_ms = kWaitMs) {
    std::vector<Frame> frames(64);
    if (port_->prepare_sleep()) {
      pollfd wait{port_->fd(), POLLIN, 0};
      ::poll(&wait, 1, wait_ms);
    }
    frames.resize(port_->rx(frames));
    return frames;
  }

  TestNetns netns_;
  std::unique_ptr<AfXdpPort> port_;
  std::unique_ptr<Steering> steering_;
  std::uint32_t index_ = 0;
};

}  // namespace toe::port

#endif  // TOE_PORT_AFXDP_TEST_PORT_H_
