// Sends SYNs with forged source addresses at a fixed rate, through a packet socket.
#include <arpa/inet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "wire/build.h"

namespace {

using namespace toe;

constexpr std::size_t kBatch = 32;
constexpr std::uint32_t kSources = 1u << 17;  // a /15

struct Options {
  std::string device;
  std::string source_mac, target_mac;
  std::string target;
  std::string sources = "198.18.0.0";
  std::uint16_t port = 0;
  std::uint32_t rate = 50000;
  double seconds = 5;
};

MacAddr parse_mac(const std::string& text) {
  MacAddr mac;
  auto& b = mac.bytes;
  if (std::sscanf(text.c_str(), "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &b[0], &b[1], &b[2], &b[3], &b[4],
                  &b[5]) != 6) {
    throw CLI::ValidationError("not an Ethernet address: " + text);
  }
  return mac;
}

std::uint32_t parse_v4(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) {
    throw CLI::ValidationError("not an IPv4 address: " + text);
  }
  return ntohl(address.s_addr);
}

IpAddr v4(std::uint32_t address) {
  const std::uint32_t network = htonl(address);
  return IpAddr::v4(&network);
}

class Flood {
 public:
  explicit Flood(const Options& o) : options_(o), first_source_(parse_v4(o.sources)) {
    header_.eth_src = parse_mac(o.source_mac);
    header_.eth_dst = parse_mac(o.target_mac);
    header_.dst = v4(parse_v4(o.target));
    header_.dst_port = o.port;
    header_.flags = wire::kSyn;
    header_.window = 64240;
    header_.options.mss = 1460;
    header_.options.has_timestamp = true;
    header_.options.has_wscale = true;
    header_.options.wscale = 7;
    to_.sll_family = AF_PACKET;
    to_.sll_ifindex = static_cast<int>(if_nametoindex(o.device.c_str()));
    fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd_ < 0 || to_.sll_ifindex == 0) throw std::runtime_error("no packet socket on the device");
  }
  ~Flood() { close(fd_); }

  /// Returns how many frames left.
  std::uint64_t run() {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    const auto total = static_cast<std::uint64_t>(options_.seconds * options_.rate);
    while (sent_ < total) {
      const double due = std::chrono::duration<double>(Clock::now() - start).count();
      if (static_cast<double>(sent_) < due * options_.rate) {
        send_batch();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    }
    return left_;
  }

 private:
  void send_batch() {
    std::array<mmsghdr, kBatch> messages{};
    std::array<iovec, kBatch> parts{};
    for (std::size_t i = 0; i < kBatch; ++i) {
      const auto random = static_cast<std::uint32_t>(random_());
      header_.src = v4(first_source_ + random % kSources);
      header_.src_port = static_cast<std::uint16_t>(1024 + (random >> 17) % 60000);
      header_.seq = static_cast<std::uint32_t>(random_());
      header_.options.tsval = header_.seq ^ random;
      parts[i] = {frames_[i].data(), wire::build_segment(header_, {}, frames_[i])};
      messages[i].msg_hdr.msg_name = &to_;
      messages[i].msg_hdr.msg_namelen = sizeof to_;
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int n = sendmmsg(fd_, messages.data(), kBatch, 0);
    if (n > 0) left_ += static_cast<std::uint64_t>(n);
    sent_ += kBatch;  // what the device refuses is not made up for
  }

  Options options_;
  std::uint32_t first_source_;
  wire::TcpSegmentHeader header_;
  sockaddr_ll to_{};
  int fd_ = -1;
  std::uint64_t sent_ = 0, left_ = 0;
  std::minstd_rand random_{12345};
  std::array<std::array<std::uint8_t, 128>, kBatch> frames_{};
};

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app{"SYNs with forged sources (a /15) at a fixed rate, until the time is over"};
  app.add_option("--dev", o.device, "interface to send from")->required();
  app.add_option("--from-mac", o.source_mac, "its Ethernet address")->required();
  app.add_option("--to-mac", o.target_mac, "Ethernet address of the target")->required();
  app.add_option("--to", o.target, "IPv4 address of the target")->required();
  app.add_option("--port", o.port, "port of the target")->required();
  app.add_option("--sources", o.sources, "first source address")->capture_default_str();
  app.add_option("--rate", o.rate, "SYNs a second")
      ->check(CLI::Range(1, 2000000))
      ->capture_default_str();
  app.add_option("--seconds", o.seconds, "how long")
      ->check(CLI::Range(0.01, 600.0))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    std::printf("{\"sent\": %llu}\n", static_cast<unsigned long long>(Flood(o).run()));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "synflood: %s\n", e.what());
    return 1;
  }
  return 0;
}
