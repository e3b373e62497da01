// The kernel's answers, read from a kernel: two private namespaces joined by a veth pair.
// Needs root.
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/net/device.h"
#include "engine/net/events.h"
#include "engine/net/neighbours.h"
#include "engine/net/ownership.h"
#include "engine/net/route.h"
#include "engine/net/sock_diag.h"
#include "engine/net/test_sockets.h"
#include "port/afxdp/test_netns.h"

namespace toe::engine::net {
namespace {

using port::FourTuple;
using port::TestNetns;

constexpr int kWaitMs = 5000;  // liveness bound, far above what is expected

const IpAddr kHere4 = addr("10.99.0.1"), kThere4 = addr("10.99.0.2");
const IpAddr kHere6 = addr("fd99::1"), kThere6 = addr("fd99::2");

class NetTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!netns_.permitted()) GTEST_SKIP() << "netlink: needs root";
    ifindex_ = static_cast<int>(::if_nametoindex("v0"));
  }
  TestNetns netns_;
  int ifindex_ = 0;
};

// --- devices and addresses ---

TEST_F(NetTest, DescribesADevice) {
  TestNetns::run("ip link set v0 address 02:00:00:00:00:07 mtu 1400");
  auto device = read_device("v0");
  ASSERT_TRUE(device.ok()) << device.error().text;
  EXPECT_EQ(device.value().ifindex, ifindex_);
  EXPECT_EQ(device.value().name, "v0");
  EXPECT_EQ(device.value().mac, (MacAddr{{2, 0, 0, 0, 0, 7}}));
  EXPECT_EQ(device.value().mtu, 1400u);
  EXPECT_EQ(device.value().rx_queues, 1u);
  EXPECT_TRUE(device.value().is_veth);
  EXPECT_TRUE(device.value().is_up);
  TestNetns::run("ip link set v0 down && ethtool -L v0 rx 2");
  EXPECT_EQ(read_device("v0").value().rx_queues, 2u);
  EXPECT_FALSE(read_device("v0").value().is_up);
}

TEST_F(NetTest, SaysWhichDeviceIsMissingOrNoEthernet) {
  auto missing = read_device("nope0");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ENODEV);
  EXPECT_EQ(missing.error().text, "there is no interface nope0");
  auto loopback = read_device("lo");
  ASSERT_FALSE(loopback.ok());
  EXPECT_EQ(loopback.error().text, "lo is not an Ethernet interface");
}

TEST_F(NetTest, ReadsALinkAsItIsNow) {
  TestNetns::run("ip link set v0 address 02:00:00:00:12:34 mtu 1400");
  auto link = read_link(ifindex_);
  ASSERT_TRUE(link.ok());
  EXPECT_EQ(link.value().name, "v0");
  EXPECT_EQ(link.value().mac.bytes[5], 0x34);
  EXPECT_EQ(link.value().mtu, 1400u);
  EXPECT_TRUE(link.value().carrier);
  EXPECT_FALSE(link.value().removed);
  TestNetns::run("ip link del v0");
  auto gone = read_link(ifindex_);
  ASSERT_TRUE(gone.ok());
  EXPECT_TRUE(gone.value().removed);
}

TEST_F(NetTest, ListsAddressesWithoutLinkLocal) {
  TestNetns::run("ip addr add 10.98.0.1 peer 10.98.0.9 dev v0");
  auto addresses = read_addresses(ifindex_);
  ASSERT_TRUE(addresses.ok());
  std::sort(addresses.value().begin(), addresses.value().end());
  std::vector<IpAddr> expected{kHere4, kHere6, addr("10.98.0.1")};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(addresses.value(), expected);
}

// --- events ---

template <typename T>
bool wait_for(NetEvents& events, const std::function<bool(const T&)>& wanted) {
  bool seen = false;
  for (int rounds = 0; rounds < 50 && !seen; ++rounds) {
    pollfd wait{events.fd(), POLLIN, 0};
    if (::poll(&wait, 1, kWaitMs) != 1) return false;
    events.poll([&](const NetEvent& event) {
      const T* of_kind = std::get_if<T>(&event);
      if (of_kind != nullptr && wanted(*of_kind)) seen = true;
    });
  }
  return seen;
}

