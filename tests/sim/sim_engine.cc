#include "sim/sim_engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "datapath/protocol_check.h"
#include "shm/sleep.h"

namespace toe::sim {
namespace {

constexpr std::uint32_t kFlows = 64;
constexpr int kMaxWait = 10'000;  ///< steps that an answer may take
/// An orphan sends again for so long at least: what Linux's tcp_orphan_retries of 8 take.
constexpr Nanos kOrphanPatience = seconds(102);

IpAddr address_of(bool ipv6, int side) {
  const auto last = static_cast<std::uint8_t>(side + 1);
  if (!ipv6) return IpAddr::v4(10, 0, 0, last);
  std::uint8_t raw[16] = {0xfd, 1};
  raw[15] = last;
  return IpAddr::v6(raw);
}

MacAddr mac_of(int side) { return {{0x02, 0, 0, 0, 0, static_cast<std::uint8_t>(side + 1)}}; }

engine::CoreOptions options_of(const Plan& plan, test::Random& random) {
  engine::CoreOptions o;
  o.datapath.immediate_ack = plan.immediate_ack;
  o.datapath.order_seed = plan.order_seed;
  o.control.max_flows = kFlows;
  o.control.max_time_wait = 256;
  o.control.max_rx_ring_bytes = o.control.max_tx_ring_bytes = plan.max_ring;
  o.control.sack = plan.sack;
  o.control.ecn = plan.ecn;
  o.control.min_rto = plan.min_rto;
  o.control.ring_rest = plan.ring_rest;
  std::strncpy(o.control.congestion, plan.congestion, sizeof o.control.congestion - 1);
  o.control.cc = {plan.pacing, 10'000'000, 128 * 1024};
  o.secrets.isn = {random.next(), random.next()};
  o.secrets.random = random.next();
  o.table_secret = {random.next(), random.next()};
  return o;
}

}  // namespace

SimEngine::SimEngine(const Plan& plan, int side, port::MemPort& port, Clock& clock, Marks& marks)
    : plan_(plan),
      clock_(clock),
      marks_(marks),
      random_(plan.seed * 2 + static_cast<std::uint64_t>(side) + 1),
      port_(port),
      address_(address_of(plan.ipv6, side)),
      mac_(mac_of(side)),
      peer_mac_(mac_of(1 - side)),
      page_(std::make_unique<shm::EnginePage>()),
      flows_(kFlows),
      seen_(kFlows),
      wake_at_(clock.now) {
  page_->magic = shm::kPageMagic;
  if (plan.parts[0] != 0) port_.cut_at(plan.parts[0], plan.parts[1]);
  core_ = std::make_unique<engine::Core>(options_of(plan, random_),
                                         engine::CoreLinks{port, port.pool(), flows_, *this});
}

SimEngine::~SimEngine() = default;

void SimEngine::step() {
  shm::wake_up(page_->sleep_epoch);
  deliver_requests();
  const bool more = core_->step(clock_.now);
  check_invariants();
  const std::vector<std::uint32_t> bells(core_->doorbells().begin(), core_->doorbells().end());
  core_->clear_doorbells();
  for (auto& [client, packet] : staged_) inbox_[client].push_back(packet);
  staged_.clear();
  for (const std::uint32_t bell : bells) on_doorbell(bells_.at(bell - 1));

  shm::fall_asleep(page_->sleep_epoch);
  if (more || core_->posted() || !port_.prepare_sleep()) {
    shm::wake_up(page_->sleep_epoch);
    wake_at_ = clock_.now + Nanos{500};  // a step costs time, or nothing else would ever run
    return;
  }
  wake_at_ = std::max(core_->next_deadline(), clock_.now + Nanos{500});
  for (const Later& later : requests_) wake(later.at);
}

/// Records in use are few and keep their places: the others are looked at now and then.
void SimEngine::check_invariants() {
  if (steps_++ % 64 == 0) {
    for (std::size_t i = used_flows_; i < kFlows; ++i) {
      if (flows_[i].pre.key.remote_port != 0) used_flows_ = i + 1;
    }
  }
  for (std::size_t i = 0; i < used_flows_ && failure.empty(); ++i) check_flow(i);
}

void SimEngine::check_flow(std::size_t i) {
  const flow::ProtocolSlice& s = flows_[i].protocol;
  Seen& seen = seen_[i];
  // Armed: the data path has had it in hand.
  if (s.closed || flows_[i].pre.key.remote_port == 0 || s.last_heard.ns == 0) {
    if (s.closed && seen.iss == flows_[i].pre.iss && seen.slice != nullptr) check_end(i, seen);
    seen.iss = 0;
    return;
  }
  const char* broken = datapath::broken_invariant(s);
  if (broken == nullptr && seen.iss == flows_[i].pre.iss && seen.slice != nullptr) {
    broken = datapath::broken_progress(*seen.slice, s);
  }
  if (broken != nullptr) failure = std::string("broken invariant: ") + broken;
  if (seen.slice == nullptr) seen.slice = std::make_unique<flow::ProtocolSlice>();
  seen.iss = flows_[i].pre.iss;
  *seen.slice = s;
}

/// A flow has ended that was `seen` before. One that nobody holds gives up when its timer fires
/// once too often, and only then (RFC 9293 section 3.8.3; the time is Linux's).
void SimEngine::check_end(std::size_t i, const Seen& seen) {
  const flow::ProtocolSlice& s = flows_[i].protocol;
  const bool fired = seen.slice->rto_at <= clock_.now && s.last_heard == seen.slice->last_heard;
  if (!s.orphan || !fired || s.backoff == 0 || s.snd_una == s.snd_max) return;
  if (clock_.now - s.first_rto >= kOrphanPatience) given_up_.push_back(flows_[i].pre.key);
}

void SimEngine::ask(const control::Request& request, Nanos after) {
  requests_.push_back({clock_.now + after, request});
  wake(clock_.now + after);
}

void SimEngine::deliver_requests() {
  const std::vector<Later> all = std::exchange(requests_, {});
  for (const Later& later : all) {
    if (later.at <= clock_.now) {
      core_->request(later.request, clock_.now);
    } else {
      requests_.push_back(later);
    }
  }
}

void SimEngine::attach(ClientId client) {
  const std::uint32_t id = next_segment_++;
  segments_[id] = std::make_unique<test::PlainSegment>(id);
  control::Request r;
  r.kind = control::Request::Kind::kJoin;
  r.client = client;
  r.segment = SegmentId{id};
  r.uid = 1000;
  r.pid = 100;
  r.base = segments_[id]->base();
  ask(r, Nanos{0});
  on_shared(client, id, r.base);
}

void SimEngine::leave(ClientId client) {
  control::Request r;
  r.kind = control::Request::Kind::kLeave;
  r.client = client;
  ask(r, Nanos{0});
}

void SimEngine::on_message(ClientId client, const libtoe::Packet& packet) {
  using Kind = control::Request::Kind;
  control::Request r;
  r.client = client;
  r.tag = packet.header().tag;
  r.cookie = packet.fd_count != 0 ? static_cast<std::uint64_t>(packet.fds[0]) : 0;
  r.v4_socket = !plan_.ipv6;
  r.local = plan_.ipv6 ? IpAddr{} : IpAddr::v4(0, 0, 0, 0);
  if (const auto* hello = packet.as<shm::Hello>(shm::MessageType::kHello); hello != nullptr) {
    shm::Welcome welcome{};
    welcome.header = {shm::MessageType::kWelcome, sizeof welcome, r.tag};
    welcome.abi_version = shm::kAbiVersion;
    welcome.features = shm::kFeatures;
    reply(client, {reinterpret_cast<const std::uint8_t*>(&welcome), sizeof welcome});
    return wake(clock_.now);
  }
  if (const auto* listen = packet.as<shm::Listen>(shm::MessageType::kListen); listen != nullptr) {
    r.kind = Kind::kListen;
    r.local_port = r.cookie == kDoomedPort ? kDoomedPort : kServerPort;
    r.backlog = listen->backlog;
    r.options = listen->options;
  } else if (const auto* c = packet.as<shm::Connect>(shm::MessageType::kConnect); c != nullptr) {
    r.kind = Kind::kConnect;
    r.remote = IpAddr::v6(c->remote_addr);
    r.remote_port = c->remote_port;
    r.options = c->options;
  } else if (const auto* m = packet.as<shm::ContextMessage>(shm::MessageType::kContext);
             m != nullptr) {
    r.kind = Kind::kContext;
    r.segment = SegmentId{m->segment_id};
    bells_.push_back(client);
    r.doorbell = static_cast<std::uint32_t>(bells_.size());
  } else {
    failure = "a message that the simulation does not know";
    return;
  }
  ask(r, Nanos{0});
}

bool SimEngine::next_message(ClientId client, libtoe::Packet& packet) {
  for (int i = 0; i < kMaxWait; ++i) {
    std::deque<libtoe::Packet>& box = inbox_[client];
    if (!box.empty()) {
      packet = box.front();
      box.pop_front();
      return true;
    }
    // The program waits, at first as if the answer came at once.
    clock_.now = clock_.now + (i < kMaxWait / 2 ? micros(1) : millis(1));
    step();
  }
  failure = "a message was never answered";
  return false;
}

void SimEngine::reply(ClientId client, std::span<const std::uint8_t> message) {
  libtoe::Packet packet;
  std::memcpy(packet.bytes.data(), message.data(), message.size());
  packet.length = static_cast<std::uint32_t>(message.size());
  if (packet.header().type == shm::MessageType::kContextReady) packet.add_fd(-1);
  staged_.emplace_back(client, packet);
}

void SimEngine::share_segment(ClientId client, SegmentId segment) {
  on_shared(client, index_of(segment), segments_.at(index_of(segment))->base());
}

void SimEngine::want_segment(ClientId client) {
  const std::uint32_t id = next_segment_++;
  segments_[id] = std::make_unique<test::PlainSegment>(id);
  control::Request r;
  r.kind = control::Request::Kind::kSegment;
  r.client = client;
  r.segment = SegmentId{id};
  r.base = segments_[id]->base();
  ask(r, Nanos{0});
  on_shared(client, id, r.base);
}

void SimEngine::return_pages(SegmentId segment, shm::RingRef ring) {
  std::uint8_t* pages = segments_.at(index_of(segment))->base() + ring.offset();
  std::fill(pages, pages + ring.bytes(), std::uint8_t{0xdd});
  control::Request r;
  r.kind = control::Request::Kind::kPagesReturned;
  r.segment = segment;
  r.ring = ring;
  ask(r, random_.chance(0.5) ? Nanos{0} : micros(500));
}

void SimEngine::drop_client(ClientId, const char* reason) {
  if (failure.empty()) failure = std::string("the engine disconnects a program: ") + reason;
}

void SimEngine::want_route(const control::RouteKey& key) {
  control::Request r;
  r.kind = control::Request::Kind::kRoute;
  set_route_key(key, r);
  r.route.kind = control::Route::Kind::kDirect;
  r.route.mtu = plan_.mtu;
  r.route.source = address_;
  r.route.source_mac = mac_;
  r.route.next_hop_mac = peer_mac_;
  ask(r, random_.chance(0.5) ? Nanos{0} : micros(50));
}

void SimEngine::mark_listener(std::uint64_t cookie) {
  control::Request r;
  r.kind = control::Request::Kind::kMarked;
  r.cookie = cookie;
  if (plan_.late_listener) marks_.hit(Mark::listener_late);
  ask(r, plan_.late_listener ? millis(static_cast<std::int64_t>(random_.below(1500))) : Nanos{0});
}

void SimEngine::want_port(const IpAddr& local) {
  control::Request r;
  r.kind = control::Request::Kind::kHeldPort;
  r.local = local;
  r.local_port = next_port_++;
  ask(r, random_.chance(0.5) ? Nanos{0} : micros(200));
}

std::string SimEngine::leftovers() const {
  const control::Control& control = core_->control();
  std::string text;
  if (!control.empty()) text += " control is not empty;";
  if (control.flows_in_use() != 0) text += " flows;";
  const datapath::Held held = core_->held();
  if (!(held == datapath::Held{})) {
    text += " tickets " + std::to_string(held.tickets) + ", records of loss recovery " +
            std::to_string(held.records) + ", waiting " + std::to_string(held.waiting) + ", keys " +
            std::to_string(held.keys) + ", frames " + std::to_string(held.frames) + ", messages " +
            std::to_string(held.messages) + ';';
  }
  if (port_.pool().free_count() != port_.pool().chunks()) text += " frames;";
  if (!segments_.empty()) text += " segments;";
  const std::int64_t vanished = core_->unexplained_frames();
  if (vanished != 0) text += " frames that vanished uncounted: " + std::to_string(vanished) + ';';
  return text;
}

std::string SimEngine::overrun(const wire::TcpSegment& s) const {
  if (s.payload_length == 0) return "";
  const flow::FlowKey key{s.src, s.dst, s.src_port, s.dst_port};
  for (const flow::Flow& flow : flows_) {
    const flow::ProtocolSlice& p = flow.protocol;
    if (!(flow.pre.key == key) || p.closed) continue;
    const std::uint32_t end = flow.pre.iss + 1 + static_cast<std::uint32_t>(p.snd_max);
    if (s.seq + s.payload_length != end) return "";  // sent again, or not the last of this burst
    const std::uint64_t flight = p.snd_max - p.snd_una - p.discount;
    if (p.loss.probe.end == p.snd_max) return "";  // a tail probe asks for one answer more
    // Two segments by limited transmit (RFC 3042).
    return flight > std::uint64_t{p.cwnd} + 2u * p.mss ? "sends beyond its congestion window" : "";
  }
  return "";
}

const flow::Flow* SimEngine::find(const flow::FlowKey& key) const {
  for (const flow::Flow& flow : flows_) {
    const flow::ProtocolSlice& p = flow.protocol;
    const bool ends = p.closed || p.fin_queued || p.rcv_fin != UINT64_MAX;
    if (flow.pre.key == key && p.last_heard.ns != 0 && !ends) return &flow;
  }
  return nullptr;
}

std::string SimEngine::busy_lines() const {
  std::string text;
  for (const auto& [id, segment] : segments_) {
    for (std::uint32_t i = 1; i < 4 * kFlows; ++i) {
      const shm::Line& line = segment->view().line(i);
      const auto state = static_cast<shm::LineState>(line.state.load());
      if (state == shm::LineState::kFree || state == shm::LineState::kListening) continue;
      text += " line " + std::to_string(i) + " is in state " +
              std::to_string(static_cast<int>(state)) + ";";
    }
  }
  return text;
}

}  // namespace toe::sim
