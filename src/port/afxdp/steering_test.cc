// Frames in, verdicts out: the steering program run on single frames by the kernel
// (BPF_PROG_TEST_RUN). Needs root.
#include "port/afxdp/steering.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "port/afxdp/afxdp_port.h"
#include "port/afxdp/test_netns.h"

namespace toe::port {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint16_t kPort = 8080;
const IpAddr kLocal4 = IpAddr::v4(10, 99, 0, 1);
const IpAddr kRemote4 = IpAddr::v4(10, 99, 0, 2);
constexpr MacAddr kMac{{2, 0, 0, 0, 0, 1}};
constexpr std::uint8_t kSyn = 0x02, kAck = 0x10;

IpAddr address6(std::uint8_t host) {
  IpAddr address;
  address.bytes = {0xfd, 0x99};
  address.bytes[15] = host;
  return address;
}

void put16(Bytes& out, unsigned value) {
  out.push_back(static_cast<std::uint8_t>(value >> 8));
  out.push_back(static_cast<std::uint8_t>(value));
}

/// A TCP segment in a frame, with the oddities the tests ask for.
struct Packet {
  MacAddr mac = kMac;
  std::vector<unsigned> vlans = {};  // tag control words, outermost first
  unsigned vlan_type = 0x8100;
  IpAddr local = kLocal4;
  IpAddr remote = kRemote4;
  std::uint16_t port = kPort;
  std::uint16_t remote_port = 40000;
  std::uint8_t flags = kAck;
  unsigned ip_options = 0;  // words of IPv4 options
  unsigned fragment = 0;    // IPv4: flags and offset as in the header
  std::uint8_t protocol = 6;
  std::vector<Bytes> extensions = {};  // IPv6: type of this header, then its bytes from [1] on
  std::size_t cut = 0;                 // bytes missing at the end

  Bytes build() const;