TEST_F(NetTest, FollowsLinksAddressesAndRoutes) {
  auto opened = NetEvents::open();
  ASSERT_TRUE(opened.ok());
  NetEvents& events = opened.value();
  TestNetns::run("ip addr add 10.99.1.1/24 dev v0");
  EXPECT_TRUE(wait_for<AddressEvent>(events, [&](const AddressEvent& e) {
    return e.added && e.address == addr("10.99.1.1") && e.ifindex == ifindex_;
  }));
  TestNetns::run("ip addr del 10.99.1.1/24 dev v0");
  EXPECT_TRUE(wait_for<AddressEvent>(
      events, [&](const AddressEvent& e) { return !e.added && e.address == addr("10.99.1.1"); }));
  TestNetns::run("ip route add 10.50.0.0/16 via 10.99.0.2");
  EXPECT_TRUE(wait_for<RoutesChanged>(events, [](const RoutesChanged&) { return true; }));
  TestNetns::run("ip link set v0 mtu 1280");
  EXPECT_TRUE(wait_for<LinkEvent>(events, [&](const LinkEvent& e) {
    return e.ifindex == ifindex_ && e.mtu == 1280 && e.carrier;
  }));
  netns_.enter_there();
  TestNetns::run("ip link set v1 down");
  EXPECT_TRUE(wait_for<LinkEvent>(
      events, [&](const LinkEvent& e) { return e.ifindex == ifindex_ && e.up && !e.carrier; }));
  netns_.enter_here();
  TestNetns::run("ip link del v0");
  EXPECT_TRUE(wait_for<LinkEvent>(
      events, [&](const LinkEvent& e) { return e.ifindex == ifindex_ && e.removed; }));
}

// What waits in the queue is older than what was lost, and must not be taken for the last word.
TEST_F(NetTest, TellsOfLostEventsBehindAllThatWait) {
  auto opened = NetEvents::open();
  ASSERT_TRUE(opened.ok());
  NetEvents& events = opened.value();
  const int bytes = 20000;  // a few dozen events
  ASSERT_EQ(::setsockopt(events.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes), 0);
  TestNetns::run(
      "for i in $(seq 1 500); do echo neigh replace 10.99.0.9 lladdr 02:00:00:00:01:"
      "$(printf %02x $((i % 256))) dev v0; done | ip -batch -");
  TestNetns::run("ip link set v0 mtu 1400");  // lost with the others
  std::size_t lost = 0, behind = 0;
  for (pollfd wait{events.fd(), POLLIN, 0}; ::poll(&wait, 1, 0) == 1;) {
    events.poll([&](const NetEvent& event) {
      if (std::holds_alternative<EventsLost>(event)) {
        ++lost;
      } else if (lost != 0) {
        ++behind;
      }
    });
  }
  EXPECT_EQ(lost, 1u);
  EXPECT_EQ(behind, 0u);
  TestNetns::run("ip link set v0 mtu 1300");
  EXPECT_TRUE(wait_for<LinkEvent>(events, [](const LinkEvent& e) { return e.mtu == 1300; }));
}

// --- routes ---

