// Which ports the engine owns beside sockets of the kernel, with real sockets. Needs root.
#include "engine/listeners.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "engine/net/device.h"
#include "engine/net/test_sockets.h"
#include "port/afxdp/test_netns.h"

namespace toe::engine {
namespace {

using net::addr;
using port::FourTuple;

constexpr std::uint16_t kPort = 7000;
const IpAddr kFour = addr("10.99.0.1"), kSix = addr("fd99::1");
const IpAddr kPeerFour = addr("10.99.0.2"), kPeerSix = addr("fd99::2");
const IpAddr kAnyFour = addr("0.0.0.0"), kAnySix = addr("::");

/// How a test's socket differs from a plain one.
struct Wishes {
  bool reuse_port = false;
  bool v6_only = false;
};

class ListenersTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!netns_.permitted()) GTEST_SKIP() << "needs root";
    const port::Device device = net::read_device("v0").value();
    auto steering = port::Steering::load(device);
    ASSERT_TRUE(steering.ok()) << steering.error().text;
    steering_.emplace(std::move(steering.value()));
    listeners_.emplace(*steering_, net::read_addresses(device.ifindex).value(),
                       [this](std::uint16_t port) { return list(port); });
    netns_cookie_ = net::own_netns_cookie().value();
  }

  /// The kernel's connections: what the test says, list by list, then what there is.
  Result<std::vector<FourTuple>> list(std::uint16_t port) {
    if (looked_) looked_();
    if (lists_until_failure_ && (*lists_until_failure_)-- == 0) return Error{EIO, "no list"};
    if (lists_.empty()) return net::kernel_connections(port);
    const std::vector<FourTuple> next = lists_.front();
    lists_.pop_front();
    return next;
  }

  static UniqueFd listen_on(const IpAddr& address, Wishes wishes = {}) {
    UniqueFd fd = net::tcp_socket(address);
    const int reuse = wishes.reuse_port, only = wishes.v6_only;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &reuse, sizeof reuse);
    if (!address.is_v4()) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    const net::Name name(address, kPort);
    EXPECT_EQ(::bind(fd.get(), name.get(), name.length), 0);
    EXPECT_EQ(::listen(fd.get(), 8), 0);
    return fd;
  }

  /// A program shows the socket. Returns its cookie.
  std::uint64_t show(const UniqueFd& fd) {
    const auto proof =
        net::check_listener(fd.get(), netns_cookie_, listeners_->addresses()).value();
    listeners_->offer(proof, UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)));
    listeners_->answered(proof.cookie, true);
    EXPECT_EQ(listeners_->mark(proof.cookie), 0);
    return proof.cookie;
  }

  unsigned state(const IpAddr& address) const {
    return steering_->state(*steering_->address_index(address), kPort);
  }
  bool owned(const IpAddr& address) const { return (state(address) & port::kOwned) != 0; }

  static FourTuple connection(const IpAddr& local, const IpAddr& remote, std::uint16_t port) {
    return {.local = local, .remote = remote, .local_port = kPort, .remote_port = port};
  }

  /// The program closes its listener while connections of the engine live.
  void close_and_drain(std::uint64_t cookie, const std::vector<FourTuple>& ours) {
    EXPECT_EQ(listeners_->close(cookie), kPort);
    listeners_->drain(kPort, ours);
  }

  port::TestNetns netns_;
  std::deque<std::vector<FourTuple>> lists_;
  std::optional<int> lists_until_failure_;
  std::function<void()> looked_;
  std::optional<port::Steering> steering_;
  std::optional<Listeners> listeners_;
  std::uint64_t netns_cookie_ = 0;
};

TEST_F(ListenersTest, WildcardsOwnTheAddressesThatTheyServe) {
  UniqueFd four = listen_on(kAnyFour);
  const std::uint64_t cookie = show(four);
  EXPECT_TRUE(owned(kFour));
  EXPECT_FALSE(owned(kSix));
  UniqueFd six = listen_on(kAnySix, {.v6_only = true});
  show(six);
  EXPECT_TRUE(owned(kSix));
  four.reset();
  close_and_drain(cookie, {});
  EXPECT_FALSE(owned(kFour));
  EXPECT_TRUE(owned(kSix));
}