 private:
  void put_v4(Bytes& out) const;
  void put_v6(Bytes& out) const;
};

void Packet::put_v4(Bytes& out) const {
  out.push_back(static_cast<std::uint8_t>(0x45 + ip_options));
  out.push_back(0);
  put16(out, 40 + 4 * ip_options);
  put16(out, 1);
  put16(out, fragment);
  out.push_back(64);
  out.push_back(protocol);
  put16(out, 0);
  out.insert(out.end(), remote.v4_bytes(), remote.v4_bytes() + 4);
  out.insert(out.end(), local.v4_bytes(), local.v4_bytes() + 4);
  out.insert(out.end(), 4 * ip_options, 1);
}

void Packet::put_v6(Bytes& out) const {
  std::size_t length = 20;
  for (const Bytes& extension : extensions) length += extension.size();
  put16(out, 0x6000);
  put16(out, 0);
  put16(out, static_cast<unsigned>(length));
  out.push_back(extensions.empty() ? protocol : extensions[0][0]);
  out.push_back(64);
  out.insert(out.end(), remote.bytes.begin(), remote.bytes.end());
  out.insert(out.end(), local.bytes.begin(), local.bytes.end());
  for (std::size_t i = 0; i < extensions.size(); ++i) {
    out.push_back(i + 1 < extensions.size() ? extensions[i + 1][0] : protocol);
    out.insert(out.end(), extensions[i].begin() + 1, extensions[i].end());
  }
}

Bytes Packet::build() const {
  Bytes out(mac.bytes.begin(), mac.bytes.end());
  out.insert(out.end(), {2, 0, 0, 0, 0, 2});
  for (const unsigned tag : vlans) {
    put16(out, vlan_type);
    put16(out, tag);
  }
  put16(out, local.is_v4() ? 0x0800 : 0x86dd);
  local.is_v4() ? put_v4(out) : put_v6(out);
  put16(out, remote_port);
  put16(out, port);
  out.insert(out.end(), 8, 0);
  out.push_back(0x50);
  out.push_back(flags);
  out.insert(out.end(), 6, 0);
  out.resize(out.size() - cut);
  return out;
}

Packet packet6() { return {.local = address6(1), .remote = address6(2)}; }

/// An extension header of `bytes` bytes whose second byte is the length field `length`.
Bytes extension(std::uint8_t type, std::uint8_t length, std::size_t bytes) {
  Bytes header(bytes, 0);
  header[0] = type;
  header[1] = length;
  return header;
}
Bytes fragment6(unsigned offset_and_more) {
  Bytes header = extension(44, 0, 8);
  header[2] = static_cast<std::uint8_t>(offset_and_more >> 8);
  header[3] = static_cast<std::uint8_t>(offset_and_more);
  return header;
}

class SteeringTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!netns_.permitted()) GTEST_SKIP() << "steering program: needs root";
    device_ = {.name = "v0",
               .ifindex = static_cast<int>(::if_nametoindex("v0")),
               .mac = kMac,
               .mtu = 1500,
               .rx_queues = 1,
               .is_veth = true,
               .is_up = true};
    auto loaded = Steering::load(device_);
    if (!loaded.ok() && loaded.error().code == EPERM) GTEST_SKIP() << loaded.error().text;
    ASSERT_TRUE(loaded.ok()) << loaded.error().text;
    steering_ = std::make_unique<Steering>(std::move(loaded.value()));
    auto opened = AfXdpPort::open(device_, {});
    ASSERT_TRUE(opened.ok()) << opened.error().text;
    port_ = std::move(opened.value());
    ASSERT_TRUE(steering_->set_socket(0, port_->fd()).ok());
    v4_ = steering_->add_local_address(kLocal4).value();
    v6_ = steering_->add_local_address(address6(1)).value();
  }

  int verdict(const Packet& packet) {
    Bytes bytes = packet.build();
    Bytes out(4096);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = bytes.data(), .data_out = out.data(),
                .data_size_in = static_cast<__u32>(bytes.size()),
                .data_size_out = static_cast<__u32>(out.size()), .repeat = 1);
    EXPECT_EQ(bpf_prog_test_run_opts(steering_->program_fd(), &options), 0) << strerror(errno);
    return static_cast<int>(options.retval);
  }

  TestNetns netns_;
  Device device_;
  std::unique_ptr<AfXdpPort> port_;
  std::unique_ptr<Steering> steering_;
  std::uint32_t v4_ = 0;
  std::uint32_t v6_ = 0;
};

TEST_F(SteeringTest, PassesEverythingOfPortsThatAreNotOwned) {
  EXPECT_EQ(verdict({}), XDP_PASS);
  EXPECT_EQ(verdict(packet6()), XDP_PASS);
  steering_->mark(v4_, kPort, kOwned);
  EXPECT_EQ(verdict({.port = kPort + 1}), XDP_PASS);
  EXPECT_EQ(verdict({.port = kPort - 64}), XDP_PASS);
  EXPECT_EQ(verdict({.local = IpAddr::v4(10, 99, 0, 9)}), XDP_PASS);
  EXPECT_EQ(verdict({.protocol = 17}), XDP_PASS);
  EXPECT_EQ(verdict(packet6()), XDP_PASS) << "owned on one address only";
}

TEST_F(SteeringTest, RedirectsOwnedPortsAndGivesThemBack) {
  steering_->mark(v4_, kPort, kOwned);
  steering_->mark(v6_, 65535, kOwned);
  Packet six = packet6();
  six.port = 65535;
  for (const std::uint8_t flags : {kSyn, kAck, std::uint8_t{0x14}}) {
    EXPECT_EQ(verdict({.flags = flags}), XDP_REDIRECT);
    six.flags = flags;
    EXPECT_EQ(verdict(six), XDP_REDIRECT);
  }
  steering_->unmark(v4_, kPort, kOwned);
  EXPECT_EQ(verdict({}), XDP_PASS);
  EXPECT_EQ(verdict(six), XDP_REDIRECT);
  steering_->remove_local_address(address6(1));
  EXPECT_EQ(verdict(six), XDP_DROP) << "perhaps it is back, and the kernel would reset it";
  EXPECT_EQ(verdict(packet6()), XDP_PASS) << "not owned";
  EXPECT_EQ(steering_->add_local_address(address6(1)).value(), v6_);
  EXPECT_EQ(verdict(six), XDP_REDIRECT) << "an address that comes back finds what was owned";
}