TEST_F(NetTest, FindsOnLinkAndGatewayRoutes) {
  TestNetns::run(
      "ip route add 10.50.0.0/16 via 10.99.0.2 mtu lock 1300 advmss 1200 src 10.99.0.1 && "
      "ip route add fd50::/64 via fd99::2 && ip route add 10.51.0.0/16 via inet6 fd99::2 && "
      "ip route add 10.52.0.0/16 via 10.99.0.2 congctl reno");
  auto lookup = RouteLookup::open();
  ASSERT_TRUE(lookup.ok());
  auto on_link = lookup.value().find({.remote = kThere4});
  ASSERT_TRUE(on_link.ok()) << on_link.error().text;
  EXPECT_EQ(on_link.value().kind, Route::Kind::kUnicast);
  EXPECT_EQ(on_link.value().oif, ifindex_);
  EXPECT_EQ(on_link.value().next_hop, kThere4);
  EXPECT_EQ(on_link.value().source, kHere4);
  EXPECT_EQ(on_link.value().mtu, 0u);
  EXPECT_EQ(on_link.value().advmss, 0u);

  auto far = lookup.value().find({.remote = addr("10.50.1.1")});
  ASSERT_TRUE(far.ok());
  EXPECT_EQ(far.value().next_hop, kThere4);
  EXPECT_EQ(far.value().mtu, 1300u);
  EXPECT_EQ(far.value().advmss, 1200u);
  EXPECT_TRUE(far.value().mtu_locked);
  EXPECT_EQ(far.value().congestion, "");
  auto reno = lookup.value().find({.remote = addr("10.52.1.1")});
  ASSERT_TRUE(reno.ok());
  EXPECT_EQ(reno.value().congestion, "reno");

  auto six = lookup.value().find({.remote = addr("fd50::5"), .local = kHere6});
  ASSERT_TRUE(six.ok());
  EXPECT_EQ(six.value().next_hop, kThere6);
  EXPECT_EQ(six.value().source, kHere6);
  EXPECT_EQ(lookup.value().find({.remote = addr("10.51.0.1")}).value().next_hop, kThere6);
}

TEST_F(NetTest, TellsOwnAddressesAndUnreachableOnes) {
  TestNetns::run(
      "ip route add unreachable 10.52.0.0/16 && ip route add prohibit 10.53.0.0/16 && "
      "ip route add unreachable fd52::/64");
  auto lookup = RouteLookup::open();
  ASSERT_TRUE(lookup.ok());
  EXPECT_EQ(lookup.value().find({.remote = kHere4}).value().kind, Route::Kind::kLocal);
  EXPECT_EQ(lookup.value().find({.remote = kHere6}).value().kind, Route::Kind::kLocal);
  EXPECT_EQ(lookup.value().find({.remote = addr("10.99.0.255")}).value().kind, Route::Kind::kOther);
  EXPECT_EQ(lookup.value().find({.remote = addr("192.0.2.1")}).error().code, ENETUNREACH);
  EXPECT_EQ(lookup.value().find({.remote = addr("2001:db8::1")}).error().code, ENETUNREACH);
  EXPECT_EQ(lookup.value().find({.remote = addr("10.52.0.1")}).error().code, EHOSTUNREACH);
  EXPECT_EQ(lookup.value().find({.remote = addr("10.53.0.1")}).error().code, EACCES);
  EXPECT_EQ(lookup.value().find({.remote = addr("fd52::1")}).error().code, EHOSTUNREACH);
}

TEST_F(NetTest, AsksWithPortsAndUser) {
  TestNetns::run(
      "ip route add default via 10.99.0.2 table 77 && "
      "ip rule add ipproto tcp dport 443 lookup 77 pref 100 && "
      "ip rule add uidrange 1234-1234 lookup 77 pref 101");
  auto lookup = RouteLookup::open();
  ASSERT_TRUE(lookup.ok());
  const IpAddr far = addr("192.0.2.1");
  EXPECT_FALSE(lookup.value().find({.remote = far, .remote_port = 80}).ok());
  EXPECT_TRUE(lookup.value().find({.remote = far, .remote_port = 443}).ok());
  EXPECT_TRUE(lookup.value().find({.remote = far, .remote_port = 80, .uid = 1234}).ok());
}

// --- neighbours ---

TEST_F(NetTest, ResolvesAPeerTheKernelDoesNotKnow) {
  auto events = NetEvents::open();
  auto neighbours = Neighbours::open();
  ASSERT_TRUE(events.ok() && neighbours.ok());
  for (const IpAddr& peer : {kThere4, kThere6}) {
    ASSERT_FALSE(neighbours.value().get(ifindex_, peer).has_value());
    ASSERT_TRUE(neighbours.value().keep(ifindex_, peer).ok());
    EXPECT_TRUE(wait_for<Neighbour>(events.value(), [&](const Neighbour& n) {
      return n.address == peer && n.ifindex == ifindex_ && n.mac.has_value();
    }));
    const auto known = neighbours.value().get(ifindex_, peer);
    ASSERT_TRUE(known && known->mac);
    EXPECT_TRUE(known->managed);
  }
  netns_.enter_there();
  const MacAddr expected = read_device("v1").value().mac;
  netns_.enter_here();
  EXPECT_EQ(*neighbours.value().get(ifindex_, kThere4)->mac, expected);
}

