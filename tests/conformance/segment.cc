#include "conformance/segment.h"

#include <algorithm>

namespace toe::conformance {
namespace {

using Bytes = std::vector<std::uint8_t>;
using View = std::span<const std::uint8_t>;

constexpr std::size_t kIpBytes = 20, kTcpBytes = 20;

std::uint8_t low(std::uint32_t v) { return static_cast<std::uint8_t>(v & 0xff); }

void put16(Bytes& to, std::uint32_t v) {
  to.push_back(low(v >> 8));
  to.push_back(low(v));
}
void put32(Bytes& to, std::uint32_t v) {
  put16(to, v >> 16);
  put16(to, v & 0xffff);
}
std::uint16_t get16(View at, std::size_t i) {
  return static_cast<std::uint16_t>((at[i] << 8) | at[i + 1]);
}
std::uint32_t get32(View at, std::size_t i) {
  return (std::uint32_t{get16(at, i)} << 16) | get16(at, i + 2);
}

std::uint32_t sum_of(View bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    sum += i % 2 == 0 ? std::uint32_t{bytes[i]} << 8 : bytes[i];
  }
  return sum;
}

std::uint16_t checksum(std::uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum & 0xffff);
}

std::uint32_t pseudo_sum(std::size_t length) {
  std::uint32_t sum = 6 + static_cast<std::uint32_t>(length);
  for (const std::uint32_t a : {kSubjectAddress, kPeerAddress}) sum += (a >> 16) + (a & 0xffff);
  return sum;
}

Bytes option_bytes(const Options& o) {
  Bytes b;
  if (o.mss) {
    b.insert(b.end(), {2, 4});
    put16(b, *o.mss);
  }
  if (o.sack_ok) b.insert(b.end(), {4, 2});
  if (o.wscale) b.insert(b.end(), {3, 3, *o.wscale});
  if (o.stamps) {
    b.insert(b.end(), {8, 10});
    put32(b, o.stamps->value);
    put32(b, o.stamps->echo);
  }
  if (!o.sacks.empty())
    b.insert(b.end(), {5, low(static_cast<std::uint32_t>(2 + 8 * o.sacks.size()))});
  for (const Block& block : o.sacks) {
    put32(b, block.begin);
    put32(b, block.end);
  }
  if (o.raw.empty()) {
    while (b.size() % 4 != 0) b.push_back(1);
  }
  b.insert(b.end(), o.raw.begin(), o.raw.end());
  while (b.size() % 4 != 0) b.push_back(0);
  return b;
}

void read_option(View option, Options& out) {
  const std::size_t length = option.size();
  if (option[0] == 2 && length == 4) {
    out.mss = get16(option, 2);
  } else if (option[0] == 3 && length == 3) {
    out.wscale = option[2];
  } else if (option[0] == 4 && length == 2) {
    out.sack_ok = true;
  } else if (option[0] == 8 && length == 10) {
    out.stamps = Stamps{get32(option, 2), get32(option, 6)};
  } else if (option[0] == 5 && length >= 10 && (length - 2) % 8 == 0) {
    for (std::size_t i = 2; i < length; i += 8) {
      out.sacks.push_back({get32(option, i), get32(option, i + 4)});
    }
  } else {
    out.raw.push_back(option[0]);
  }
}

bool read_options(View b, Options& out) {
  for (std::size_t i = 0; i < b.size() && b[i] != 0;) {
    if (b[i] == 1) {
      ++i;
      continue;
    }
    if (i + 1 >= b.size() || b[i + 1] < 2 || i + b[i + 1] > b.size()) return false;
    read_option(b.subspan(i, b[i + 1]), out);
    i += b[i + 1];
  }
  return true;
}

}  // namespace

std::uint32_t Segment::length() const {
  return static_cast<std::uint32_t>(payload.size()) + ((flags & kSyn) != 0 ? 1u : 0u) +
         ((flags & kFin) != 0 ? 1u : 0u);
}

Bytes encode(const Segment& s) {
  const Bytes options = option_bytes(s.options);
  Bytes tcp;
  put16(tcp, s.source);
  put16(tcp, s.destination);
  put32(tcp, s.seq);
  put32(tcp, s.ack);
  tcp.push_back(low(static_cast<std::uint32_t>((kTcpBytes + options.size()) / 4) << 4));
  tcp.push_back(s.flags);
  put16(tcp, s.window);
  put16(tcp, 0);  // checksum
  put16(tcp, s.urgent);
  tcp.insert(tcp.end(), options.begin(), options.end());
  tcp.insert(tcp.end(), s.payload.begin(), s.payload.end());
  const std::uint16_t tcp_sum = checksum(pseudo_sum(tcp.size()) + sum_of(tcp));
  tcp[16] = low(std::uint32_t{tcp_sum} >> 8);
  tcp[17] = low(tcp_sum);

  Bytes ip = {0x45, s.ecn};
  put16(ip, static_cast<std::uint32_t>(kIpBytes + tcp.size()));
  put32(ip, 0x00004000);  // do not fragment
  ip.insert(ip.end(), {64, 6, 0, 0});
  put32(ip, kPeerAddress);
  put32(ip, kSubjectAddress);
  const std::uint16_t ip_sum = checksum(sum_of(ip));
  ip[10] = low(std::uint32_t{ip_sum} >> 8);
  ip[11] = low(ip_sum);
  ip.insert(ip.end(), tcp.begin(), tcp.end());
  return ip;
}

bool decode(View packet, Segment& out) {
  if (packet.size() < kIpBytes + kTcpBytes || packet[0] != 0x45 || packet[9] != 6) return false;
  if (checksum(sum_of(packet.first(kIpBytes))) != 0) return false;
  const std::size_t total = get16(packet, 2);
  if (total > packet.size() || total < kIpBytes + kTcpBytes) return false;
  const View tcp = packet.subspan(kIpBytes, total - kIpBytes);
  if (checksum(pseudo_sum(tcp.size()) + sum_of(tcp)) != 0) return false;
  const std::size_t header = (tcp[12] >> 4) * 4u;
  if (header < kTcpBytes || header > tcp.size()) return false;
  out = {};
  out.source = get16(tcp, 0);
  out.destination = get16(tcp, 2);
  out.seq = get32(tcp, 4);
  out.ack = get32(tcp, 8);
  out.flags = tcp[13];
  out.window = get16(tcp, 14);
  out.urgent = get16(tcp, 18);
  out.ecn = packet[1] & 3;
  out.payload.assign(tcp.begin() + static_cast<std::ptrdiff_t>(header), tcp.end());
  return read_options(tcp.subspan(kTcpBytes, header - kTcpBytes), out.options);
}

std::string flags_text(std::uint8_t flags) {
  constexpr std::pair<std::uint8_t, char> kLetters[] = {{kSyn, 'S'}, {kFin, 'F'}, {kRst, 'R'},
                                                        {kPsh, 'P'}, {kUrg, 'U'}, {kEce, 'E'},
                                                        {kCwr, 'W'}, {kAck, '.'}};
  std::string text;
  for (const auto& [bit, letter] : kLetters) {
    if ((flags & bit) != 0) text += letter;
  }
  return text.empty() ? "none" : text;
}

}  // namespace toe::conformance