TEST_F(ListenersTest, AConnectionMadeWhileThePortIsTakenStaysTheKernels) {
  const UniqueFd socket = listen_on(kAnyFour);
  lists_ = {{}, {connection(kFour, kPeerFour, 1000)}};  // by a SYN cookie, which no list shows
  show(socket);
  EXPECT_EQ(state(kFour), port::kOwned | port::kExcept);
  EXPECT_EQ(steering_->exceptions(), 1u);
}

TEST_F(ListenersTest, AnEndedConnectionOfTheKernelIsForgottenUnlessItsPeerComesAgain) {
  const UniqueFd socket = listen_on(kAnyFour);
  const auto again = connection(kFour, kPeerFour, 1000), gone = connection(kFour, kPeerFour, 1001);
  lists_ = {{again, gone}, {again, gone}};
  show(socket);
  EXPECT_EQ(steering_->exceptions(), 2u);
  lists_ = {{}, {again}};
  listeners_->tidy();
  EXPECT_EQ(steering_->exceptions(), 1u);
  listeners_->tidy();
  EXPECT_EQ(steering_->exceptions(), 0u);
}

TEST_F(ListenersTest, WhatReachesTheKernelAnotherWayNeedsNoExceptionLater) {
  const UniqueFd socket = listen_on(kAnyFour);
  const auto gone = connection(kFour, kPeerFour, 1000);
  lists_ = {{gone}, {gone}};
  show(socket);
  lists_ = {{}, {connection(kFour, kFour, 1001)}};  // from this host to its own address
  listeners_->tidy();
  EXPECT_EQ(steering_->exceptions(), 0u);
}

TEST_F(ListenersTest, WhileAListenerWouldAnswerNothingComesToItFromAPortBeingTaken) {
  std::vector<unsigned> seen;
  looked_ = [&] { seen.push_back(state(kFour)); };
  UniqueFd first = listen_on(kAnyFour, {.reuse_port = true});
  UniqueFd second = listen_on(kAnyFour, {.reuse_port = true});
  show(first);  // the second's sake leaves the address to the kernel
  show(second);
  EXPECT_EQ(seen, (std::vector<unsigned>{port::kSynOnly | port::kChanging,
                                         port::kOwned | port::kSynOnly | port::kChanging}));
  EXPECT_EQ(state(kFour), port::kOwned);
}

TEST_F(ListenersTest, SynsWaitForAListenerThatDoesNotAnswerYet) {
  std::vector<unsigned> seen;
  looked_ = [&] { seen.push_back(state(kFour)); };
  const UniqueFd socket = listen_on(kAnyFour);
  show(socket);
  EXPECT_EQ(seen, (std::vector<unsigned>{port::kSynOnly, port::kOwned | port::kSynOnly}));
}

TEST_F(ListenersTest, APortWhoseConnectionsCannotBeListedStaysTheKernels) {
  const UniqueFd socket = listen_on(kAnyFour);
  const auto proof =
      net::check_listener(socket.get(), netns_cookie_, listeners_->addresses()).value();
  listeners_->offer(proof, UniqueFd(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0)));
  listeners_->answered(proof.cookie, true);
  for (const int lists : {0, 1}) {
    lists_until_failure_ = lists;
    EXPECT_EQ(listeners_->mark(proof.cookie), EIO);
    EXPECT_EQ(state(kFour) & (port::kOwned | port::kSynOnly), 0u);
  }
  lists_until_failure_.reset();
  EXPECT_EQ(listeners_->mark(proof.cookie), 0);
  EXPECT_TRUE(owned(kFour));
}

TEST_F(ListenersTest, ADrainedPortIsTakenBack) {
  UniqueFd first = listen_on(kAnyFour);
  const std::uint64_t old = show(first);
  first.reset();
  close_and_drain(old, {connection(kFour, kPeerFour, 1000), connection(kFour, kPeerFour, 1001)});
  EXPECT_EQ(state(kFour), port::kExcept);
  EXPECT_EQ(steering_->exceptions(), 2u);
  UniqueFd second = listen_on(kAnyFour);
  show(second);
  EXPECT_EQ(state(kFour), port::kOwned);
  EXPECT_EQ(steering_->exceptions(), 0u);
  EXPECT_TRUE(listeners_->draining().empty());
}

TEST_F(ListenersTest, EndedConnectionsOfADrainedPortAreForgotten) {
  UniqueFd socket = listen_on(kAnyFour);
  const std::uint64_t cookie = show(socket);
  socket.reset();
  const auto living = connection(kFour, kPeerFour, 1001);
  close_and_drain(cookie, {connection(kFour, kPeerFour, 1000), living});
  listeners_->tidy_drained(kPort, std::vector{living});
  EXPECT_EQ(steering_->exceptions(), 1u);
  EXPECT_EQ(listeners_->draining(), std::vector{kPort});
  listeners_->tidy_drained(kPort, {});
  EXPECT_EQ(steering_->exceptions(), 0u);
  EXPECT_TRUE(listeners_->draining().empty());
}