TEST_F(NetTest, LeavesEntriesOfTheOperatorAsTheyAre) {
  auto opened = Neighbours::open();
  ASSERT_TRUE(opened.ok());
  Neighbours& neighbours = opened.value();
  ASSERT_TRUE(neighbours.keep(ifindex_, kThere4).ok());  // so that it knows what the kernel can do
  for (const char* text : {"10.99.0.77", "fd99::77"}) {
    const IpAddr address = addr(text);
    const std::string entry = std::string(text) + " lladdr 02:00:00:00:00:77 dev v0 nud permanent";
    TestNetns::run("ip neigh replace " + entry);
    const auto unchanged = [&] {
      const auto known = neighbours.get(ifindex_, address);
      return known && known->fixed && known->mac == MacAddr{{0x02, 0, 0, 0, 0, 0x77}};
    };
    ASSERT_TRUE(unchanged());
    EXPECT_TRUE(neighbours.keep(ifindex_, address).ok());
    EXPECT_TRUE(unchanged()) << "kept";
    EXPECT_TRUE(neighbours.refresh(ifindex_, address).ok());
    EXPECT_TRUE(unchanged()) << "in doubt";
    neighbours.on_carrier(ifindex_);
    EXPECT_TRUE(unchanged()) << "carrier back";
    neighbours.drop(ifindex_, address);
    EXPECT_TRUE(unchanged()) << "no longer needed";
  }
}

TEST_F(NetTest, ReportsAHostThatDoesNotAnswer) {
  TestNetns::run("echo 100 > /proc/sys/net/ipv4/neigh/v0/retrans_time_ms");
  auto events = NetEvents::open();
  auto neighbours = Neighbours::open();
  ASSERT_TRUE(events.ok() && neighbours.ok());
  ASSERT_TRUE(neighbours.value().keep(ifindex_, addr("10.99.0.77")).ok());
  EXPECT_TRUE(wait_for<Neighbour>(events.value(), [](const Neighbour& n) {
    return n.failed && !n.mac && n.address == addr("10.99.0.77");
  }));
}

TEST_F(NetTest, KeepsNeighboursThroughDeletionCarrierLossAndDoubt) {
  auto events = NetEvents::open();
  auto opened = Neighbours::open();
  ASSERT_TRUE(events.ok() && opened.ok());
  Neighbours& neighbours = opened.value();
  const auto resolved = [](const Neighbour& n) { return n.address == kThere4 && n.mac; };
  ASSERT_TRUE(neighbours.keep(ifindex_, kThere4).ok());
  ASSERT_TRUE(wait_for<Neighbour>(events.value(), resolved));

  TestNetns::run("ip neigh del 10.99.0.2 dev v0");
  bool deleted = false;
  EXPECT_TRUE(wait_for<Neighbour>(events.value(), [&](const Neighbour& n) {
    neighbours.on_event(n);
    deleted = deleted || n.deleted;
    return deleted && resolved(n);
  }));

  netns_.enter_there();
  TestNetns::run("ip link set v1 down");
  EXPECT_TRUE(wait_for<Neighbour>(events.value(), [](const Neighbour& n) { return n.deleted; }));
  TestNetns::run("ip link set v1 up");
  EXPECT_TRUE(wait_for<LinkEvent>(events.value(), [](const LinkEvent& e) { return e.carrier; }));
  netns_.enter_here();
  neighbours.on_carrier(ifindex_);
  EXPECT_TRUE(wait_for<Neighbour>(events.value(), resolved));

  EXPECT_TRUE(neighbours.refresh(ifindex_, kThere4).ok());
  EXPECT_TRUE(neighbours.get(ifindex_, kThere4)->managed) << "a probe must not lose the flag";
  neighbours.drop(ifindex_, kThere4);
  EXPECT_FALSE(neighbours.get(ifindex_, kThere4)->managed);
  EXPECT_EQ(neighbours.kept(), 0u);
}

