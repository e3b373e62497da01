#include "sim/attacker.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "wire/build.h"
#include "wire/bytes.h"

namespace toe::sim {
namespace {

constexpr std::size_t kTcpHeader = 20;

/// What a checksum becomes when a 16-bit word of what it covers changes (RFC 1624).
std::uint16_t adjust(std::uint16_t checksum, std::uint16_t before, std::uint16_t after) {
  std::uint32_t sum = static_cast<std::uint16_t>(~checksum);
  sum += static_cast<std::uint16_t>(~before);
  sum += after;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

}  // namespace

Attacker::Attacker(const Bed& bed, std::uint64_t seed)
    : bed_(bed),
      random_(seed),
      next_(bed.clock.now),
      left_(static_cast<std::uint32_t>(random_.between(200, 2000))) {}

void Attacker::act(std::span<const Tuple> victims) {
  --left_;
  next_ = bed_.clock.now + Nanos{static_cast<std::int64_t>(random_.below(300'000))};
  if (!victims.empty() && random_.chance(0.4)) {
    spoof(victims[random_.below(victims.size())]);
  } else {
    attack();
  }
}

wire::TcpSegmentHeader Attacker::header(int from, Tuple tuple) {
  wire::TcpSegmentHeader h;
  h.eth_src = {{0x02, 0, 0, 0, 0, static_cast<std::uint8_t>(from + 1)}};
  h.eth_dst = {{0x02, 0, 0, 0, 0, static_cast<std::uint8_t>(2 - from)}};
  h.src = bed_.engines[from]->address();
  h.dst = bed_.engines[1 - from]->address();
  h.src_port = static_cast<std::uint16_t>(tuple >> 16);
  h.dst_port = static_cast<std::uint16_t>(tuple);
  if (from == 1) std::swap(h.src_port, h.dst_port);
  h.flags = wire::kAck;
  h.window = static_cast<std::uint16_t>(random_.next());
  return h;
}

// --- Off the path ---

void Attacker::spoof(Tuple tuple) {
  const int from = random_.chance(0.5) ? 0 : 1;
  const wire::TcpSegmentHeader h = header(from, tuple);
  const flow::Flow* flow = bed_.engines[1 - from]->find({h.dst, h.src, h.dst_port, h.src_port});
  if (flow != nullptr) spoof_flow(from, tuple, *flow);
}

/// Nothing of this may be taken (RFC 5961): a reset is not at rcv_nxt, data lies outside the
/// window, or what it acknowledges was never sent or is too old.
void Attacker::spoof_flow(int from, Tuple tuple, const flow::Flow& flow) {
  const flow::ProtocolSlice& p = flow.protocol;
  const auto at = [](std::uint32_t initial, std::uint64_t position) {
    return initial + 1 + static_cast<std::uint32_t>(position);
  };
  const std::uint32_t rcv_nxt = at(flow.pre.irs, p.rcv_nxt);
  const std::uint32_t behind = at(flow.pre.irs, std::max(p.rcv_adv, p.rcv_limit));
  const auto some = static_cast<std::uint32_t>(random_.between(2, 1u << 30));
  const auto few = static_cast<std::uint32_t>(random_.between(2, 3000));
  wire::TcpSegmentHeader h = header(from, tuple);
  h.ack = at(flow.pre.iss, p.snd_una);
  std::size_t payload = 0;
  ++spoofs_;
  switch (random_.below(5)) {
    case 0:  // resets before and behind the window
      h.flags = wire::kRst | (random_.chance(0.5) ? wire::kAck : std::uint8_t{0});
      h.seq = random_.chance(0.5) ? rcv_nxt - some : behind + few;
      break;
    case 1:  // a SYN anywhere
      h.flags = wire::kSyn | (random_.chance(0.5) ? wire::kAck : std::uint8_t{0});
      h.seq = rcv_nxt + static_cast<std::uint32_t>(random_.next());
      break;
    case 2:  // data behind the window
      h.seq = behind + few;
      payload = random_.between(1, 1400);
      break;
    case 3:  // data in the window that acknowledges what was never sent
      h.seq = rcv_nxt;
      h.ack = at(flow.pre.iss, p.snd_max) + some;
      payload = random_.between(1, 1400);
      break;
    default:  // the same, too old
      h.seq = rcv_nxt;
      h.ack = at(flow.pre.iss, p.snd_una) - p.max_snd_wnd - some;
      h.flags |= random_.chance(0.5) ? wire::kFin : std::uint8_t{0};
      payload = random_.between(1, 1400);
  }
  if (p.ts_on) {  // it has seen a timestamp
    h.options.has_timestamp = true;
    h.options.tsval = p.ts_recent;
  }
  send(from, h, payload, {});
}

// --- Connections of its own ---

void Attacker::attack() {
  const auto port = static_cast<std::uint16_t>(kFirstPort + random_.below(kPorts));
  const Tuple tuple = tuple_of(port, kServerPort);
  Own& own = own_[tuple];
  if (own.open) return attack_open(tuple, own);
  wire::TcpSegmentHeader h = header(0, tuple);
  h.flags = wire::kSyn;
  if (own.iss == 0) own.iss = static_cast<std::uint32_t>(random_.next()) | 1;
  h.seq = own.iss;
  const std::vector<std::uint8_t> options = odd_options();
  send(0, h, random_.chance(0.1) ? 100 : 0, random_.chance(0.5) ? options : decltype(options){});
}

void Attacker::take(const wire::TcpSegment& s) {
  Own& own = own_[tuple_of(1, s)];
  if ((s.flags & wire::kRst) != 0) {
    own = {};
    return;
  }
  if ((s.flags & wire::kSyn) != 0) own.snd_nxt = s.seq;
  const std::uint32_t end = s.seq + s.seq_length();
  if (static_cast<std::int32_t>(end - own.snd_nxt) > 0) own.snd_nxt = end;
  own.rcv_nxt = s.ack;
  own.open = true;
}

void Attacker::attack_open(Tuple tuple, Own& own) {
  static constexpr std::uint16_t kWindows[] = {0, 1, 500, 1448, 65535};
  static constexpr std::size_t kSizes[] = {0, 1, 1, 2, 100, 536, 1380};
  wire::TcpSegmentHeader h = header(0, tuple);
  if (!own.greeted) {
    own.greeted = true;
    ++accepted_;
    h.seq = own.rcv_nxt;
    h.ack = own.snd_nxt;
    return send(0, h, 0, {});
  }
  // In the window: at its edge, before it, with gaps of a byte and of many.
  const auto ahead = static_cast<std::uint32_t>(random_.below(4000));
  h.seq = own.rcv_nxt + (random_.chance(0.3) ? 0 : ahead) - (random_.chance(0.2) ? 600 : 0);
  h.ack = own.snd_nxt - (random_.chance(0.5) ? 0 : static_cast<std::uint32_t>(random_.below(9000)));
  if (random_.chance(0.05)) h.ack = static_cast<std::uint32_t>(random_.next());
  h.window = random_.pick(kWindows);
  if (random_.chance(0.1)) h.flags |= static_cast<std::uint8_t>(random_.next());
  if (random_.chance(0.05)) h.urgent = static_cast<std::uint16_t>(random_.next());
  if (random_.chance(0.9)) h.flags &= static_cast<std::uint8_t>(~(wire::kRst | wire::kFin));
  for (std::uint64_t i = random_.below(4); i != 0 && random_.chance(0.4); --i) {
    wire::SackBlock& block = h.options.sack[h.options.sack_count++];
    block.start = h.ack + static_cast<std::uint32_t>(random_.below(20'000)) - 2'000;
    block.end = block.start + static_cast<std::uint32_t>(random_.below(5'000)) - 500;
  }
  const std::size_t payload = random_.pick(kSizes);
  if (random_.chance(0.3)) {
    h.options = {};
    return send(0, h, payload, odd_options());
  }
  send(0, h, payload, {});
}

/// Up to 40 bytes: no-operations, known kinds with wrong lengths, unknown ones, cut off, rubbish.
std::vector<std::uint8_t> Attacker::odd_options() {
  std::vector<std::uint8_t> bytes(4 * random_.between(1, 10), 1);
  std::size_t at = random_.chance(0.3) ? bytes.size() : 0;
  while (at < bytes.size()) {
    static constexpr std::uint8_t kKinds[] = {0, 1, 2, 3, 4, 5, 5, 8, 19, 28, 34, 253, 255};
    bytes[at++] = random_.pick(kKinds);
    if (at == bytes.size()) break;
    const auto length = static_cast<std::uint8_t>(random_.below(12));
    bytes[at++] = length;
    for (std::uint8_t i = 2; i < length && at < bytes.size(); ++i) {
      bytes[at++] = static_cast<std::uint8_t>(random_.next());
    }
  }
  return bytes;
}

// The options are built as payload; then the header is made to reach over them.
void Attacker::send(int from, const wire::TcpSegmentHeader& h, std::size_t payload,
                    std::span<const std::uint8_t> options) {
  std::array<std::uint8_t, 1460> bytes;
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random_.next());
  std::copy(options.begin(), options.end(), bytes.begin());
  FramePool& pool = bed_.wire.port(from).pool();
  Frame frame = pool.acquire();
  if (!frame.valid()) return;
  std::uint8_t* at = pool.chunk(frame.chunk) + frame.offset;
  const std::size_t length =
      wire::build_segment(h, {bytes.data(), options.size() + payload},
                          {at, pool.chunk_bytes() - std::size_t{frame.offset}});
  frame.length = static_cast<std::uint16_t>(length);
  if (!options.empty()) {
    std::uint8_t* tcp = at + length - payload - options.size() - kTcpHeader;
    const std::uint16_t before = wire::load16(tcp + 12);
    const auto after = static_cast<std::uint16_t>(before + (options.size() / 4 << 12));
    wire::store16(tcp + 12, after);
    wire::store16(tcp + 16, adjust(wire::load16(tcp + 16), before, after));
  }
  sending_ = true;
  if (bed_.wire.port(from).tx({&frame, 1}) == 0) pool.release(frame);
  sending_ = false;
}

}  // namespace toe::sim
