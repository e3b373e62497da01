// The table of half-open connections.
#include "control/impl.h"

namespace toe::control {

const flow::FlowKey& Control::Impl::key_of(std::uint32_t id) const {
  const auto n = static_cast<std::uint32_t>(conns.size());
  return id < n ? flows[id].pre.key : attempts[id - n].key;
}

// kNil when the table is full.
std::uint32_t Control::Impl::new_attempt() {
  if (free_attempts.empty()) return kNil;
  const std::uint32_t id = free_attempts.back();
  free_attempts.pop_back();
  attempts[id] = {};
  attempts[id].started = now;
  return id;
}

// REQUIRES: neither a connection nor an attempt has this key.
void Control::Impl::index_attempt(std::uint32_t id) {
  index.insert(attempts[id].key, static_cast<std::uint32_t>(conns.size()) + id);
  attempts[id].indexed = true;
}

void Control::Impl::stop_waiting(std::uint32_t id) {
  Attempt& a = attempts[id];
  const auto link = [this](std::uint32_t i) -> Link& { return attempts[i].waiting; };
  if (a.state == Attempt::State::kWaitRoute) {
    unlink(routes.at(a.route).waiters, id, link);
  } else if (a.state == Attempt::State::kWaitPort) {
    unlink(pools[a.pool].waiters, id, link);
  }
}

// Forgets the attempt and all it holds, except the connection record of an active one.
void Control::Impl::drop_attempt(std::uint32_t id) {
  Attempt& a = attempts[id];
  TOE_CHECK(a.state != Attempt::State::kFree);
  stop_waiting(id);
  const auto number = static_cast<std::uint32_t>(conns.size()) + id;
  timers.cancel(number);
  if (a.indexed) index.erase(a.key, number);
  if (a.route != kNil) routes.release(a.route);
  if (a.listener != kNil) {
    Listener& l = listeners[a.listener];
    unlink(l.embryos, id, [this](std::uint32_t i) -> Link& { return attempts[i].siblings; });
    port_uses.remove(a.key.local, a.key.local_port);
  }
  if (a.has_port) pools[a.pool].give_back(a.key.local_port);
  if (a.active) {
    --users[a.uid].connecting;
    settle_user(a.uid);
  }
  a.state = Attempt::State::kFree;
  free_attempts.push_back(id);
}

}  // namespace toe::control