// The kernel's table is shared by all: forged addresses must not fill it.
TEST_F(NetTest, KeepsABoundedNumberOfUnknownNeighbours) {
  auto opened = Neighbours::open();
  ASSERT_TRUE(opened.ok());
  Neighbours& neighbours = opened.value();
  const auto nth = [](std::uint32_t n) { return IpAddr::v4(10, 98, n >> 8 & 0xff, n & 0xff); };
  std::uint32_t kept = 0;
  while (kept <= Neighbours::kMaxKept && neighbours.keep(ifindex_, nth(kept)).ok()) ++kept;
  EXPECT_GT(kept, 1u);
  EXPECT_LE(kept, Neighbours::kMaxKept / 4);
  EXPECT_EQ(neighbours.unknown(), kept);
  EXPECT_EQ(neighbours.keep(ifindex_, nth(kept)).error().code, ENOBUFS);

  // Those that the kernel knows are no strangers, nor is one that answers meanwhile.
  TestNetns::run("ip neigh replace 10.99.0.77 lladdr 02:00:00:00:00:77 dev v0 nud reachable");
  EXPECT_TRUE(neighbours.keep(ifindex_, addr("10.99.0.77")).ok());
  EXPECT_EQ(neighbours.unknown(), kept);
  TestNetns::run("ip neigh replace 10.98.0.0 lladdr 02:00:00:00:00:78 dev v0 nud reachable");
  ASSERT_TRUE(neighbours.get(ifindex_, nth(0)));
  EXPECT_EQ(neighbours.unknown(), kept - 1);
  EXPECT_TRUE(neighbours.keep(ifindex_, nth(kept)).ok());
  EXPECT_FALSE(neighbours.keep(ifindex_, nth(kept + 1)).ok());
  neighbours.drop(ifindex_, nth(1));
  EXPECT_TRUE(neighbours.keep(ifindex_, nth(kept + 1)).ok());
  EXPECT_TRUE(neighbours.keep(ifindex_, kThere6).ok()) << "each family has its table";
}

// --- connections of the kernel ---

TEST_F(NetTest, ListsConnectionsOfAPortInBothFamilies) {
  const UniqueFd server = listening(IpAddr{}, 7000);  // both families
  const UniqueFd other = listening(kHere4, 7001);
  netns_.enter_there();
  std::vector<UniqueFd> clients;
  clients.push_back(connected(kHere4, 7000));
  clients.push_back(connected(kHere6, 7000));
  clients.push_back(connected(kHere4, 7001));
  netns_.enter_here();
  auto found = kernel_connections(7000);
  ASSERT_TRUE(found.ok()) << found.error().text;
  ASSERT_EQ(found.value().size(), 2u);
  std::sort(found.value().begin(), found.value().end());
  for (std::size_t i = 0; i < 2; ++i) {
    const FourTuple& tuple = found.value()[i];
    EXPECT_EQ(tuple.local_port, 7000);
    EXPECT_NE(tuple.remote_port, 0);
  }
  EXPECT_EQ(found.value()[0].local, kHere4);
  EXPECT_EQ(found.value()[0].remote, kThere4);
  EXPECT_EQ(found.value()[1].local, kHere6);
  EXPECT_EQ(found.value()[1].remote, kThere6);
}