TEST_F(SteeringTest, PassesWithoutSocket) {
  steering_->mark(v4_, kPort, kOwned);
  steering_->clear_socket(0);
  EXPECT_EQ(verdict({}), XDP_PASS);
}

TEST_F(SteeringTest, ComparesTheDestinationMac) {
  steering_->mark(v4_, kPort, kOwned);
  EXPECT_EQ(verdict({.mac = {{3, 0, 0, 0, 0, 1}}}), XDP_PASS) << "a group";
  EXPECT_EQ(verdict({.mac = {{2, 0, 0, 0, 0, 9}}, .port = kPort + 1}), XDP_PASS);
  // Perhaps the device's since a moment: the kernel would reset the connection.
  EXPECT_EQ(verdict({.mac = {{2, 0, 0, 0, 0, 9}}}), XDP_DROP);
  EXPECT_EQ(steering_->counters().changing_dropped, 1u);
  steering_->set_mac({{2, 0, 0, 0, 0, 9}});
  EXPECT_EQ(verdict({.mac = {{2, 0, 0, 0, 0, 9}}}), XDP_REDIRECT);
}

TEST_F(SteeringTest, PassesWhatTheKernelForwardsToALostAddress) {
  steering_->mark(v4_, kPort, kOwned);
  steering_->remove_local_address(kLocal4);
  EXPECT_EQ(verdict({}), XDP_DROP) << "this host is no router";
  TestNetns::run("echo 1 >/proc/sys/net/ipv4/ip_forward");
  EXPECT_EQ(verdict({}), XDP_DROP) << "the kernel has it again";
  TestNetns::run("ip addr del 10.99.0.1/24 dev v0 && ip route add 10.99.0.1/32 dev v0");
  EXPECT_EQ(verdict({}), XDP_PASS);
  EXPECT_EQ(steering_->counters().changing_dropped, 2u);
  EXPECT_EQ(steering_->add_local_address(kLocal4).value(), v4_);
  EXPECT_EQ(verdict({}), XDP_REDIRECT);
}

TEST_F(SteeringTest, SynOnlyTakesOnlyFirstSyns) {
  steering_->mark(v4_, kPort, kSynOnly);
  EXPECT_EQ(verdict({.flags = kSyn}), XDP_REDIRECT);
  EXPECT_EQ(verdict({.flags = kSyn | 0xc0}), XDP_REDIRECT) << "ECN set-up";
  EXPECT_EQ(verdict({.flags = kSyn | kAck}), XDP_PASS);
  EXPECT_EQ(verdict({.flags = kAck}), XDP_PASS);
}

TEST_F(SteeringTest, AChangingPortDropsWhatNoExceptionSpeaksOf) {
  ASSERT_TRUE(steering_->add_exception({kLocal4, kRemote4, kPort, 41000}, Keeper::kKernel).ok());
  ASSERT_TRUE(steering_->add_exception({kLocal4, kRemote4, kPort, 41001}, Keeper::kEngine).ok());
  steering_->mark(v4_, kPort, kSynOnly | kExcept | kChanging);
  EXPECT_EQ(verdict({.flags = kSyn}), XDP_DROP);
  EXPECT_EQ(verdict({.flags = kAck}), XDP_PASS);
  steering_->mark(v4_, kPort, kOwned);
  EXPECT_EQ(verdict({.flags = kSyn}), XDP_DROP);
  EXPECT_EQ(verdict({.flags = kAck}), XDP_DROP);
  EXPECT_EQ(verdict({.remote_port = 41000, .flags = kAck}), XDP_PASS);
  EXPECT_EQ(verdict({.remote_port = 41001, .flags = kAck}), XDP_REDIRECT);
  EXPECT_EQ(steering_->counters().changing_dropped, 3u);
  EXPECT_EQ(steering_->state(v4_, kPort), kOwned | kSynOnly | kExcept | kChanging);
  steering_->unmark(v4_, kPort, kSynOnly | kChanging);
  EXPECT_EQ(verdict({.flags = kSyn}), XDP_REDIRECT);
  EXPECT_EQ(verdict({.flags = kAck}), XDP_REDIRECT);
}

