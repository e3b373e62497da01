// A port changes hands between kernel and engine while connections live on it. Needs root.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "engine/net/device.h"
#include "engine/net/sock_diag.h"
#include "engine/net/test_sockets.h"
#include "port/afxdp/afxdp_port.h"
#include "port/afxdp/steering.h"
#include "port/afxdp/test_netns.h"

namespace toe::engine::net {
namespace {

constexpr std::uint16_t kPort = 7000;
constexpr int kWaitMs = 2000;  // liveness bound, far above what is expected

class TakeoverTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!netns_.permitted()) GTEST_SKIP() << "taking a port over: needs root";
    const port::Device device = read_device("v0").value();
    auto steering = port::Steering::load(device);
    ASSERT_TRUE(steering.ok()) << steering.error().text;
    steering_ = std::make_unique<port::Steering>(std::move(steering.value()));
    auto port = port::AfXdpPort::open(device, {});
    ASSERT_TRUE(port.ok()) << port.error().text;
    port_ = std::move(port.value());
    ASSERT_TRUE(steering_->set_socket(0, port_->fd()).ok());
    ASSERT_TRUE(steering_->attach().ok());
    const std::vector<IpAddr> addresses = read_addresses(device.ifindex).value();
    for (const IpAddr& address : addresses) {
      indices_.push_back(steering_->add_local_address(address).value());
    }
  }

  /// The three steps of docs/formats/steering.md, on every address.
  void take_over() {
    for (const auto index : indices_) steering_->mark(index, kPort, port::kSynOnly);
    const auto held = kernel_connections(kPort).value();
    for (const auto& tuple : held) {
      ASSERT_TRUE(steering_->add_exception(tuple, port::Keeper::kKernel).ok());
    }
    for (const auto index : indices_) {
      steering_->mark(index, kPort, port::kOwned | port::kExcept);
      steering_->unmark(index, kPort, port::kSynOnly);
    }
  }

  /// Frames that reached the engine within the wait.
  std::size_t engine_receives(int wait_ms = kWaitMs) {
    pollfd wait{port_->fd(), POLLIN, 0};
    if (port_->prepare_sleep()) ::poll(&wait, 1, wait_ms);
    Frame frames[64];
    const std::size_t count = port_->rx(frames);
    for (std::size_t i = 0; i < count; ++i) port_->pool().release(frames[i]);
    return count;
  }

  static bool delivered(const UniqueFd& from, const UniqueFd& to) {
    char byte = 'x';
    pollfd wait{to.get(), POLLIN, 0};
    return ::send(from.get(), &byte, 1, MSG_NOSIGNAL) == 1 && ::poll(&wait, 1, kWaitMs) == 1 &&
           ::recv(to.get(), &byte, 1, 0) == 1;
  }

  port::TestNetns netns_;
  std::unique_ptr<port::AfXdpPort> port_;
  std::unique_ptr<port::Steering> steering_;
  std::vector<std::uint32_t> indices_;
};

TEST_F(TakeoverTest, KernelConnectionsLiveOnAndNewOnesAreTheEngines) {
  const UniqueFd server = listening(IpAddr{}, kPort);
  for (const char* address : {"10.99.0.1", "fd99::1"}) {
    netns_.enter_there();
    const UniqueFd client = connected(addr(address), kPort);
    const UniqueFd accepted(::accept(server.get(), nullptr, nullptr));
    ASSERT_TRUE(delivered(client, accepted));
    netns_.enter_here();
    take_over();
    netns_.enter_there();
    EXPECT_TRUE(delivered(client, accepted)) << address;
    EXPECT_TRUE(delivered(accepted, client)) << address;
    EXPECT_EQ(engine_receives(0), 0u);

    UniqueFd fresh = tcp_socket(addr(address));
    ASSERT_EQ(::fcntl(fresh.get(), F_SETFL, O_NONBLOCK), 0);
    const Name to(addr(address), kPort);
    ASSERT_EQ(::connect(fresh.get(), to.get(), to.length), -1);
    EXPECT_EQ(engine_receives(), 1u) << "the SYN";
    for (const auto index : indices_) {
      steering_->unmark(index, kPort, port::kOwned | port::kExcept);
    }
  }
}

TEST_F(TakeoverTest, ADrainingPortServesOldConnectionsByTheEngineAndNewOnesByTheKernel) {
  const UniqueFd server = listening(IpAddr{}, kPort);
  const std::uint32_t index = *steering_->address_index(addr("10.99.0.1"));
  steering_->mark(index, kPort, port::kOwned);
  netns_.enter_there();
  UniqueFd old = bound(addr("10.99.0.2"), 6000);
  ASSERT_EQ(::fcntl(old.get(), F_SETFL, O_NONBLOCK), 0);
  const Name to(addr("10.99.0.1"), kPort);
  ASSERT_EQ(::connect(old.get(), to.get(), to.length), -1);
  ASSERT_EQ(engine_receives(), 1u);

  ASSERT_TRUE(steering_
                  ->add_exception({.local = addr("10.99.0.1"),
                                   .remote = addr("10.99.0.2"),
                                   .local_port = kPort,
                                   .remote_port = 6000},
                                  port::Keeper::kEngine)
                  .ok());
  steering_->mark(index, kPort, port::kExcept);
  steering_->unmark(index, kPort, port::kOwned);
  EXPECT_EQ(engine_receives(), 1u) << "its SYN, sent again";
  const UniqueFd fresh = connected(addr("10.99.0.1"), kPort);
  const UniqueFd accepted(::accept(server.get(), nullptr, nullptr));
  EXPECT_TRUE(delivered(fresh, accepted));
  EXPECT_GE(steering_->counters().exceptions_redirected, 1u);
}

}  // namespace
}  // namespace toe::engine::net
