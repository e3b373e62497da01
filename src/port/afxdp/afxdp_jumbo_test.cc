// Frames of several chunks between the AF_XDP port and the kernel. Needs root.
#include <linux/if_packet.h>
#include <net/ethernet.h>

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "base/limits.h"
#include "port/afxdp/test_port.h"

namespace toe::port {
namespace {

constexpr std::uint32_t kMtu = 9000;
constexpr std::size_t kLongest = kMtu + ETH_HLEN;
constexpr std::uint16_t kEtherType = 0x88b5;  // experimental

using Bytes = std::vector<std::uint8_t>;

class AfXdpJumboTest : public AfXdpPortTest {
 protected:
  void set_mtu(std::uint32_t mtu) {
    const std::string set = " mtu " + std::to_string(mtu);
    TestNetns::run("ip link set v0" + set);
    netns_.enter_there();
    TestNetns::run("ip link set v1" + set);
    netns_.enter_here();
  }

  /// A raw socket on v1 that sends, and that receives frames of our EtherType.
  void open_peer() {
    netns_.enter_there();
    peer_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(kEtherType)));
    to_.sll_family = AF_PACKET;
    to_.sll_ifindex = static_cast<int>(::if_nametoindex("v1"));
    netns_.enter_here();
    const int bytes = 64 << 20;
    ::setsockopt(peer_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    ::setsockopt(peer_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
  }

  /// A segment to the owned port of `length` bytes whose content depends on `number`.
  Bytes numbered_segment(std::uint32_t number, std::size_t length) const {
    Bytes bytes = segment(port_->caps().mac, length);
    for (std::size_t i = 54; i < length; ++i) {
      bytes[i] = static_cast<std::uint8_t>(i * 31 + i / 256 + number);
    }
    return bytes;
  }
  void send_from_peer(const Bytes& bytes) {
    ASSERT_EQ(::sendto(peer_.get(), bytes.data(), bytes.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to_), sizeof(to_)),
              static_cast<ssize_t>(bytes.size()));
  }
  Bytes joined(const Frame& frame) {
    Bytes bytes;
    Frame part = frame;
    do {
      const auto more = port_->pool().bytes(part);
      bytes.insert(bytes.end(), more.begin(), more.end());
    } while (port_->pool().advance(part));
    return bytes;
  }
  /// The next `count` frames, taken with at most `at_once` per call; fewer if they do not come.
  std::vector<Bytes> receive_all(std::size_t count, std::size_t at_once) {
    std::vector<Bytes> all;
    std::vector<Frame> frames(at_once);
    for (std::uint32_t idle = 0; all.size() < count && idle <= kMaxFrameChunks;) {
      const std::size_t n = port_->rx(frames);
      for (std::size_t i = 0; i < n; ++i) {
        all.push_back(joined(frames[i]));
        port_->pool().release(frames[i]);
      }
      idle = n != 0 ? 0 : idle + 1;
      if (n != 0 || !port_->prepare_sleep()) continue;
      pollfd wait{port_->fd(), POLLIN, 0};
      ::poll(&wait, 1, kWaitMs);
    }
    return all;
  }