TEST_F(SteeringTest, ExceptionsGoToTheirKeeper) {
  const FourTuple kernels{kLocal4, kRemote4, kPort, 40000};
  const FourTuple engines{kLocal4, kRemote4, kPort, 40001};
  ASSERT_TRUE(steering_->add_exception(kernels, Keeper::kKernel).ok());
  ASSERT_TRUE(steering_->add_exception(engines, Keeper::kEngine).ok());
  steering_->mark(v4_, kPort, kOwned);
  EXPECT_EQ(verdict({.remote_port = 40000}), XDP_REDIRECT) << "not asked without kExcept";

  steering_->mark(v4_, kPort, kExcept);
  EXPECT_EQ(verdict({.remote_port = 40000}), XDP_PASS);
  EXPECT_EQ(verdict({.remote_port = 40001}), XDP_REDIRECT);
  EXPECT_EQ(verdict({.remote_port = 40002}), XDP_REDIRECT);

  steering_->unmark(v4_, kPort, kOwned);  // drain
  EXPECT_EQ(verdict({.remote_port = 40000}), XDP_PASS);
  EXPECT_EQ(verdict({.remote_port = 40001}), XDP_REDIRECT);
  EXPECT_EQ(verdict({.remote_port = 40002}), XDP_PASS);
  EXPECT_EQ(steering_->counters().exceptions_passed, 1u);
  EXPECT_EQ(steering_->counters().exceptions_redirected, 1u);

  steering_->remove_exception(engines);
  EXPECT_EQ(verdict({.remote_port = 40001}), XDP_PASS);
  ASSERT_TRUE(steering_->add_exception(kernels, Keeper::kEngine).ok());
  EXPECT_EQ(verdict({.remote_port = 40000}), XDP_REDIRECT) << "the keeper may change";
  EXPECT_EQ(steering_->exceptions(), 1u);
}

TEST_F(SteeringTest, ExceptionsWorkForIpv6AndAreClearedByPort) {
  const FourTuple tuple{address6(1), address6(2), kPort, 40000};
  ASSERT_TRUE(steering_->add_exception(tuple, Keeper::kKernel).ok());
  FourTuple other = tuple;
  other.local_port = kPort + 1;
  ASSERT_TRUE(steering_->add_exception(other, Keeper::kKernel).ok());
  steering_->mark(v6_, kPort, kOwned | kExcept);
  EXPECT_EQ(verdict(packet6()), XDP_PASS);
  EXPECT_EQ(steering_->clear_exceptions(address6(1), kPort), 1u);
  EXPECT_EQ(verdict(packet6()), XDP_REDIRECT);
  EXPECT_EQ(steering_->exceptions(), 1u);
}

TEST_F(SteeringTest, WalksConfiguredVlanTags) {
  steering_->mark(v4_, kPort, kOwned);
  EXPECT_EQ(verdict({.vlans = {0}}), XDP_REDIRECT) << "id 0 is untagged";
  EXPECT_EQ(verdict({.vlans = {0xe000}}), XDP_REDIRECT) << "priority does not matter";
  EXPECT_EQ(verdict({.vlans = {100}}), XDP_PASS);
  steering_->allow_vlan(100);
  EXPECT_EQ(verdict({.vlans = {0x6000 + 100}}), XDP_REDIRECT);
  EXPECT_EQ(verdict({.vlans = {100, 200}}), XDP_PASS);
  steering_->allow_vlan(200);
  EXPECT_EQ(verdict({.vlans = {100, 200}, .vlan_type = 0x88a8}), XDP_REDIRECT);
  EXPECT_EQ(verdict({.vlans = {100, 200, 100}}), XDP_PASS) << "too many tags";
  EXPECT_EQ(steering_->counters().vlan_passed, 3u);
}

