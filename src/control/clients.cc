// Processes and their segments: attach, contexts, death.
#include <algorithm>

#include "control/impl.h"

namespace toe::control {
namespace {

constexpr std::uint64_t kScarceBytes = 64ull << 20;  // of arena: time to ask for another segment
constexpr std::uint32_t kScarceLines = 1024;

}  // namespace

Segment* Control::Impl::segment_of(std::uint32_t id) const {
  return id < segments.size() ? segments[id].get() : nullptr;
}

// nullptr for clients that are unknown or going.
Client* Control::Impl::live_client(ClientId id) {
  const auto c = clients.find(index_of(id));
  return c == clients.end() || c->second.leaving ? nullptr : &c->second;
}

bool Control::Impl::may_use(const Client& c, std::uint32_t segment) const {
  const auto in = [&](const std::vector<std::uint32_t>& v) {
    return std::find(v.begin(), v.end(), segment) != v.end();
  };
  return in(c.segments) || in(c.shared);
}

// Makes sure that the client has the segment mapped when the next reply names it.
// False when the client has too many already.
bool Control::Impl::show_segment(ClientId id, std::uint32_t segment) {
  Client* client = live_client(id);
  if (client == nullptr) return false;
  if (may_use(*client, segment)) return true;
  if (client->shared.size() == kMaxSegmentsPerClient) return false;
  client->shared.push_back(segment);
  ++segments[segment]->shown;
  world.share_segment(id, SegmentId{segment});
  return true;
}

void Control::Impl::refuse(ClientId client, std::uint64_t tag, shm::KernelReason reason,
                           int error) {
  shm::Refused m{};
  m.reason = reason;
  m.error = error;
  reply(client, tag, shm::MessageType::kRefused, m);
}

void Control::Impl::on_join(const Request& r) {
  if (clients.size() >= kMaxClients || clients.count(index_of(r.client)) != 0) {
    return world.drop_client(r.client, "too many processes are attached");
  }
  Client& c = clients[index_of(r.client)];
  c.uid = r.uid;
  c.pid = r.pid;
  on_new_segment(r);
}

void Control::Impl::on_new_segment(const Request& r) {
  const std::uint32_t id = index_of(r.segment);
  TOE_CHECK(id < segments.size() && segments[id] == nullptr && r.base != nullptr);
  Client* c = live_client(r.client);
  if (c == nullptr || c->segments.size() >= kMaxSegmentsPerClient) {
    return world.free_segment(r.segment);
  }
  segments[id] = std::make_unique<Segment>(r.segment, r.client, c->uid, r.base);
  c->segments.push_back(id);
  c->wants_segment = false;
  flow::Command command = make_command(flow::Command::Kind::kAddSegment);
  command.segment = r.segment;
  command.base = r.base;
  commands.push(command);
}

// A segment of the client with room for a connection; asks for one more in time.
Segment* Control::Impl::segment_with_room(ClientId id) {
  Client* c = live_client(id);
  if (c == nullptr) return nullptr;
  Segment* best = nullptr;
  bool plenty = false;
  for (const std::uint32_t n : c->segments) {
    Segment& s = *segments[n];
    const bool scarce =
        s.lines_used() + kScarceLines > shm::kLines || s.arena().free_bytes() < kScarceBytes;
    const bool full =
        s.lines_used() + 2 > shm::kLines || s.arena().free_bytes() < 4 * options.initial_ring_bytes;
    if (!full && best == nullptr) best = &s;
    plenty |= !scarce;
  }
  if (!plenty && !c->wants_segment && c->segments.size() < kMaxSegmentsPerClient) {
    c->wants_segment = true;
    world.want_segment(id);
  }
  return best;
}

void Control::Impl::on_context(const Request& r) {
  const Client* c = live_client(r.client);
  if (c == nullptr) return;
  Segment* segment = segment_of(index_of(r.segment));
  if (segment == nullptr || segment->removing || !may_use(*c, index_of(r.segment))) {
    return refuse(r.client, r.tag, shm::KernelReason::kInternal, EINVAL);
  }
  const std::uint32_t slot = busy() ? 0 : segment->open_context({r.client, r.doorbell, r.tag});
  if (slot == 0) return refuse(r.client, r.tag, shm::KernelReason::kLimit, 0);
  flow::Command command = make_command(flow::Command::Kind::kOpenContext);
  command.segment = r.segment;
  command.slot = slot;
  command.doorbell = r.doorbell;
  command.client = r.client;
  commands.push(command);
}

// Only now is the program told: a hint posted or an interest shown before would go unseen. It is
// told also when it has gone: its doorbell is closed by whoever passes the answer on.
void Control::Impl::on_context_opened(const flow::Event& e) {
  const Segment* segment = segment_of(index_of(e.segment));
  TOE_CHECK(segment != nullptr);
  const ContextUse& use = segment->context_use(e.slot);
  shm::ContextMessage m{};
  m.segment_id = index_of(e.segment);
  m.doorbell = use.doorbell;
  m.slot = e.slot;
  reply(use.client, use.tag, shm::MessageType::kContextReady, m);
}

void Control::Impl::on_context_closed(const flow::Event& e) {
  const Segment* segment = segment_of(index_of(e.segment));
  TOE_CHECK(segment != nullptr);
  Client& c = clients.at(index_of(segment->context_owner(e.slot)));
  TOE_CHECK(c.closing > 0);
  --c.closing;
}

// The process is gone. What it held is given up by a job, which sees all of it because nothing new
// is given to a leaving client.
void Control::Impl::on_leave(ClientId id) {
  Client* c = live_client(id);
  if (c == nullptr) return;
  c->leaving = true;
  c->turn = leaving.turn;
  for (const std::uint32_t i : c->listeners) {
    const Listener& l = listeners[i];
    if (l.used && !l.closing && holds_listener(l, id)) release_listener(i, id, true);
  }
  add_to_batch(leaving, Job::Kind::kLeave, index_of(id));
}

// First of all nothing that lies in its queues is taken any more.
void Control::Impl::close_contexts_of(ClientId id) {
  Client& c = clients.at(index_of(id));
  for (const auto* list : {&c.segments, &c.shared}) {
    for (const std::uint32_t n : *list) {
      if (segments[n] == nullptr) continue;
      for (std::uint32_t slot = 1; slot < shm::kContexts; ++slot) {
        if (segments[n]->context_owner(slot) != id) continue;
        flow::Command command = make_command(flow::Command::Kind::kCloseContext);
        command.segment = SegmentId{n};
        command.slot = slot;
        commands.push(command);
        ++c.closing;
      }
    }
  }
}

// All its connections have been visited: contexts and segments follow. False: not before the data
// path has closed the contexts and said its last of them, since they may be used again then.
bool Control::Impl::finish_leave(ClientId id) {
  const auto at = clients.find(index_of(id));
  TOE_CHECK(at != clients.end());
  if (at->second.closing > 0) return false;
  const Client gone = at->second;
  clients.erase(at);
  for (const std::uint32_t n : gone.shared) --segments[n]->shown;
  for (const auto* list : {&gone.segments, &gone.shared}) {
    for (const std::uint32_t n : *list) {
      if (segments[n] == nullptr) continue;
      Job wipe;
      wipe.kind = Job::Kind::kWipe;
      wipe.segment = n;
      wipe.mask = segments[n]->contexts_of(id);
      if (wipe.mask == 0) {
        check_segment(n);
      } else {
        clearing_jobs.push_back(wipe);
      }
    }
  }
  return true;
}

// A segment goes when its process is gone and nothing in it is used.
void Control::Impl::check_segment(std::uint32_t id) {
  Segment* s = segment_of(id);
  if (s == nullptr || s->removing || !s->empty()) return;
  if (clients.count(index_of(s->owner())) != 0) return;
  s->removing = true;
  flow::Command command = make_command(flow::Command::Kind::kRemoveSegment);
  command.segment = SegmentId{id};
  commands.push(command);
}

void Control::Impl::on_segment_removed(std::uint32_t id) {
  TOE_CHECK(id < segments.size() && segments[id] != nullptr && segments[id]->removing);
  segments[id].reset();
  world.free_segment(SegmentId{id});
}

}  // namespace toe::control