  /// A frame of our EtherType in chunks of `part` bytes.
  Frame numbered_frame(std::uint32_t number, std::size_t length, std::size_t part) {
    Bytes bytes(length);
    for (std::size_t i = 0; i < length; ++i) {
      bytes[i] = static_cast<std::uint8_t>(i * 7 + i / 256 + number);
    }
    std::fill_n(bytes.begin(), 6, std::uint8_t{0xff});
    std::copy_n(port_->caps().mac.bytes.begin(), 6, bytes.begin() + 6);
    bytes[12] = kEtherType >> 8;
    bytes[13] = kEtherType & 0xff;
    Frame whole;
    for (std::size_t done = 0; done < length;) {
      Frame frame = port_->pool().acquire();
      TOE_CHECK(frame.valid());
      if (whole.valid()) frame.offset = 0;
      frame.length = static_cast<std::uint16_t>(std::min(part, length - done));
      std::copy_n(&bytes[done], frame.length, port_->pool().bytes(frame).data());
      done += frame.length;
      if (whole.valid()) {
        port_->pool().append(whole, frame);
      } else {
        whole = frame;
      }
    }
    expected_.push_back(bytes);
    return whole;
  }
  Bytes next_at_peer() {
    pollfd wait{peer_.get(), POLLIN, 0};
    if (::poll(&wait, 1, kWaitMs) != 1) return {};
    Bytes bytes(kLongest + 100);
    bytes.resize(static_cast<std::size_t>(::recv(peer_.get(), bytes.data(), bytes.size(), 0)));
    return bytes;
  }
  std::uint64_t chunks_accounted() {
    return port_->stats().chunks_inside + port_->pool().free_count();
  }

  UniqueFd peer_;
  sockaddr_ll to_{};
  std::vector<Bytes> expected_;
};

TEST_F(AfXdpJumboTest, ReceivesFramesOfSeveralChunksAmongSmallOnes) {
  set_mtu(kMtu);
  open(device(kMtu));
  if (!port_->multi_buffer()) GTEST_SKIP() << "this kernel has no AF_XDP frames of several chunks";
  EXPECT_GE(port_->caps().max_mtu(), kMtu);
  open_peer();
  steering_->mark(index_, kPort, kOwned);
  // Few per call: most calls end in the middle of a frame.
  for (const std::size_t at_once : {1u, 2u, 5u, 64u}) {
    std::vector<Bytes> sent;
    for (std::uint32_t i = 0; i < 100; ++i) {
      const std::size_t length = i % 3 == 0 ? 60 + i : kLongest - i * 50;
      sent.push_back(numbered_segment(i, length));
      send_from_peer(sent.back());
    }
    const auto got = receive_all(sent.size(), at_once);
    ASSERT_EQ(got.size(), sent.size());
    for (std::size_t i = 0; i < sent.size(); ++i) ASSERT_TRUE(got[i] == sent[i]) << i;
    EXPECT_EQ(chunks_accounted(), port_->pool().chunks());
  }
  EXPECT_EQ(port_->stats().rx_frames, 400u);
  EXPECT_EQ(port_->stats().rx_dropped_jumbo, 0u);
}

TEST_F(AfXdpJumboTest, AnOpenFrameCountsAsInsideThePort) {
  set_mtu(kMtu);
  open(device(kMtu));
  if (!port_->multi_buffer()) GTEST_SKIP() << "this kernel has no AF_XDP frames of several chunks";
  open_peer();
  steering_->mark(index_, kPort, kOwned);
  send_from_peer(numbered_segment(1, kLongest));
  Frame frame;
  pollfd wait{port_->fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, kWaitMs), 1);
  EXPECT_EQ(port_->rx({&frame, 1}), 0u) << "the first of its chunks";
  EXPECT_EQ(chunks_accounted(), port_->pool().chunks());
  EXPECT_EQ(port_->rx({&frame, 1}), 0u);
  ASSERT_EQ(port_->rx({&frame, 1}), 1u);
  EXPECT_EQ(port_->pool().count_parts(frame), 3u);
  EXPECT_EQ(chunks_accounted() + 3, port_->pool().chunks());
  port_->pool().release(frame);
}