TEST_F(SteeringTest, WalksIpv4OptionsAndStopsAtFragments) {
  steering_->mark(v4_, kPort, kOwned);
  for (unsigned words = 0; words <= 10; ++words) {
    EXPECT_EQ(verdict({.ip_options = words}), XDP_REDIRECT);
  }
  EXPECT_EQ(verdict({.fragment = 0x4000}), XDP_REDIRECT) << "don't fragment";
  EXPECT_EQ(verdict({.fragment = 0x2000}), XDP_DROP) << "first fragment";
  EXPECT_EQ(verdict({.port = kPort + 1, .fragment = 0x2000}), XDP_PASS);
  EXPECT_EQ(verdict({.fragment = 0x2010}), XDP_PASS) << "middle";
  EXPECT_EQ(verdict({.fragment = 0x0010}), XDP_PASS) << "last";
  EXPECT_EQ(steering_->counters().fragments_dropped, 1u);
  EXPECT_EQ(steering_->counters().fragments_passed, 2u);
}

TEST_F(SteeringTest, TinyFirstFragmentsAreDroppedToo) {
  steering_->mark(v4_, kPort, kOwned);
  steering_->mark(v6_, kPort, kOwned);
  EXPECT_EQ(verdict({.fragment = 0x2000, .cut = 12}), XDP_DROP) << "8 bytes of TCP";
  EXPECT_EQ(verdict({.port = kPort + 1, .fragment = 0x2000, .cut = 12}), XDP_PASS);
  Packet six = packet6();
  six.extensions = {fragment6(1)};
  six.cut = 12;
  EXPECT_EQ(verdict(six), XDP_DROP);
  EXPECT_EQ(steering_->counters().fragments_dropped, 2u);
  steering_->unmark(v4_, kPort, kOwned);
  steering_->mark(v4_, kPort, kSynOnly);
  EXPECT_EQ(verdict({.fragment = 0x2000, .cut = 12}), XDP_DROP) << "it may be a SYN";
}

TEST_F(SteeringTest, WalksIpv6ExtensionHeaders) {
  steering_->mark(v6_, kPort, kOwned);
  const auto with = [](std::vector<Bytes> extensions) {
    Packet packet = packet6();
    packet.extensions = std::move(extensions);
    return packet;
  };
  EXPECT_EQ(verdict(with({extension(0, 0, 8)})), XDP_REDIRECT) << "hop by hop";
  EXPECT_EQ(verdict(with({extension(60, 3, 32)})), XDP_REDIRECT) << "destination options";
  EXPECT_EQ(verdict(with({extension(43, 2, 24)})), XDP_REDIRECT) << "routing, arrived";
  Bytes on_its_way = extension(43, 2, 24);
  on_its_way[3] = 1;
  EXPECT_EQ(verdict(with({on_its_way})), XDP_PASS);
  EXPECT_EQ(verdict(with({extension(51, 4, 24)})), XDP_REDIRECT) << "authentication";
  EXPECT_EQ(verdict(with({extension(50, 0, 8)})), XDP_PASS) << "encrypted";
  EXPECT_EQ(verdict(with({extension(0, 0, 8), extension(60, 255, 2048), extension(60, 0, 8)})),
            XDP_REDIRECT);
  EXPECT_EQ(verdict(with({fragment6(0)})), XDP_REDIRECT) << "atomic fragment";
  EXPECT_EQ(verdict(with({fragment6(1)})), XDP_DROP) << "first fragment";
  EXPECT_EQ(verdict(with({extension(60, 0, 8), fragment6(1), extension(60, 0, 8)})), XDP_DROP);
  EXPECT_EQ(verdict(with({fragment6(0x11)})), XDP_PASS) << "later fragment";
  EXPECT_EQ(steering_->counters().fragments_dropped, 2u);
  EXPECT_EQ(steering_->counters().fragments_passed, 1u);
}

