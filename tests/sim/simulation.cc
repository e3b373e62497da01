#include "sim/simulation.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "wire/parse.h"

namespace toe::sim {
namespace {

constexpr std::uint32_t kChunks = 512;
constexpr std::uint64_t kMaxTurns = 500'000;
constexpr Nanos kTransferLimit = seconds(3600);
constexpr Nanos kQuietLimit = seconds(3600);

}  // namespace

Simulation::Simulation(const Plan& plan)
    : plan_(plan),
      random_(plan.seed ^ 0x5eed),
      wire_(kChunks),
      impairers_{{plan_.wire[0], plan.seed * 2}, {plan_.wire[1], plan.seed * 2 + 1}},
      ecn_check_(std::string_view(plan.congestion).starts_with("dctcp")) {
  const std::uint64_t seed = plan.seed;
  wire_.set_now(clock_.now);
  for (int side = 0; side < 2; ++side) {
    engines_[side] =
        std::make_unique<SimEngine>(plan_, side, wire_.port(side), clock_, verdict_.marks);
  }
  client_ = std::make_unique<SimHost>(plan_, *engines_[0], clock_, verdict_.marks, seed * 3 + 1);
  victim_ = std::make_unique<SimHost>(plan_, *engines_[0], clock_, verdict_.marks, seed * 3 + 2);
  server_ = std::make_unique<SimHost>(plan_, *engines_[1], clock_, verdict_.marks, seed * 3 + 3);
  doomed_ = std::make_unique<SimHost>(plan_, *engines_[1], clock_, verdict_.marks, seed * 3 + 4);
  begun_ = clock_.now;
  if (plan_.hostile) {
    const Attacker::Bed bed{clock_, wire_, {engines_[0].get(), engines_[1].get()}};
    attacker_ = std::make_unique<Attacker>(bed, seed * 5 + 1);
  }
  wire_.set_impairment(
      [this](int from, std::span<std::uint8_t> bytes, Time) { return impair(from, bytes); });
}

Verdict Simulation::run() {
  if (start()) {
    loop(&Simulation::all_done, kTransferLimit, "the connections did not end");
    for (SimHost* server : {server_.get(), doomed_.get()}) {
      server->close_listener();
      server->run();  // posts what it closed
    }
  }
  if (verdict_.failure.empty()) check_end();
  collect_marks();
  verdict_.ended = clock_.now;
  return verdict_;
}

/// Joins engines and processes by call-backs.
void Simulation::wire_up() {
  std::map<ClientId, SimHost*> processes[2];
  processes[0] = {{ClientId{1}, client_.get()}, {ClientId{2}, victim_.get()}};
  processes[1] = {{ClientId{1}, server_.get()}, {ClientId{2}, doomed_.get()}};
  for (int side = 0; side < 2; ++side) {
    const auto hosts = processes[side];
    engines_[side]->on_doorbell = [hosts](ClientId id) { hosts.at(id)->rung(); };
    engines_[side]->on_shared = [hosts](ClientId id, std::uint32_t segment, std::uint8_t* base) {
      hosts.at(id)->adopt(segment, base);
    };
  }
  for (SimHost* server : {server_.get(), doomed_.get()}) {
    server->on_accept = [this](Tuple tuple) { return accepted(tuple); };
  }
}

bool Simulation::start() {
  wire_up();
  if (!client_->attach(ClientId{1}) || !victim_->attach(ClientId{2}) ||
      !server_->attach(ClientId{1}) || !server_->listen(kServerPort) ||
      !doomed_->attach(ClientId{2}) || !doomed_->listen(kDoomedPort)) {
    fail("set-up failed");
    return false;
  }
  for (std::uint32_t n = 0; n < plan_.connections.size(); ++n) {
    const CloseOrder order = plan_.connections[n].order;
    if (client_dies(order)) death_[0] = begun_ + plan_.death_after[0];
    if (server_dies(order)) death_[1] = begun_ + plan_.death_after[1];
    if (order == CloseOrder::kOrphan) ++orphans_;
    SimHost& host = client_dies(order) ? *victim_ : *client_;
    if (!host.connect(plan_.connections[n], n, engines_[1]->address())) {
      fail("connect was refused");
      return false;
    }
  }
  return true;
}

std::unique_ptr<Endpoint> Simulation::accepted(Tuple tuple) {
  auto endpoint = std::make_unique<Endpoint>();
  if (attacker_ != nullptr && attacker_->owns(tuple)) {
    endpoint->hostile = true;
    endpoint->plan.order = CloseOrder::kReset;
    return endpoint;
  }
  const auto number = number_of_.find(tuple);
  if (number == number_of_.end()) return nullptr;
  endpoint->number = number->second;
  endpoint->given_up = given_up_.contains(number->second);
  endpoint->plan = plan_.connections[number->second];
  endpoint->out = test::Pattern(plan_.seed * 64 + number->second * 2 + 1);
  endpoint->in = test::Pattern(plan_.seed * 64 + number->second * 2);
  if (endpoint->plan.one_way) endpoint->written = endpoint->plan.bytes;
  if (endpoint->plan.order == CloseOrder::kOrphan) endpoint->received = endpoint->plan.bytes;
  return endpoint;
}

std::string Simulation::run_for(Nanos time) {
  if (number_of_.empty() && !start()) return verdict_.failure;
  const Time end = clock_.now + time;
  while (verdict_.failure.empty() && clock_.now < end) {
    if (!turn()) fail("nothing will ever happen");
    collect_failures();
  }
  return verdict_.failure;
}

std::vector<std::uint64_t> Simulation::received() const {
  std::vector<std::uint64_t> bytes(plan_.connections.size());
  server_->note_received(bytes);
  return bytes;
}

// --- The loop ------------------------------------------------------------------------------------

void Simulation::loop(bool (Simulation::*finished)() const, Nanos limit, const char* what) {
  const Time end = clock_.now + limit;
  while (verdict_.failure.empty() && !(this->*finished)()) {
    if (!turn() || clock_.now > end || verdict_.steps > kMaxTurns) {
      std::string text = what;
      for (const SimHost* host : hosts()) text += host->describe();
      fail(text);
    }
    collect_failures();
  }
}

/// Moves the clock to the next thing that happens, and lets everybody act whose time has come.
/// False: nothing will ever happen.
bool Simulation::turn() {
  ++verdict_.steps;
  Time next = std::min({engines_[0]->wake_at(), engines_[1]->wake_at(), wire_.next_arrival()});
  if (death_[0] > clock_.now) next = std::min(next, death_[0]);
  if (death_[1] > clock_.now) next = std::min(next, death_[1]);
  const std::array<SimHost*, 4> all = {client_.get(), victim_.get(), server_.get(), doomed_.get()};
  for (const SimHost* host : all) next = std::min(next, host->wake_at());
  if (attacker_ != nullptr) next = std::min(next, attacker_->wake_at());
  if (next == Time::never()) return false;
  clock_.now = std::max(clock_.now, next);
  wire_.set_now(clock_.now);
  kill_who_is_due();
  if (attacker_ != nullptr && attacker_->wake_at() <= clock_.now) attack();
  for (int side = 0; side < 2; ++side) {
    if (engines_[side]->wake_at() <= clock_.now || !wire_.port(side).prepare_sleep()) {
      engines_[side]->step();
    }
  }
  excuse_given_up();
  if (number_of_.size() < plan_.connections.size()) {
    client_->note_ports(number_of_);
    victim_->note_ports(number_of_);
  }
  for (SimHost* host : all) {
    if (host->wake_at() <= clock_.now) host->run();
  }
  return true;
}

std::vector<SimHost*> Simulation::hosts() const {
  return {client_.get(), victim_.get(), server_.get(), doomed_.get()};
}

/// Its victims are connections that nothing else ends before their time.
void Simulation::attack() {
  std::vector<Tuple> victims;
  for (const auto& [tuple, number] : number_of_) {
    if (is_orderly(plan_.connections[number].order)) victims.push_back(tuple);
  }
  attacker_->act(victims);
}

/// As on Linux: an orphan that gives up says nothing, and its peer is not told.
void Simulation::excuse_given_up() {
  for (int side = 0; side < 2; ++side) {
    for (const flow::FlowKey& key : engines_[side]->take_given_up()) {
      const Tuple tuple = side == 0 ? tuple_of(key.local_port, key.remote_port)
                                    : tuple_of(key.remote_port, key.local_port);
      const auto number = number_of_.find(tuple);
      if (number == number_of_.end()) continue;
      given_up_.insert(number->second);
      verdict_.given_up = given_up_.size();
      for (SimHost* host : hosts()) host->give_up_on(number->second);
    }
  }
}

void Simulation::kill_who_is_due() {
  if (death_[0] <= clock_.now) kill(0);
  if (death_[1] <= clock_.now && (orphans_ == 0 || doomed_->wrote_all(orphans_))) kill(1);
}

void Simulation::kill(std::size_t which) {
  death_[which] = Time::never();
  verdict_.marks.hit(which == 0 ? Mark::process_died : Mark::server_died);
  (which == 0 ? victim_ : doomed_)->die();
}

bool Simulation::all_done() const {
  if (death_[0] != Time::never() || death_[1] != Time::never()) return false;
  if (attacker_ != nullptr && attacker_->wake_at() != Time::never()) return false;
  if (!client_->done() || !victim_->done() || !server_->done() || !doomed_->done()) return false;
  return no_flows();
}

bool Simulation::no_flows() const {
  return engines_[0]->control().flows_in_use() == 0 && engines_[1]->control().flows_in_use() == 0;
}

bool Simulation::all_quiet() const {
  return engines_[0]->leftovers().empty() && engines_[1]->leftovers().empty();
}

bool Simulation::rings_are_back() const {
  return engines_[0]->ring_bytes() == 0 && engines_[1]->ring_bytes() == 0;
}

/// Everything that a connection took has come back; then the processes leave, and all the rest has.
void Simulation::check_end() {
  for (const auto& engine : engines_) {
    const std::string busy = engine->busy_lines();
    if (!busy.empty()) return fail("after the end:" + busy);
  }
  loop(&Simulation::rings_are_back, kQuietLimit, "rings did not come back:");
  for (SimHost* host : hosts()) {
    if (!host->dead()) host->die();
  }
  loop(&Simulation::all_quiet, kQuietLimit, "engines did not become quiet:");
  if (!verdict_.failure.empty()) {
    verdict_.failure += engines_[0]->leftovers() + engines_[1]->leftovers();
  }
}

void Simulation::fail(const std::string& what) {
  if (verdict_.failure.empty()) verdict_.failure = what + "\n  plan: " + plan_.text();
}

void Simulation::collect_failures() {
  for (const SimHost* host : hosts()) {
    if (!host->failure.empty()) fail(host->failure);
  }
  for (const auto& engine : engines_) {
    if (!engine->failure.empty()) fail(engine->failure);
  }
}

// --- The wire ------------------------------------------------------------------------------------

/// One line per frame: when, who, which connection, what; SIM_TRACE=1 replays a seed with it.
void Simulation::print(int from, const wire::TcpSegment& s) const {
  std::printf("%12.6f %c %5u %s%s%s%s%s%s%s%s seq %u+%u ack %u win %u",
              static_cast<double>(clock_.now.ns - seconds(1000).ns) / 1e9, from == 0 ? '>' : '<',
              from == 0 ? s.src_port : s.dst_port, (s.flags & wire::kSyn) != 0 ? "S" : "",
              (s.flags & wire::kFin) != 0 ? "F" : "", (s.flags & wire::kRst) != 0 ? "R" : "",
              (s.flags & wire::kPsh) != 0 ? "P" : "", (s.flags & wire::kAck) != 0 ? "A" : "",
              (s.flags & wire::kEce) != 0 ? "E" : "", (s.flags & wire::kCwr) != 0 ? "C" : "",
              s.ecn != wire::kNotEct ? " ect" : "", s.seq, s.payload_length, s.ack, s.window);
  for (std::uint8_t i = 0; i < s.options.sack_count; ++i) {
    std::printf(" %u-%u", s.options.sack[i].start, s.options.sack[i].end);
  }
  std::printf("\n");
}

port::Fate Simulation::impair(int from, std::span<std::uint8_t> bytes) {
  for (std::size_t i = 0; i < bytes.size(); i += i < 64 ? 1 : 61) {
    verdict_.digest = (verdict_.digest ^ bytes[i]) * 0x100000001b3u;
  }
  verdict_.digest ^= static_cast<std::uint64_t>(clock_.now.ns);
  if (attacker_ != nullptr && attacker_->sending()) return {};
  wire::TcpSegment segment;
  const bool good = wire::parse_frame(bytes, {}, segment) == wire::ParseVerdict::kOk;
  if (bytes.size() > port::MemWire::kChunkBytes) verdict_.marks.hit(Mark::jumbo_frame);
  if (good && attacker_ != nullptr && attacker_->owns(tuple_of(from, segment))) {
    if (from == 1) attacker_->take(segment);
    return {0, {}};
  }
  if (good) {
    watch(from, segment);
  } else {
    fail("an engine sent a malformed frame");
  }
  if (good && cut(from, segment)) return {0, {}};
  const netlab::Verdict verdict = impairers_[from].decide(bytes, clock_.now);
  netlab::carry_out(verdict, bytes);
  if (verdict.mark) segment.ecn = wire::kCe;
  if (good && verdict.copies != 0 && !verdict.flip.has_value()) {
    check_.passed(from, segment);
    ecn_check_.passed(from, segment);
  }
  if (trace_ && verdict.copies == 0) std::printf("             lost\n");
  mark_fate(verdict, plan_.wire[from].delay);
  static_assert(netlab::Verdict::kMaxCopies <= port::Fate::kMaxCopies);
  port::Fate fate;
  fate.copies = verdict.copies;
  for (unsigned i = 0; i < verdict.copies; ++i) {
    fate.delay[i] = verdict.departure[i] - clock_.now;
  }
  return fate;
}

/// Whether the wire of the segment's connection is cut by now.
bool Simulation::cut(int from, const wire::TcpSegment& s) {
  const auto number = number_of_.find(tuple_of(from, s));
  if (number == number_of_.end()) return false;
  const ConnectionPlan& plan = plan_.connections[number->second];
  if (plan.order != CloseOrder::kVanish || clock_.now < begun_ + plan.cut_after) return false;
  verdict_.marks.hit(Mark::wire_cut);
  if (trace_) std::printf("             cut\n");
  return true;
}

void Simulation::mark_fate(const netlab::Verdict& verdict, Nanos delay) {
  Marks& marks = verdict_.marks;
  marks.hit(Mark::frame_delayed, delay >= millis(1));
  marks.hit(Mark::frame_lost, verdict.drop == netlab::Drop::kLoss);
  marks.hit(Mark::burst_lost, verdict.drop == netlab::Drop::kBurst);
  marks.hit(Mark::queue_overflow, verdict.drop == netlab::Drop::kQueueFull);
  marks.hit(Mark::frame_duplicated, verdict.copies > 1);
  marks.hit(Mark::frame_reordered, verdict.reordered);
  marks.hit(Mark::frame_corrupted, verdict.flip.has_value());
}

/// Reads what leaves: what must hold, and marks that only the wire can tell.
void Simulation::watch(int from, const wire::TcpSegment& s) {
  if (trace_) print(from, s);
  for (const std::string& wrong :
       {check_.sent(from, s), ecn_check_.sent(from, s), engines_[from]->overrun(s)}) {
    if (!wrong.empty()) fail("an engine " + wrong + " (port " + std::to_string(s.src_port) + ")");
  }
  const Tuple tuple = tuple_of(from, s);
  const bool syn = (s.flags & (wire::kSyn | wire::kAck)) == wire::kSyn;
  if (syn && ++syns_[tuple] == 2) verdict_.marks.hit(Mark::syn_repeated);
  if ((s.flags & wire::kRst) != 0) verdict_.marks.hit(Mark::reset);
  if ((s.flags & wire::kFin) == 0) return;
  Fins& fins = fins_[tuple];
  const int other = 1 - from;
  const bool acknowledges =
      fins.sent[other] && static_cast<std::int32_t>(s.ack - fins.end[other]) >= 0;
  if (!fins.sent[from] && fins.sent[other] && !acknowledges) {
    verdict_.marks.hit(Mark::fin_crossed);
  }
  fins.sent[from] = true;
  fins.end[from] = s.seq + s.seq_length();
}

void Simulation::collect_marks() {
  Marks& m = verdict_.marks;
  for (const auto& engine : engines_) {
    const datapath::Counters& d = engine->datapath();
    const control::Counters& c = engine->control().counters();
    m.hit(Mark::rto, c.timeouts.load());
    m.hit(Mark::fast_retransmit, d.fast_retransmits.value());
    m.hit(Mark::time_wait, c.time_wait_created.load());
    m.hit(Mark::zero_window, d.zero_windows.value());
    m.hit(Mark::window_probe, d.window_probes.value());
    m.hit(Mark::delayed_ack, d.delayed_acks.value());
    m.hit(Mark::out_of_order, d.out_of_order.value());
    m.hit(Mark::sack_recovery, d.sack_recoveries.value());
    m.hit(Mark::tail_probe, d.tail_probes.value());
    m.hit(Mark::probe_repair, d.probe_repairs.value());
    m.hit(Mark::reordering, d.reorderings.value());
    m.hit(Mark::reorder_wait, d.reorder_waits.value());
    m.hit(Mark::undone_by_time, d.undone_by_time.value());
    m.hit(Mark::undone_by_dsack, d.undone_by_dsack.value());
    m.hit(Mark::ring_switch_rx, d.ring_switches_rx.value());
    m.hit(Mark::ring_switch_tx, d.ring_switches_tx.value());
    m.hit(Mark::ecn_negotiated, c.ecn_negotiated.load());
    m.hit(Mark::ecn_fallback, c.ecn_fallbacks.load());
    m.hit(Mark::ce_received, d.ce_in.value());
    m.hit(Mark::ece_received, d.ece_in.value());
    m.hit(Mark::ecn_reduction, d.mark_reductions.value());
    m.hit(Mark::cwr_received, d.cwr_in.value());
    m.hit(Mark::dctcp_echo, d.split_acks.value());
    m.hit(Mark::ring_renewed, c.rings_renewed.load());
    m.hit(Mark::keepalive_probe, d.keepalive_probes.value());
    m.hit(Mark::challenge_ack, d.challenge_acks.value());
    const auto& parse = d.parse;
    m.hit(Mark::corruption_found,
          parse[static_cast<std::size_t>(wire::ParseVerdict::kBadTcpChecksum)].value() +
              parse[static_cast<std::size_t>(wire::ParseVerdict::kBadIpChecksum)].value());
  }
  if (attacker_ != nullptr) {
    m.hit(Mark::spoofed, attacker_->spoofs());
    m.hit(Mark::attacked, attacker_->accepted());
  }
  if (plan_.order_seed != 0) m.hit(Mark::shuffled_order);
  if (plan_.ipv6) m.hit(Mark::ipv6);
  if (!plan_.sack) m.hit(Mark::without_sack);
  static constexpr Mark kOrders[] = {
      Mark::active_close, Mark::passive_close,     Mark::simultaneous_close,
      Mark::half_close,   Mark::shut_both,         Mark::orphan_delivered,
      Mark::reset,        Mark::reset_with_unread, Mark::linger_zero};
  for (const ConnectionPlan& c : plan_.connections) {
    if (c.order <= CloseOrder::kLingerZero) m.hit(kOrders[static_cast<std::size_t>(c.order)]);
  }
}

}  // namespace toe::sim
