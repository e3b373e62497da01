// floor: what answering costs on this wire with no TCP and no application.
//
// An AF_XDP reflector for `make bench`. It accepts every connection to one address and port
// without remembering it and sends each segment's payload back in the same frame. No state, no
// retransmission, no window: only good for a closed-loop echo client on a wire that loses nothing.
#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <cstring>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>

#include <CLI/CLI.hpp>

#include "base/unique_fd.h"
#include "port/afxdp/afxdp_port.h"
#include "port/afxdp/steering.h"
#include "wire/build.h"
#include "wire/checksum.h"
#include "wire/parse.h"

namespace toe::floor {
namespace {

constexpr std::uint32_t kFirstSeq = 1000;

volatile std::sig_atomic_t stop_asked = 0;

struct Options {
  std::string dev;
  std::string address;
  std::uint16_t port = 0;
};

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().text);
  return std::move(result.value());
}

port::Device describe(const std::string& name) {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  port::Device device;
  device.name = name;
  device.ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
  if (device.ifindex == 0 || ::ioctl(socket.get(), SIOCGIFHWADDR, &request) != 0) {
    throw std::runtime_error("no device " + name);
  }
  std::memcpy(device.mac.bytes.data(), request.ifr_hwaddr.sa_data, device.mac.bytes.size());
  device.is_veth = true;
  device.is_up = true;
  return device;
}

IpAddr parse_address(const std::string& text) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1) {
    throw std::runtime_error("not an IPv4 address: " + text);
  }
  return IpAddr::v4(&address);
}

/// The answer's header, or nothing where silence is right.
std::optional<wire::TcpSegmentHeader> answer(const wire::TcpSegment& in) {
  if ((in.flags & wire::kRst) != 0) return std::nullopt;
  wire::TcpSegmentHeader out = wire::reply_header(in);
  out.window = 0xffff;
  out.ack = in.seq + in.seq_length();
  out.flags = wire::kAck;
  if ((in.flags & wire::kSyn) != 0) {
    out.seq = kFirstSeq;
    out.flags |= wire::kSyn;
    out.options.mss = 1460;
    return out;
  }
  if (in.seq_length() == 0) return std::nullopt;
  out.seq = in.ack;
  if (in.payload_length > 0) out.flags |= wire::kPsh;
  if ((in.flags & wire::kFin) != 0) out.flags |= wire::kFin;
  return out;
}

class Reflector {
 public:
  explicit Reflector(const Options& options)
      : device_(describe(options.dev)),
        port_(must(port::AfXdpPort::open(device_, {}))),
        steering_(must(port::Steering::load(device_))) {
    must(steering_.set_socket(0, port_->fd()));
    steering_.set_mac(device_.mac);
    const std::uint32_t index = must(steering_.add_local_address(parse_address(options.address)));
    steering_.mark(index, options.port, port::kOwned);
    must(steering_.attach());
  }

  void run() {
    while (stop_asked == 0) {
      if (reflect_burst() > 0) continue;
      if (!port_->prepare_sleep()) continue;
      pollfd wait{port_->fd(), POLLIN, 0};
      (void)::poll(&wait, 1, 1000);
    }
  }

 private:
  std::size_t reflect_burst() {
    std::array<Frame, 64> in;
    std::array<Frame, 64> out;
    std::size_t answers = 0;
    const std::size_t received = port_->rx(in);
    for (std::size_t i = 0; i < received; ++i) {
      if (turn_round(in[i])) {
        out[answers++] = in[i];
      } else {
        port_->pool().release(in[i]);
      }
    }
    const std::size_t sent = port_->tx(std::span(out.data(), answers));
    for (std::size_t i = sent; i < answers; ++i) port_->pool().release(out[i]);
    if (received > 0) port_->flush();
    return received;
  }

  /// Makes the frame its own answer; false: there is none.
  bool turn_round(Frame& frame) {
    const auto bytes = port_->pool().bytes(frame);
    wire::TcpSegment segment;
    const wire::ParseOptions options{wire::RxChecksum::kAcceptPartial};
    if (wire::parse_frame(bytes, options, segment) != wire::ParseVerdict::kOk) return false;
    const auto header = answer(segment);
    if (!header) return false;
    const wire::PayloadSummary payload{
        segment.payload_length,
        wire::checksum_partial(bytes.data() + segment.payload_offset, segment.payload_length)};
    const std::size_t length = wire::header_length(*header);
    // Only a SYN, which has no payload, gets headers of another length than it came with.
    if (payload.length > 0 && length != segment.payload_offset) return false;
    const std::size_t room = port_->pool().chunk_bytes() - frame.offset;
    if (wire::build_headers(*header, payload, std::span(bytes.data(), room)) == 0) return false;
    frame.length = static_cast<std::uint16_t>(length + payload.length);
    return true;
  }

  port::Device device_;
  std::unique_ptr<port::AfXdpPort> port_;
  port::Steering steering_;
};

}  // namespace
}  // namespace toe::floor

int main(int argc, char** argv) {
  toe::floor::Options options;
  CLI::App app("Answers a TCP echo client from AF_XDP, without TCP");
  app.add_option("--dev", options.dev)->required();
  app.add_option("--address", options.address)->required();
  app.add_option("--port", options.port)->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const auto stop = [](int) { toe::floor::stop_asked = 1; };
  std::signal(SIGTERM, stop);
  std::signal(SIGINT, stop);
  try {
    toe::floor::Reflector reflector(options);
    std::cerr << "floor: ready" << std::endl;
    reflector.run();
  } catch (const std::exception& failure) {
    std::cerr << "floor: " << failure.what() << std::endl;
    return 1;
  }
}
