#include "sim/plan.h"

#include <algorithm>
#include <iterator>
#include <sstream>

#include "port/mem/mem_wire.h"

namespace toe::sim {
namespace {

constexpr std::uint64_t kEndless = 1ull << 40;

/// A bottleneck that a few connections fill, or none.
void draw_queue(test::Random& random, netlab::Impairments& wire) {
  static constexpr std::uint64_t kRates[] = {5'000'000, 50'000'000, 500'000'000};
  static constexpr std::uint64_t kQueues[] = {10, 30, 200};
  if (!random.chance(0.3)) return;
  wire.rate = random.pick(kRates);
  wire.queue = {random.pick(kQueues), 0};
  if (random.chance(0.5)) wire.mark_above = {wire.queue.frames / 2, 0};
}

netlab::Impairments draw_wire(test::Random& random) {
  static constexpr double kRates[] = {0, 0, 0.001, 0.01, 0.03, 0.06};
  static constexpr Nanos kDelays[] = {micros(1), micros(20), micros(500), millis(5), millis(40)};
  static constexpr double kMarks[] = {0, 0.01, 0.2};
  netlab::Impairments w;
  w.loss = random.pick(kRates);
  if (random.chance(0.15)) w.burst = {0.003, 0.5, 1};
  if (random.chance(0.1)) w.every = random.between(7, 100);
  w.duplicate = random.pick(kRates);
  w.reorder = random.pick(kRates);
  w.corrupt = random.chance(0.3) ? random.pick(kRates) : 0;
  w.delay = random.pick(kDelays);
  w.reorder_by = w.delay * 3 + micros(100);
  if (random.chance(0.3)) w.jitter = w.delay;
  w.mark = random.pick(kMarks);
  draw_queue(random, w);
  return w;
}

/// When something ends for good: often within the handshake.
Nanos draw_end(test::Random& random) {
  static constexpr std::uint64_t kBefore[] = {300'000, 20'000'000, 400'000'000};
  return Nanos{static_cast<std::int64_t>(random.below(random.pick(kBefore)))};
}

/// One process of servers dies, by its time or when everything is written.
void agree_on_death(std::vector<ConnectionPlan>& connections) {
  const bool by_time = std::any_of(connections.begin(), connections.end(), [](const auto& c) {
    return server_dies(c.order) && c.order != CloseOrder::kOrphan;
  });
  if (!by_time) return;
  for (ConnectionPlan& c : connections) {
    if (c.order == CloseOrder::kOrphan) c.order = CloseOrder::kServerDeath;
  }
}

ConnectionPlan draw_connection(test::Random& random, std::size_t index) {
  static constexpr std::uint64_t kMore[] = {0, 1, 777, 50'000, 200'000};
  ConnectionPlan c;
  // The first four move everything; those behind may end anyhow.
  const auto orders = index < 4 ? static_cast<std::uint64_t>(CloseOrder::kOrphan) + 1
                                : static_cast<std::uint64_t>(CloseOrder::kCount);
  c.order = static_cast<CloseOrder>(random.below(orders));
  c.bytes = 256 * 1024 + random.pick(kMore);
  c.cut = random.below(c.bytes);
  c.guard = static_cast<Guard>(random.below(static_cast<std::uint64_t>(Guard::kCount)));
  c.cut_after = draw_end(random);
  // Only what is idle can be found by keep-alive; only what is outstanding by a timeout.
  if (c.order == CloseOrder::kVanish && c.guard != Guard::kKeepAlive) {
    c.bytes = kEndless;
    c.cut_after = c.cut_after / 16;  // a perfect wire moves much in little time
  }
  c.one_way = c.order == CloseOrder::kVanish && c.guard == Guard::kClosed;
  c.nodelay = random.chance(0.5);
  return c;
}

}  // namespace

Plan Plan::draw(std::uint64_t seed) {
  static constexpr std::uint32_t kRings[] = {16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024};
  static constexpr Nanos kThink[] = {Nanos{0}, micros(5), micros(100)};
  static constexpr Nanos kStalls[] = {micros(200), millis(5), millis(300), seconds(3), seconds(30)};
  static constexpr Nanos kRests[] = {micros(100), millis(2), seconds(1)};
  static constexpr const char* kAlgorithms[] = {"reno", "dctcp", "dctcp-rate", "timely",
                                                "constant"};
  static constexpr control::Ecn kEcn[] = {control::Ecn::kRequest, control::Ecn::kRequest,
                                          control::Ecn::kAccept, control::Ecn::kOff};
  static constexpr control::Pacing kPaces[] = {control::Pacing::kOff, control::Pacing::kOff,
                                               control::Pacing::kSlowStart, control::Pacing::kOn};
  test::Random random(seed);
  Plan p;
  p.seed = seed;
  p.wire[0] = draw_wire(random);
  p.wire[1] = random.chance(0.5) ? p.wire[0] : draw_wire(random);
  const std::uint64_t count = random.between(5, 7);
  for (std::uint64_t i = 0; i < count; ++i) {
    p.connections.push_back(draw_connection(random, i));
  }
  agree_on_death(p.connections);
  for (Nanos& death : p.death_after) death = draw_end(random);
  p.ipv6 = random.chance(0.25);
  p.hostile = random.chance(0.15);
  p.late_listener = random.chance(0.25);
  p.immediate_ack = random.chance(0.1);
  p.sack = random.chance(0.8);
  p.order_seed = random.chance(0.5) ? static_cast<std::uint32_t>(random.next() | 1) : 0;
  p.max_ring = random.pick(kRings);
  p.min_rto = random.chance(0.5) ? millis(200) : millis(5);
  p.congestion = random.chance(0.6) ? "cubic" : random.pick(kAlgorithms);
  p.pacing = random.pick(kPaces);
  p.think = random.pick(kThink);
  p.stall = random.chance(0.6) ? 0.003 : 0;
  p.longest_stall = random.pick(kStalls);
  p.ring_rest = random.pick(kRests);
  p.ecn = random.pick(kEcn);
  p.mtu = random.chance(0.2) ? 9000 : 1500;
  p.parts[0] = static_cast<std::uint32_t>(random.between(128, port::MemWire::kPartBytes));
  p.parts[1] = static_cast<std::uint32_t>(random.between(1800, port::MemWire::kPartBytes));
  return p;
}

std::string Plan::text() const {
  static constexpr const char* kNames[] = {
      "active", "passive",     "simultaneous", "half-close",   "shut-both", "orphan", "reset",
      "unread", "linger-zero", "death",        "server-death", "both-die",  "vanish"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(CloseOrder::kCount));
  std::ostringstream out;
  out << "wire there " << wire[0].text() << ", back " << wire[1].text() << ", "
      << (hostile ? "attacked, " : "") << (ipv6 ? "IPv6" : "IPv4") << ", MTU " << mtu
      << (sack ? ", SACK" : "") << (ecn == control::Ecn::kRequest ? ", ECN" : "") << ", order seed "
      << order_seed << ", rings to " << max_ring << ", " << congestion
      << (pacing == control::Pacing::kOff ? "" : " paced") << ", connections:";
  for (const ConnectionPlan& c : connections) {
    out << ' ' << kNames[static_cast<std::size_t>(c.order)] << '/' << c.bytes;
  }
  return out.str();
}

}  // namespace toe::sim