TEST_F(SteeringTest, DropsMoreExtensionHeadersThanItWalks) {
  steering_->mark(v6_, kPort, kOwned);
  Packet packet = packet6();
  packet.extensions.assign(kSteerMaxIpv6Headers, extension(60, 0, 8));
  EXPECT_EQ(verdict(packet), XDP_REDIRECT);
  packet.protocol = 17;
  EXPECT_EQ(verdict(packet), XDP_PASS) << "not TCP";
  packet.protocol = 6;
  packet.extensions.push_back(extension(60, 0, 8));
  EXPECT_EQ(verdict(packet), XDP_DROP);
  EXPECT_EQ(steering_->counters().headers_dropped, 1u);
}

TEST_F(SteeringTest, PassesFramesThatEndTooEarly) {
  steering_->mark(v4_, kPort, kOwned);
  steering_->mark(v6_, kPort, kOwned);
  for (std::size_t cut = 1; cut <= 40; ++cut) EXPECT_EQ(verdict({.cut = cut}), XDP_PASS) << cut;
  Packet six = packet6();
  six.extensions = {extension(60, 1, 16)};
  for (six.cut = 1; six.cut <= 60; ++six.cut) EXPECT_EQ(verdict(six), XDP_PASS) << six.cut;
  EXPECT_EQ(verdict({.ip_options = 10, .cut = 1}), XDP_PASS);
}

TEST_F(SteeringTest, HoldsNoMoreThanItsBoundOfAddresses) {
  for (std::uint8_t i = 2; i < Steering::kMaxAddresses; ++i) {
    ASSERT_TRUE(steering_->add_local_address(IpAddr::v4(10, 0, 0, i)).ok());
  }
  const auto more = steering_->add_local_address(IpAddr::v4(10, 0, 1, 1));
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().code, ENOSPC);
  steering_->remove_local_address(IpAddr::v4(10, 0, 0, 2));
  EXPECT_TRUE(steering_->add_local_address(IpAddr::v4(10, 0, 1, 1)).ok());
}

TEST_F(SteeringTest, AnAddressThatComesBackFindsItsPortsAsTheyWere) {
  const IpAddr address = IpAddr::v4(10, 0, 1, 1);
  const std::uint32_t index = steering_->add_local_address(address).value();
  steering_->mark(index, 8080, kOwned);
  steering_->remove_local_address(address);
  EXPECT_EQ(steering_->address_index(address), index);
  EXPECT_EQ(steering_->add_local_address(address).value(), index);
  EXPECT_EQ(steering_->state(index, 8080), static_cast<unsigned>(kOwned));
}

TEST_F(SteeringTest, TheLastFreePlaceIsTakenFromAnAddressThatHasGone) {
  const IpAddr address = IpAddr::v4(10, 0, 1, 1);
  const std::uint32_t index = steering_->add_local_address(address).value();
  steering_->mark(index, 8080, kOwned);
  steering_->remove_local_address(address);
  for (std::uint8_t i = 3; i < Steering::kMaxAddresses; ++i) {
    ASSERT_TRUE(steering_->add_local_address(IpAddr::v4(10, 0, 0, i)).ok());
    EXPECT_TRUE(steering_->address_index(address)) << int{i};
  }
  EXPECT_EQ(steering_->add_local_address(IpAddr::v4(10, 0, 2, 1)).value(), index);
  EXPECT_EQ(steering_->state(index, 8080), 0u);
  EXPECT_FALSE(steering_->address_index(address));
}

TEST_F(SteeringTest, NamesWhatIsInTheWay) {
  auto second = Steering::load(device_);
  ASSERT_TRUE(second.ok());
  Status attached = steering_->attach();
  ASSERT_TRUE(attached.ok()) << attached.error().text;
  EXPECT_FALSE(steering_->generic());
  const Status foreign = second.value().attach();
  ASSERT_FALSE(foreign.ok());
  EXPECT_NE(foreign.error().text.find("already has an XDP program"), std::string::npos);
  steering_->detach();
  EXPECT_TRUE(second.value().attach().ok());

  Device missing = device_;
  missing.ifindex = 4711;
  missing.name = "nope0";
  auto third = Steering::load(missing);
  ASSERT_TRUE(third.ok());
  const Status gone = third.value().attach();
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().text, "there is no interface nope0");
}

}  // namespace
}  // namespace toe::port