TEST_F(NetTest, ListsHalfOpenAndFinishedConnections) {
  // The peer's answers to the SYN-ACK are lost, so the first connection stays half open.
  const UniqueFd server = listening(IpAddr{}, 7000);
  TestNetns::run("ip route add blackhole 10.60.0.1");
  netns_.enter_there();
  TestNetns::run("ip addr add 10.60.0.2/32 dev v1");
  netns_.enter_here();
  TestNetns::run(
      "ip route add 10.60.0.2/32 dev v0 && ip neigh replace 10.60.0.2 dev v0 "
      "lladdr 02:00:00:00:00:99 nud permanent");
  netns_.enter_there();
  UniqueFd half(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const Name from(addr("10.60.0.2"), 5555), to(kHere4, 7000);
  ASSERT_EQ(::bind(half.get(), from.get(), from.length), 0);
  ASSERT_EQ(::connect(half.get(), to.get(), to.length), -1);
  ASSERT_EQ(errno, EINPROGRESS);
  UniqueFd finished = connected(kHere4, 7000);
  netns_.enter_here();
  {
    UniqueFd accepted(::accept(server.get(), nullptr, nullptr));
    ASSERT_TRUE(accepted.valid());
  }  // closed first: TIME-WAIT stays here
  finished.reset();
  auto found = kernel_connections(7000);
  ASSERT_TRUE(found.ok());
  const auto has = [&](const IpAddr& remote) {
    return std::any_of(found.value().begin(), found.value().end(),
                       [&](const FourTuple& t) { return t.remote == remote && t.local == kHere4; });
  };
  EXPECT_TRUE(has(addr("10.60.0.2"))) << "half open";
  EXPECT_TRUE(has(kThere4)) << "TIME-WAIT";
}

// --- ownership ---

TEST_F(NetTest, AcceptsAListeningSocketAsProof) {
  const std::uint64_t cookie = own_netns_cookie().value();
  const IpAddr local[] = {kHere4, kHere6};
  const UniqueFd fd = listening(kHere4, 7000);
  auto proof = check_listener(fd.get(), cookie, local);
  ASSERT_TRUE(proof.ok()) << proof.error().text;
  EXPECT_EQ(proof.value().port, 7000);
  EXPECT_EQ(proof.value().address, kHere4);
  EXPECT_EQ(proof.value().family, AF_INET);
  EXPECT_TRUE(proof.value().reuse_address);
  EXPECT_FALSE(proof.value().reuse_port);
  const UniqueFd copy(::dup(fd.get()));
  EXPECT_EQ(check_listener(copy.get(), cookie, local).value().cookie, proof.value().cookie);

  const UniqueFd any = listening(IpAddr{}, 7001);
  auto wildcard = check_listener(any.get(), cookie, local);
  ASSERT_TRUE(wildcard.ok());
  EXPECT_TRUE(wildcard.value().address.is_any());
  EXPECT_FALSE(wildcard.value().v6_only);
  EXPECT_NE(wildcard.value().cookie, proof.value().cookie);
}

TEST_F(NetTest, ListsListenersOfAPort) {
  const UniqueFd four = listening(kHere4, 7000);
  UniqueFd six = tcp_socket(IpAddr{});
  const int on = 1;
  ASSERT_EQ(::setsockopt(six.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), 0);
  ASSERT_EQ(::setsockopt(six.get(), SOL_SOCKET, SO_BINDTODEVICE, "v0", 3), 0);
  const Name name(IpAddr{}, 7000);
  ASSERT_EQ(::bind(six.get(), name.get(), name.length), 0);
  ASSERT_EQ(::listen(six.get(), 8), 0);
  const UniqueFd other = listening(kHere4, 7001);
  auto found = kernel_listeners(7000);
  ASSERT_TRUE(found.ok()) << found.error().text;
  ASSERT_EQ(found.value().size(), 2u);
  const KernelListener& first = found.value()[0];
  EXPECT_EQ(first.cookie, check_socket(four.get(), own_netns_cookie().value()).value().cookie);
  EXPECT_EQ(first.local, kHere4);
  EXPECT_EQ(first.ifindex, 0);
  const KernelListener& second = found.value()[1];
  EXPECT_EQ(second.cookie, check_socket(six.get(), own_netns_cookie().value()).value().cookie);
  EXPECT_TRUE(second.local.is_any());
  EXPECT_TRUE(second.v6_only);
  EXPECT_EQ(second.ifindex, ifindex_);
}

TEST_F(NetTest, RefusesWhatProvesNothing) {
  const std::uint64_t cookie = own_netns_cookie().value();
  const IpAddr local[] = {kHere4};
  const auto refused = [&](const UniqueFd& fd) {
    auto proof = check_listener(fd.get(), cookie, local);
    return proof.ok() ? 0 : proof.error().code;
  };
  EXPECT_EQ(refused(bound(kHere4, 7000)), EINVAL) << "bound only";
  EXPECT_EQ(refused(listening(kHere6, 7000)), EADDRNOTAVAIL) << "not an address of ours";
  EXPECT_EQ(refused(UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0))), EPROTOTYPE);
  EXPECT_EQ(refused(UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))), EAFNOSUPPORT);
  EXPECT_EQ(refused(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))), ENOTSOCK);
  EXPECT_EQ(refused(UniqueFd(-1)), ENOTSOCK);
  UniqueFd tied = bound(kHere4, 7003);
  ASSERT_EQ(::setsockopt(tied.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 2), 0);
  ASSERT_EQ(::listen(tied.get(), 8), 0);
  EXPECT_EQ(refused(tied), ENODEV) << "bound to an interface";
  constexpr int kMptcp = 262;
  UniqueFd mptcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, kMptcp));
  if (mptcp.valid()) {
    const Name name(kHere4, 7002);
    ASSERT_EQ(::bind(mptcp.get(), name.get(), name.length), 0);
    ASSERT_EQ(::listen(mptcp.get(), 1), 0);
    EXPECT_EQ(refused(mptcp), EPROTONOSUPPORT);
  }
  netns_.enter_there();
  const UniqueFd foreign = listening(kThere4, 7000);
  netns_.enter_here();
  EXPECT_EQ(refused(foreign), EXDEV);
}

