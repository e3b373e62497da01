// What a frame is for: a half-open connection, a TIME-WAIT record, a listener, or nothing.
#include "control/impl.h"
#include "wire/seqnum.h"

namespace toe::control {

using wire::SeqNum;

void Control::Impl::on_frame(Frame frame) {
  wire::TcpSegment s;
  const wire::ParseOptions how{static_cast<wire::RxChecksum>(options.partial_checksum_ok)};
  if (wire::parse_frame(links.frames, frame, how, s) != wire::ParseVerdict::kOk) {
    count(counters.drops.unparsed);
  } else if (s.src == s.dst) {
    // No host sends that: to answer would be to speak with ourselves ("land").
    count(counters.drops.own_source);
  } else if (on_segment(s, frame)) {
    return;
  }
  links.frames.release(frame);
}

// Number of the connection or attempt with this key, kNil when there is none.
std::uint32_t Control::Impl::find_live(const flow::FlowKey& key) const {
  return index.find(key, [this](std::uint32_t i) -> const flow::FlowKey& { return key_of(i); });
}

bool Control::Impl::on_segment(const wire::TcpSegment& s, Frame frame) {
  const flow::FlowKey key{s.dst, s.src, s.dst_port, s.src_port};
  const auto n = static_cast<std::uint32_t>(conns.size());
  const std::uint32_t found = find_live(key);
  if (found < n) {
    // The data path owns this flow, or will when it has read its commands.
    count(counters.frames_given_back);
    world.reinject(frame);
    return true;
  }
  if (found != kNil) return on_attempt_segment(found - n, s, frame);
  std::uint32_t least_iss = 0;
  if (const std::uint32_t record = time_wait.find(key); record != kNil) {
    if (!on_time_wait(record, s)) {
      count(counters.time_wait_segments);
      return false;
    }
    least_iss = time_wait.at(record).snd_nxt + 65537;
    release_time_wait(record);
    count(counters.time_wait_reused);
  }
  if ((s.flags & (wire::kSyn | wire::kAck | wire::kRst)) == wire::kSyn) {
    on_syn(s, least_iss);
    return false;
  }
  SynFacts syn;
  if (brings_cookie(s, syn)) {
    count(counters.handshake_segments);
    const std::uint32_t id = recall_attempt(s, syn);
    if (id == kNil) return false;
    // If a route has to be waited for, the SYN-ACK is repeated then, and with it this ACK.
    return advance_passive(id) && on_syn_received(id, s, frame);
  }
  on_stray(s);
  return false;
}

bool Control::Impl::on_attempt_segment(std::uint32_t id, const wire::TcpSegment& s, Frame frame) {
  count(counters.handshake_segments);
  if (attempts[id].state == Attempt::State::kSynReceived) return on_syn_received(id, s, frame);
  if (attempts[id].state == Attempt::State::kSynSent) {
    on_syn_sent(id, s);
  } else {
    count(counters.drops.handshake_waiting);  // the peer repeats its SYN
  }
  return false;
}

// Closed or listening: RFC 9293 sections 3.10.7.1 and 3.10.7.2.
void Control::Impl::on_stray(const wire::TcpSegment& s) {
  count(counters.stray_segments);
  if (const std::uint32_t on = find_listener(s.dst, s.dst_port); on != kNil) {
    if ((s.flags & wire::kAck) == 0) return;
    // Until the port is steered completely it may be of a connection of the kernel's.
    if (!listeners[on].marked) return count(counters.drops.handshake_waiting);
    if (runs_ahead_of_cookie(listeners[on], s)) return count(counters.drops.ahead_of_cookie);
  }
  send_reset(s);
}

bool Control::Impl::on_time_wait(std::uint32_t record, const wire::TcpSegment& s) {
  const TimeWaitRecord& r = time_wait.at(record);
  if ((s.flags & wire::kRst) != 0) {  // RFC 1337: it must not end the wait
    count(counters.drops.time_wait_refused);
    return false;
  }
  const bool timestamps = r.ts_on != 0 && s.options.has_timestamp;
  const bool old = timestamps && SeqNum{s.options.tsval} < SeqNum{r.ts_recent};
  if ((s.flags & (wire::kSyn | wire::kAck)) == wire::kSyn) {
    // RFC 6191 section 2: a later timestamp, or a sequence number beyond the old connection's.
    if (timestamps && SeqNum{s.options.tsval} > SeqNum{r.ts_recent}) return true;
    if (!old && SeqNum{s.seq} > SeqNum{r.rcv_nxt}) return true;
  } else if (s.seq_length() == 0 && s.seq == r.rcv_nxt) {
    return false;  // an acceptable ACK: nothing to answer
  }
  // What carries data or a FIN was sent again and waits for its ACK; the rest may be an answer to
  // our own answer.
  const bool repeats = s.seq_length() != 0 && (s.flags & wire::kSyn) == 0;
  if (!repeats && !time_wait.may_answer(record, now)) {
    count(counters.drops.time_wait_refused);
    return false;
  }
  if ((s.flags & wire::kFin) != 0 && !old) time_wait.restart(record, now);
  wire::TcpSegmentHeader h = wire::reply_header(s);
  h.flags = wire::kAck;
  h.seq = r.snd_nxt;
  h.ack = r.rcv_nxt;
  h.options.has_timestamp = r.ts_on != 0;
  h.options.tsval = timestamp(timestamp_offset(r.key));
  h.options.tsecr = r.ts_recent;
  send(h);
  return false;
}

void Control::Impl::release_time_wait(std::uint32_t record) {
  const flow::FlowKey key = time_wait.at(record).key;
  time_wait.remove(record);
  for (PortPool& p : pools) {
    if (p.local() == key.local && p.holds(key.local_port)) return p.give_back(key.local_port);
  }
  port_uses.remove(key.local, key.local_port);
}

}  // namespace toe::control