TEST_F(AfXdpJumboTest, FramesOfTooManyChunksAreDroppedAndCounted) {
  constexpr std::uint32_t kHuge = 20000;
  set_mtu(kHuge);
  open(device(1500));  // as if the MTU had been raised since
  if (!port_->multi_buffer()) GTEST_SKIP() << "this kernel has no AF_XDP frames of several chunks";
  EXPECT_LT(port_->caps().max_mtu(), kHuge);
  open_peer();
  steering_->mark(index_, kPort, kOwned);
  for (std::uint32_t round = 0; round < 20; ++round) {
    send_from_peer(numbered_segment(round, kHuge));
    const Bytes small = numbered_segment(round, port_->caps().max_frame);
    send_from_peer(small);
    const auto got = receive_all(1, 64);
    ASSERT_EQ(got.size(), 1u);
    ASSERT_TRUE(got[0] == small);
  }
  EXPECT_EQ(port_->stats().rx_dropped_jumbo, 20u);
  EXPECT_EQ(chunks_accounted(), port_->pool().chunks());
}

TEST_F(AfXdpJumboTest, SendsFramesOfSeveralChunksAmongSmallOnes) {
  set_mtu(kMtu);
  open(device(kMtu));
  if (!port_->multi_buffer()) GTEST_SKIP() << "this kernel has no AF_XDP frames of several chunks";
  open_peer();
  const std::uint32_t free = port_->pool().free_count();
  for (std::uint32_t round = 0; round < 20; ++round) {
    std::vector<Frame> burst;
    expected_.clear();
    for (std::uint32_t i = 0; i < 64; ++i) {
      const std::size_t length = i % 3 == 0 ? 60 + i : kLongest - i * 50;
      burst.push_back(numbered_frame(round + i, length, 1700 + i * 37));
    }
    ASSERT_EQ(port_->tx(burst), burst.size());
    port_->flush();
    for (std::size_t i = 0; i < burst.size(); ++i) {
      ASSERT_TRUE(next_at_peer() == expected_[i]) << round << ' ' << i;
    }
    port_->flush();
    ASSERT_EQ(port_->pool().free_count(), free);
  }
  EXPECT_EQ(port_->stats().tx_frames, 20u * 64);
  EXPECT_EQ(port_->stats().tx_invalid, 0u);
}

TEST_F(AfXdpJumboTest, AFrameIsAcceptedWholeOrNotAtAll) {
  set_mtu(kMtu);
  open(device(kMtu), {.chunks = 16384});
  if (!port_->multi_buffer()) GTEST_SKIP() << "this kernel has no AF_XDP frames of several chunks";
  open_peer();
  std::vector<Frame> frames;
  for (std::uint32_t i = 0; i < 4094; ++i) frames.push_back(numbered_frame(i, 60, 60));
  ASSERT_EQ(port_->tx(frames), 4094u);
  const Frame three = numbered_frame(9, kLongest, 3500);
  const Frame two = numbered_frame(9, 5000, 3500);
  EXPECT_EQ(port_->tx({&three, 1}), 0u) << "two slots are left";
  EXPECT_EQ(port_->tx({&two, 1}), 1u);
  port_->flush();
  EXPECT_EQ(port_->tx({&three, 1}), 1u) << "room again";
  port_->flush();
  EXPECT_EQ(port_->stats().tx_rejected_full, 1u);
  for (std::uint32_t i = 0; i < 4094; ++i) ASSERT_TRUE(next_at_peer() == expected_[i]) << i;
  EXPECT_TRUE(next_at_peer() == expected_[4095]);
  EXPECT_TRUE(next_at_peer() == expected_[4094]);
}

TEST_F(AfXdpJumboTest, WithoutSeveralChunksOneIsTheBound) {
  set_mtu(kMtu);
  open(device(kMtu), {.multi_buffer = false});
  EXPECT_FALSE(port_->multi_buffer());
  EXPECT_EQ(port_->caps().max_mtu(), 4096u - 256 - 22);
  open_peer();
  steering_->mark(index_, kPort, kOwned);
  send_from_peer(numbered_segment(1, kLongest));
  const Bytes fits = numbered_segment(2, port_->caps().max_frame);
  send_from_peer(fits);
  const auto got = receive_all(1, 64);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0] == fits);
  EXPECT_EQ(port_->stats().rx_dropped_other, 1u);
}

}  // namespace
}  // namespace toe::port