TEST_F(NetTest, ChecksASocketThatIsAboutToConnect) {
  const std::uint64_t cookie = own_netns_cookie().value();
  const UniqueFd fresh = tcp_socket(kHere4);
  const IpAddr local[] = {kHere4};
  auto facts = check_connector(fresh.get(), cookie, local);
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts.value().port, 0);
  EXPECT_TRUE(facts.value().address.is_any());
  EXPECT_EQ(check_connector(bound(kHere4, 7000).get(), cookie, local).value().address, kHere4);
  EXPECT_EQ(check_connector(bound(kHere6, 7000).get(), cookie, local).error().code, EADDRNOTAVAIL);
  const UniqueFd anywhere = tcp_socket(kHere4);  // IP_FREEBIND needs no privilege
  const int on = 1;
  ASSERT_EQ(::setsockopt(anywhere.get(), IPPROTO_IP, IP_FREEBIND, &on, sizeof on), 0);
  const Name name(addr("192.0.2.1"), 0);
  ASSERT_EQ(::bind(anywhere.get(), name.get(), name.length), 0);
  EXPECT_EQ(check_connector(anywhere.get(), cookie, local).error().code, EADDRNOTAVAIL);
}

TEST_F(NetTest, HeldPortsAreNobodyElses) {
  auto held = hold_port(kHere4);
  ASSERT_TRUE(held.ok());
  ASSERT_NE(held.value().port, 0);
  const UniqueFd rival = tcp_socket(kHere4);  // with SO_REUSEADDR
  const Name name(kHere4, held.value().port);
  EXPECT_EQ(::bind(rival.get(), name.get(), name.length), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  EXPECT_EQ(hold_port(kHere4, held.value().port).error().code, EADDRINUSE);

  auto wildcard = hold_port(IpAddr{});
  ASSERT_TRUE(wildcard.ok());
  EXPECT_EQ(hold_port(kHere4, wildcard.value().port).error().code, EADDRINUSE);
  EXPECT_EQ(hold_port(kHere6, wildcard.value().port).error().code, EADDRINUSE);
  EXPECT_EQ(hold_port(addr("192.0.2.1")).error().code, EADDRNOTAVAIL);
}

}  // namespace
}  // namespace toe::engine::net
