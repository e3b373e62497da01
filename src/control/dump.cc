// Rows of `flextoe conns`, gathered in bounded steps.
#include <algorithm>
#include <cstring>

#include "control/impl.h"
#include "control/tcp_states.h"

namespace toe::control {
namespace {

/// An instant that was never set is 0.
std::int64_t ms_since(Time then, Time now) {
  return then == Time{} ? -1 : (now - then).ns / 1'000'000;
}

}  // namespace

void Control::Impl::on_dump(Dump* dump) {
  if (dumps.size() >= kMaxDumps) {
    dump->truncated = true;
    dump->done.store(true, std::memory_order_release);
    return;
  }
  dump->next = 0;
  dumps.push_back(dump);
}

// Looks at the next records for the oldest dump. The cursor runs over connections, attempts,
// listeners, TIME-WAIT records. True: more is to be done.
bool Control::Impl::step_dump() {
  if (dumps.empty()) return false;
  Dump& d = *dumps.front();
  const auto n_conns = static_cast<std::uint32_t>(conns.size());
  const std::uint32_t n_attempts = n_conns + kMaxAttempts;
  const std::uint32_t n_listeners = n_attempts + kMaxListeners;
  const std::uint32_t end = n_listeners + (d.time_wait ? time_wait.capacity() : 0);
  for (std::uint32_t left = kRecordsPerStep; left > 0 && d.next < end; --left, ++d.next) {
    if (d.rows.size() == d.rows.capacity()) {
      d.truncated = true;
      d.next = end;
      break;
    }
    if (d.next < n_conns) {
      dump_conn(d.next, d);
    } else if (d.next < n_attempts) {
      dump_attempt(attempts[d.next - n_conns], d);
    } else if (d.next < n_listeners) {
      dump_listener(listeners[d.next - n_attempts], d);
    } else {
      dump_time_wait(d.next - n_listeners, d);
    }
  }
  if (d.next < end) return true;
  dumps.pop_front();
  d.done.store(true, std::memory_order_release);
  return !dumps.empty();
}

std::int32_t Control::Impl::pid_of(ClientId id) const {
  const auto c = clients.find(index_of(id));
  return c == clients.end() ? -1 : c->second.pid;
}

void Control::Impl::dump_conn(std::uint32_t id, Dump& dump) const {
  const Conn& c = conns[id];
  if (c.state != Conn::State::kLive) return;
  const flow::Flow& f = flows[id];
  ConnRecord row;
  row.state = kernel_state(id);
  row.key = f.pre.key;
  row.v6 = !row.key.local.is_v4();
  row.pid = pid_of(c.holder);
  row.uid = c.uid;
  fill_info(id, row.info);
  row.rx_bytes = f.post.bytes_received;
  row.tx_bytes = f.post.bytes_acked;
  const flow::ProtocolSlice& p = f.protocol;
  row.rx_queue = static_cast<std::uint32_t>(p.rcv_nxt - std::min(p.rcv_head, p.rcv_nxt));
  row.tx_queue = static_cast<std::uint32_t>(p.snd_end - std::min(p.snd_una, p.snd_end));
  row.rx_ring = c.rx_ring.bytes();
  row.tx_ring = c.tx_ring.bytes();
  row.snd_wnd = p.snd_wnd;
  row.last_sent_ms = ms_since(p.sent_at, now);
  row.last_data_ms = ms_since(p.last_data, now);
  row.last_heard_ms = ms_since(p.last_heard, now);
  row.ce_acked = p.ce_acked;
  if ((p.ecn & flow::kEcnOn) != 0) row.alpha = alpha_of(c.cc_state);
  const std::string_view name = c.algorithm->name;
  std::memcpy(row.congestion, name.data(), std::min(name.size(), sizeof row.congestion - 1));
  dump.rows.push_back(row);
}

void Control::Impl::dump_attempt(const Attempt& a, Dump& dump) const {
  const bool sent = a.state == Attempt::State::kSynSent;
  if (!sent && a.state != Attempt::State::kSynReceived) return;
  ConnRecord row;
  row.state = sent ? kTcpSynSent : kTcpSynReceived;
  row.key = a.key;
  row.v6 = !row.key.local.is_v4();
  row.info.state = row.state;
  if (a.active) {
    row.pid = pid_of(a.client);
    row.uid = conns[a.conn].uid;
  } else {
    row.uid = listeners[a.listener].uid;
  }
  dump.rows.push_back(row);
}

void Control::Impl::dump_listener(const Listener& l, Dump& dump) const {
  if (!l.used || l.closing) return;
  ConnRecord row;
  row.kind = ConnRecord::Kind::kListener;
  row.state = kTcpListen;
  row.key.local = l.local;
  row.key.local_port = l.port;
  row.v6 = !l.local.is_v4();
  row.pid = pid_of(l.members.front().holders.front());
  row.uid = l.uid;
  row.info.state = row.state;
  row.rx_queue = l.queued;
  row.tx_queue = l.backlog;
  dump.rows.push_back(row);
}

void Control::Impl::dump_time_wait(std::uint32_t i, Dump& dump) const {
  if (!time_wait.in_use(i)) return;
  ConnRecord row;
  row.kind = ConnRecord::Kind::kTimeWait;
  row.state = kTcpTimeWait;
  row.key = time_wait.at(i).key;
  row.v6 = !row.key.local.is_v4();
  row.info.state = row.state;
  dump.rows.push_back(row);
}

}  // namespace toe::control
