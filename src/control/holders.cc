// Holds: which processes have which connection. The last one to let go closes.
#include <algorithm>

#include "control/impl.h"

namespace toe::control {

bool Control::Impl::holds(std::uint32_t id, ClientId client) const {
  const Conn& c = conns[id];
  if (c.holders == 0) return false;
  if (c.holder == client) return true;
  const auto more = more_holders.find(id);
  return more != more_holders.end() &&
         std::find(more->second.begin(), more->second.end(), client) != more->second.end();
}

void Control::Impl::publish_holders(std::uint32_t id) {
  const Conn& c = conns[id];
  segments[c.segment]->line(c.line).holders.store(c.holders, std::memory_order_relaxed);
}

// False when kMaxHolders processes hold it already.
bool Control::Impl::add_holder(std::uint32_t id, ClientId client) {
  Conn& c = conns[id];
  if (holds(id, client)) return true;
  if (c.holders == 0) {
    c.holder = client;
  } else {
    std::vector<ClientId>& more = more_holders[id];
    if (more.size() + 1 >= kMaxHolders) return false;
    more.push_back(client);
  }
  ++c.holders;
  publish_holders(id);
  return true;
}

// How many of its holders are `gone`: they let go.
std::uint32_t Control::Impl::remove_holders(std::uint32_t id,
                                            const std::function<bool(ClientId)>& gone) {
  Conn& c = conns[id];
  const std::uint32_t before = c.holders;
  if (before == 0) return 0;
  const auto more = before == 1 ? more_holders.end() : more_holders.find(id);
  std::vector<ClientId> none;
  std::vector<ClientId>& others = more == more_holders.end() ? none : more->second;
  c.holders -= static_cast<std::uint32_t>(std::erase_if(others, gone));
  if (gone(c.holder)) {
    --c.holders;
    c.holder = others.empty() ? kNoClient : others.back();
    if (!others.empty()) others.pop_back();
  }
  if (c.holders == before) return 0;
  publish_holders(id);
  if (more != more_holders.end() && others.empty()) more_holders.erase(more);
  return before - c.holders;
}

// False when the client did not hold it.
bool Control::Impl::remove_holder(std::uint32_t id, ClientId client) {
  return remove_holders(id, [client](ClientId holder) { return holder == client; }) != 0;
}

// Takes the connection out of its listener's account.
void Control::Impl::dequeue(std::uint32_t id) {
  Conn& c = conns[id];
  c.queued = false;
  if (c.listener != kNil) --listeners[c.listener].queued;
  c.listener = kNil;
}

// False: another connection of this user has the cookie, or a socket that was shown.
bool Control::Impl::claim_cookie(std::uint32_t id, std::uint64_t cookie, std::uint32_t uid) {
  if (conn_by_cookie.count(cookie) != 0 || listener_by_cookie.count(cookie) != 0) return false;
  if (!claimed_cookies.emplace(ClaimedCookie{cookie, uid}, id).second) return false;
  Conn& c = conns[id];
  c.cookie = cookie;
  c.cookie_uid = uid;
  c.verified = false;
  return true;
}

// The connection whose socket a process of `uid` shows; kNil: none. What was claimed counts for the
// same user only.
std::uint32_t Control::Impl::find_cookie(std::uint64_t cookie, std::uint32_t uid) const {
  const auto shown = conn_by_cookie.find(cookie);
  if (shown != conn_by_cookie.end()) return shown->second;
  const auto claimed = claimed_cookies.find({cookie, uid});
  return claimed == claimed_cookies.end() ? kNil : claimed->second;
}

void Control::Impl::forget_cookie(std::uint32_t id) {
  const Conn& c = conns[id];
  if (!c.verified) {
    const auto claimed = claimed_cookies.find({c.cookie, c.cookie_uid});
    if (claimed != claimed_cookies.end() && claimed->second == id) claimed_cookies.erase(claimed);
    return;
  }
  const auto shown = conn_by_cookie.find(c.cookie);
  if (shown != conn_by_cookie.end() && shown->second == id) conn_by_cookie.erase(shown);
}

// A process took the connection from an accept ring.
void Control::Impl::on_hold(const flow::Event& e) {
  const Segment* segment = segment_of(index_of(e.segment));
  const LineUse use = segment == nullptr ? LineUse{} : segment->line_use(e.line);
  if (use.kind != LineUse::Kind::kConnection) return;  // ended in the meantime
  Conn& c = conns[use.record];
  if (!c.queued) {
    if (c.holders == 0 || holds(use.record, e.client)) return;
    return drop_client(e.client, "accepted a connection that another process has");
  }
  const shm::Line& line = segment->line(e.line);
  if (line.claim.load(std::memory_order_acquire) !=
      shm::make_claim(segment->line_use(e.line).generation, e.slot + 1)) {
    return drop_client(e.client, "accepted a connection that it had not claimed");
  }
  const Client* client = live_client(e.client);
  if (client == nullptr) {  // died right after accept
    dequeue(use.record);
    return on_unheld(use.record, false);
  }
  if (c.listener != kNil && !listeners[c.listener].closing &&
      !holds_listener(listeners[c.listener], e.client)) {
    return drop_client(e.client, "accepted from a listener that it does not hold");
  }
  const std::uint64_t cookie = line.cookie.load(std::memory_order_acquire);
  if (cookie != 0 && !claim_cookie(use.record, cookie, client->uid)) {
    return drop_client(e.client, "claimed the cookie of another socket");
  }
  dequeue(use.record);
  add_holder(use.record, e.client);
  counters.accepts.fetch_add(1, std::memory_order_relaxed);
}

void Control::Impl::on_release(const flow::Event& e) {
  const Segment* segment = segment_of(index_of(e.segment));
  if (segment == nullptr) return;
  const LineUse use = segment->line_use(e.line);
  if (use.kind == LineUse::Kind::kListener) return release_listener(use.record, e.client, false);
  if (use.kind == LineUse::Kind::kConnection) release_conn(use.record, e.client, e.reset);
}

void Control::Impl::release_conn(std::uint32_t id, ClientId client, bool reset) {
  if (!remove_holder(id, client)) return;
  if (conns[id].holders == 0 && !conns[id].queued) on_unheld(id, reset);
}

// Nobody has the connection any more.
void Control::Impl::on_unheld(std::uint32_t id, bool reset) {
  Conn& c = conns[id];
  switch (c.state) {
    case Conn::State::kOpening:
      c.pool = kNil;  // the port goes back with the attempt
      drop_attempt(c.attempt);
      return on_conn_over(id);
    case Conn::State::kLive:
      break;
    case Conn::State::kEnded:
      return free_conn_line(id);
    default:
      return;
  }
  if (c.orphan || c.aborting) return;
  counters.orphans.fetch_add(1, std::memory_order_relaxed);
  User& user = users[c.uid];
  const bool many = user.orphans >= options.max_orphans_per_user;
  if (many || orphan_count >= options.max_orphans) return abort_conn(id, ECONNABORTED, true);
  c.orphan = true;
  ++orphan_count;
  ++user.orphans;
  flow::Command command = make_command(flow::Command::Kind::kOrphan);
  command.flow = FlowId{id};
  command.reset = reset;
  commands.push(command);
  if (c.half_closed) on_half_closed(id);
}

void Control::Impl::drop_client(ClientId client, const char* reason) {
  counters.misbehaved.fetch_add(1, std::memory_order_relaxed);
  world.drop_client(client, reason);
}

}  // namespace toe::control
