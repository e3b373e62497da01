// The AF_XDP port on a device with several receive queues. Needs root.
#include <linux/if_packet.h>
#include <net/ethernet.h>

#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "port/afxdp/test_port.h"

namespace toe::port {
namespace {

constexpr std::uint32_t kQueues = 4;
constexpr std::uint32_t kFlows = 128;

class AfXdpQueuesTest : public AfXdpPortTest {
 protected:
  AfXdpQueuesTest() : AfXdpPortTest(kQueues) {}

  static Device wide_device() {
    Device dev = device();
    dev.rx_queues = kQueues;
    return dev;
  }
  void open_owned() {
    open(wide_device());
    steering_->mark(index_, kPort, kOwned);
    netns_.enter_there();
    peer_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    to_.sll_family = AF_PACKET;
    to_.sll_ifindex = static_cast<int>(::if_nametoindex("v1"));
    netns_.enter_here();
  }

  /// One segment of each flow; the peer's kernel spreads flows over its send queues.
  void send_flows() {
    for (std::uint32_t flow = 0; flow < kFlows; ++flow) {
      auto bytes = segment(port_->caps().mac);
      bytes[34] = static_cast<std::uint8_t>(40 + flow / 8);
      bytes[35] = static_cast<std::uint8_t>(flow);
      ASSERT_EQ(::sendto(peer_.get(), bytes.data(), bytes.size(), 0,
                         reinterpret_cast<const sockaddr*>(&to_), sizeof(to_)),
                static_cast<ssize_t>(bytes.size()));
    }
  }
  /// The flows of which a segment has come.
  std::set<int> flows_received(std::size_t expected) {
    std::set<int> flows;
    const int wait_ms = expected == 0 ? 100 : kWaitMs;
    while (expected == 0 || flows.size() < expected) {
      const auto frames = receive(wait_ms);
      if (frames.empty()) break;
      for (const Frame& frame : frames) {
        flows.insert(port_->pool().bytes(frame)[35]);
        port_->pool().release(frame);
      }
    }
    return flows;
  }

  UniqueFd peer_;
  sockaddr_ll to_{};
};

TEST_F(AfXdpQueuesTest, ReceivesFromEveryQueue) {
  open_owned();
  EXPECT_EQ(port_->caps().queues, kQueues);
  for (int round = 0; round < 40; ++round) {  // more than a queue has been offered at first
    send_flows();
    ASSERT_EQ(flows_received(kFlows).size(), kFlows) << round;
  }
  const PortStats stats = port_->stats();
  EXPECT_EQ(stats.rx_frames, 40u * kFlows);
  EXPECT_EQ(stats.rx_dropped_full + stats.rx_dropped_no_fill + stats.rx_dropped_other, 0u);
  EXPECT_EQ(stats.chunks_inside + port_->pool().free_count(), port_->pool().chunks());

  // They did come by several queues: without the sockets of the others most are the kernel's.
  for (std::uint32_t queue = 1; queue < kQueues; ++queue) steering_->clear_socket(queue);
  send_flows();
  const std::size_t by_the_first = flows_received(0).size();
  EXPECT_GT(by_the_first, 0u);
  EXPECT_LT(by_the_first, kFlows / 2);
}

TEST_F(AfXdpQueuesTest, WakesForAnyQueue) {
  open_owned();
  for (std::uint32_t flow = 0; flow < 16; ++flow) {
    ASSERT_TRUE(port_->prepare_sleep());
    auto bytes = segment(port_->caps().mac);
    bytes[35] = static_cast<std::uint8_t>(flow);
    ASSERT_EQ(::sendto(peer_.get(), bytes.data(), bytes.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to_), sizeof(to_)),
              static_cast<ssize_t>(bytes.size()));
    pollfd wait{port_->fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&wait, 1, kWaitMs), 1) << flow;
    EXPECT_FALSE(port_->prepare_sleep());
    ASSERT_EQ(flows_received(1).size(), 1u);
  }
}

TEST_F(AfXdpQueuesTest, SharesTheFramesAmongTheQueues) {
  open_owned();
  const PortStats stats = port_->stats();
  const std::uint32_t chunks = port_->pool().chunks();
  EXPECT_LE(stats.chunks_inside, chunks - chunks / 4) << "a quarter is kept for sending";
  EXPECT_GE(stats.chunks_inside, chunks / 2);
}

TEST_F(AfXdpQueuesTest, EveryQueueTakesFramesOfSeveralChunks) {
  const std::string mtu = " mtu 9000";
  TestNetns::run("ip link set v0" + mtu);
  netns_.enter_there();
  TestNetns::run("ip link set v1" + mtu);
  netns_.enter_here();
  open_owned();
  if (!port_->multi_buffer()) GTEST_SKIP() << "the kernel has no XDP_USE_SG";
  for (std::uint32_t flow = 0; flow < 64; ++flow) {
    auto bytes = segment(port_->caps().mac, 8000);
    bytes[35] = static_cast<std::uint8_t>(flow);
    ASSERT_EQ(::sendto(peer_.get(), bytes.data(), bytes.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to_), sizeof(to_)),
              static_cast<ssize_t>(bytes.size()));
    const auto frames = receive();
    ASSERT_EQ(frames.size(), 1u) << flow;
    EXPECT_EQ(port_->pool().total_bytes(frames[0]), 8000u);
    port_->pool().release(frames[0]);
  }
}

}  // namespace
}  // namespace toe::port