TEST_F(ListenersTest, ConnectionsBegunWhileAPortWasDrainedStayTheEngines) {
  UniqueFd socket = listen_on(kAnyFour);
  const std::uint64_t cookie = show(socket);
  socket.reset();
  close_and_drain(cookie, {});
  EXPECT_EQ(state(kFour), 0u);
  const std::vector later{connection(kFour, kPeerFour, 1000)};
  listeners_->drain(kPort, later);
  listeners_->drain(kPort, later);
  EXPECT_EQ(state(kFour), port::kExcept);
  EXPECT_EQ(steering_->exceptions(), 1u);
  listeners_->tidy_drained(kPort, {});
  EXPECT_EQ(steering_->exceptions(), 0u);
}

TEST_F(ListenersTest, OneWildcardsReleaseLeavesTheOthersConnections) {
  UniqueFd four = listen_on(kAnyFour), six = listen_on(kAnySix, {.v6_only = true});
  const std::uint64_t cookie_four = show(four), cookie_six = show(six);
  four.reset();
  six.reset();
  close_and_drain(cookie_four, {});
  close_and_drain(cookie_six, {connection(kSix, kPeerSix, 1000)});
  listeners_->release(kAnyFour, kPort);
  EXPECT_EQ(state(kSix), port::kExcept);
  EXPECT_EQ(steering_->exceptions(), 1u);
  EXPECT_EQ(listeners_->held(), 1u);
  listeners_->release(kAnySix, kPort);
  EXPECT_EQ(state(kSix), 0u);
  EXPECT_EQ(steering_->exceptions(), 0u);
  EXPECT_EQ(listeners_->held(), 0u);
}

TEST_F(ListenersTest, AListenersPortIsBoundUntilItIsReleased) {
  UniqueFd socket = listen_on(kAnyFour);
  const std::uint64_t cookie = show(socket);
  const int off = 0;  // the flag that counts is the one it has at the end, as on Linux
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &off, sizeof off);
  socket.reset();
  close_and_drain(cookie, {});
  const net::Name name(kAnyFour, kPort);
  EXPECT_EQ(::bind(net::tcp_socket(kAnyFour).get(), name.get(), name.length), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  listeners_->release(kAnyFour, kPort);
  EXPECT_EQ(::bind(net::tcp_socket(kAnyFour).get(), name.get(), name.length), 0);
}

TEST_F(ListenersTest, ASocketThatAnotherProcessOffersGoesOnListening) {
  UniqueFd socket = listen_on(kAnyFour);
  const std::uint64_t cookie = show(socket);
  const auto proof =
      net::check_listener(socket.get(), netns_cookie_, listeners_->addresses()).value();
  listeners_->offer(proof, UniqueFd(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0)));
  close_and_drain(cookie, {});  // the first program has closed it; the other's question is asked
  EXPECT_FALSE(owned(kFour));
  int listening = 0;
  socklen_t length = sizeof listening;
  ::getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &length);
  EXPECT_EQ(listening, 1) << "the other program's listener was shut down";
  listeners_->answered(cookie, true);
  EXPECT_EQ(listeners_->mark(cookie), 0);
  EXPECT_TRUE(owned(kFour));
}

TEST_F(ListenersTest, APortThatTheKernelChoseIsBoundUntilItIsReleased) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::listen(socket.get(), 8), 0);
  const auto proof =
      net::check_listener(socket.get(), netns_cookie_, listeners_->addresses()).value();
  show(socket);
  socket.reset();
  EXPECT_EQ(listeners_->close(proof.cookie), proof.port);
  const net::Name name(kAnyFour, proof.port);
  EXPECT_EQ(::bind(net::tcp_socket(kAnyFour).get(), name.get(), name.length), -1);
  listeners_->release(kAnyFour, proof.port);
  EXPECT_EQ(::bind(net::tcp_socket(kAnyFour).get(), name.get(), name.length), 0);
}

