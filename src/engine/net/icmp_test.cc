// Messages of routers, from a kernel: two private namespaces joined by a veth pair. Needs root.
#include "engine/net/icmp.h"

#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "port/afxdp/test_netns.h"
#include "wire/checksum.h"

namespace toe::engine::net {
namespace {

// `fragmentation needed` about a TCP segment of 1500 bytes from 10.99.0.1 to 10.99.0.2, padded to a
// size of which the kernel's default buffer holds less than a hundred.
std::vector<std::uint8_t> too_big() {
  std::vector<std::uint8_t> message(1400);
  message[0] = ICMP_DEST_UNREACH;
  message[1] = ICMP_FRAG_NEEDED;
  message[6] = 552 >> 8;
  message[7] = 552 & 0xff;
  const std::array<std::uint8_t, 28> quote = {
      0x45, 0, 1500 >> 8, 1500 & 0xff, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 99,
      0,    1, 10,        99,          0, 2, 0,    1, 0,  2, 0, 0, 0,  3};
  std::copy(quote.begin(), quote.end(), message.begin() + 8);
  const std::uint16_t sum =
      wire::checksum_finish(wire::checksum_partial(message.data(), message.size()));
  std::memcpy(&message[2], &sum, sizeof sum);
  return message;
}

void send(int raw, const std::vector<std::uint8_t>& message, int times) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  ASSERT_EQ(::inet_pton(AF_INET, "10.99.0.1", &to.sin_addr), 1);
  for (int i = 0; i < times; ++i) {
    ASSERT_EQ(::sendto(raw, message.data(), message.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to), sizeof to),
              static_cast<ssize_t>(message.size()));
  }
}

/// Reads until `wanted` messages were found or none comes any more.
int read_all(IcmpSockets& sockets, int wanted) {
  constexpr int kWaitMs = 2000;
  int found = 0;
  pollfd readable{sockets.fd4(), POLLIN, 0};
  while (found < wanted && ::poll(&readable, 1, kWaitMs) == 1) {
    sockets.poll([&](const wire::IcmpReport& report) { found += report.mtu == 552; });
  }
  return found;
}

TEST(IcmpSockets, KeepABurstUntilTheyAreRead) {
  port::TestNetns netns;
  if (!netns.permitted()) GTEST_SKIP() << "raw sockets: needs root";
  auto opened = IcmpSockets::open();
  ASSERT_TRUE(opened.ok()) << opened.error().text;

  netns.enter_there();
  UniqueFd raw(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
  ASSERT_TRUE(raw.valid());
  netns.enter_here();
  const std::vector<std::uint8_t> message = too_big();
  send(raw.get(), message, 1);  // resolves the neighbour: a burst would not fit its queue
  ASSERT_EQ(read_all(opened.value(), 1), 1);

  constexpr int kBurst = 200;
  send(raw.get(), message, kBurst);
  EXPECT_EQ(read_all(opened.value(), kBurst), kBurst);
  EXPECT_EQ(opened.value().dropped(), 0u);

  constexpr int kFlood = 5000;
  send(raw.get(), message, kFlood);
  EXPECT_GT(opened.value().dropped(), 0u);
  const int read = read_all(opened.value(), kFlood);
  EXPECT_EQ(opened.value().dropped() + static_cast<std::uint64_t>(read), std::uint64_t{kFlood});
}

}  // namespace
}  // namespace toe::engine::net