TEST_F(ListenersTest, AGroupWithASocketOfTheKernelAloneStaysTheKernels) {
  UniqueFd stranger = listen_on(kAnyFour, {.reuse_port = true});
  UniqueFd ours = listen_on(kAnyFour, {.reuse_port = true});
  show(ours);
  EXPECT_FALSE(owned(kFour));
  EXPECT_TRUE(listeners_->follow_groups().empty());
  EXPECT_FALSE(owned(kFour));
  stranger.reset();
  EXPECT_TRUE(listeners_->follow_groups().empty());
  EXPECT_TRUE(owned(kFour));
  stranger = listen_on(kAnyFour, {.reuse_port = true});
  EXPECT_EQ(listeners_->follow_groups(), std::vector{kPort});
  listeners_->drain(kPort, std::vector{connection(kFour, kPeerFour, 1000)});
  EXPECT_EQ(state(kFour), port::kExcept);
  EXPECT_TRUE(listeners_->follow_groups().empty());
  stranger.reset();
  EXPECT_TRUE(listeners_->follow_groups().empty());
  EXPECT_EQ(state(kFour), port::kOwned);
}

TEST_F(ListenersTest, AGroupIsOwnedOnceAllOfItWereShown) {
  UniqueFd first = listen_on(kAnyFour, {.reuse_port = true});
  UniqueFd second = listen_on(kAnyFour, {.reuse_port = true});
  show(first);
  EXPECT_FALSE(owned(kFour));
  const std::uint64_t cookie = show(second);
  EXPECT_TRUE(owned(kFour));
  second.reset();
  close_and_drain(cookie, {});
  EXPECT_TRUE(owned(kFour)) << "the first still listens";
}

TEST_F(ListenersTest, AnAddressOfABetterMatchStaysTheKernels) {
  const UniqueFd exact = listen_on(kFour, {.reuse_port = true});
  UniqueFd ours = listen_on(kAnySix, {.reuse_port = true});
  const std::uint64_t cookie = show(ours);
  EXPECT_FALSE(owned(kFour));
  EXPECT_TRUE(owned(kSix));
  ours.reset();
  close_and_drain(cookie, {});
  const UniqueFd four = listen_on(kAnyFour, {.reuse_port = true});
  UniqueFd dual = listen_on(kAnySix, {.reuse_port = true});
  show(dual);
  EXPECT_FALSE(owned(kFour)) << "Linux prefers the socket of the family";
  EXPECT_TRUE(owned(kSix));
}

TEST_F(ListenersTest, AWorseMatchOfTheKernelCostsNothing) {
  const UniqueFd wildcard = listen_on(kAnySix, {.reuse_port = true});
  const UniqueFd ours = listen_on(kFour, {.reuse_port = true});
  show(ours);
  EXPECT_TRUE(owned(kFour));
  EXPECT_FALSE(owned(kSix));
}

TEST_F(ListenersTest, AnAddressThatComesBackHasItsPortsAndConnections) {
  const std::uint16_t port = listeners_->hold(kFour).value();
  UniqueFd socket = listen_on(kAnyFour);
  const std::uint64_t cookie = show(socket);
  socket.reset();
  close_and_drain(cookie, {connection(kFour, kPeerFour, 1000)});
  EXPECT_TRUE(listeners_->remove_address(kFour));
  EXPECT_FALSE(listeners_->remove_address(kFour)) << "no news";
  EXPECT_EQ(steering_->exceptions(), 1u) << "its connections outlive it";
  EXPECT_EQ(listeners_->draining().size(), 1u);
  EXPECT_TRUE(listeners_->add_address(kFour));
  EXPECT_FALSE(listeners_->add_address(kFour)) << "no news";
  EXPECT_EQ(steering_->state(*steering_->address_index(kFour), port), port::kOwned);
  EXPECT_EQ(state(kFour), static_cast<unsigned>(port::kExcept)) << "it drains";
}

TEST_F(ListenersTest, AnAddressWhosePlaceWasNeededLeavesNoExceptions) {
  UniqueFd socket = listen_on(kAnyFour);
  const std::uint64_t cookie = show(socket);
  socket.reset();
  close_and_drain(cookie, {connection(kFour, kPeerFour, 1000)});
  listeners_->remove_address(kFour);
  for (std::uint8_t i = 0; i < port::Steering::kMaxAddresses; ++i) {
    listeners_->add_address(IpAddr::v4(10, 1, 0, i));
  }
  EXPECT_EQ(steering_->exceptions(), 0u);
  EXPECT_TRUE(listeners_->draining().empty());
}

}  // namespace
}  // namespace toe::engine
