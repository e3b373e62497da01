// Control's functions, by file. Private to src/control.
#ifndef TOE_CONTROL_IMPL_H_
#define TOE_CONTROL_IMPL_H_

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "control/state.h"
#include "wire/parse.h"

namespace toe::control {

/// RFC 3168 section 6.1.1: an ECN-setup SYN-ACK.
inline bool grants_ecn(const wire::TcpSegment& syn_ack) {
  return (syn_ack.flags & (wire::kEce | wire::kCwr)) == wire::kEce;
}

inline void count(std::atomic<std::uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

struct Control::Impl : State {
  using State::State;

  // control.cc: entry points.
  void on_request(const Request& r);
  bool poll();
  Time next_deadline() const;
  bool busy() const { return commands.room() < CommandQueue::kWorkMargin; }
  bool crowded() const;
  bool may_take_event() const;
  void on_timer(std::uint32_t id);
  void expire_time_wait();
  bool quiet() const;
  bool empty() const;
  std::uint64_t ring_bytes() const;

  // frames.cc: what a frame is for.
  void on_frame(Frame frame);
  bool on_segment(const wire::TcpSegment& s, Frame frame);  // true: the frame was passed on
  bool on_attempt_segment(std::uint32_t id, const wire::TcpSegment& s, Frame frame);  // the same
  void on_stray(const wire::TcpSegment& s);
  bool on_time_wait(std::uint32_t record, const wire::TcpSegment& s);  // true: a new SYN, go on
  void release_time_wait(std::uint32_t record);
  std::uint32_t find_live(const flow::FlowKey& key) const;

  // transmit.cc: frames out.
  void send(const wire::TcpSegmentHeader& h);
  void send_syn(Attempt& a);  // SYN or SYN-ACK
  void send_attempt_ack(const Attempt& a, std::uint32_t seq, std::uint32_t ack);
  void send_reset(const wire::TcpSegment& cause);
  void send_attempt_reset(const Attempt& a);
  bool fill_addresses(const Attempt& a, wire::TcpSegmentHeader& h);
  std::uint16_t own_mss(std::uint32_t mtu, const IpAddr& remote, std::uint32_t limit) const;
  std::uint16_t announced_mss(const Attempt& a);
  std::uint16_t initial_window() const;
  std::uint32_t timestamp(std::uint32_t offset) const;
  std::uint32_t initial_sequence(const flow::FlowKey& key) const;
  std::uint32_t timestamp_offset(const flow::FlowKey& key) const;

  // passive.cc: connections from outside.
  void on_syn(const wire::TcpSegment& s, std::uint32_t least_iss);
  bool on_syn_received(std::uint32_t id, const wire::TcpSegment& s, Frame frame);
  bool on_handshake_ack(std::uint32_t id, const wire::TcpSegment& s, Frame frame);
  void go_on_passive(std::uint32_t id);
  bool advance_passive(std::uint32_t id);
  bool install_passive(std::uint32_t id, const wire::TcpSegment& s);
  void on_attempt_timer(std::uint32_t id);
  std::uint8_t window_scale(const shm::SocketOptions& o) const;
  bool accepts_ecn(const Congestion& algorithm, bool ect_syn) const;
  void take_syn(Attempt& a, const SynFacts& syn, const wire::TcpSegment& s);
  std::uint32_t open_attempt(std::uint32_t listener, const wire::TcpSegment& s);

  // passive_cookies.cc
  void answer_by_cookie(Listener& l, const wire::TcpSegment& s);
  bool brings_cookie(const wire::TcpSegment& s, SynFacts& syn);
  bool runs_ahead_of_cookie(const Listener& l, const wire::TcpSegment& s) const;
  void take_cookie(Attempt& a, const SynFacts& syn, const wire::TcpSegment& s);
  bool adopt_cookie(Attempt& a, const wire::TcpSegment& s);
  std::uint32_t recall_attempt(const wire::TcpSegment& s, const SynFacts& syn);
  flow::HashKey cookie_secret() const { return {secrets.isn.k1 ^ secrets.random, ~secrets.isn.k0}; }

  // active.cc: connections from here.
  void on_connect(const Request& r);
  bool may_connect(std::uint32_t uid);
  void go_on_active(std::uint32_t id);
  std::uint32_t pool_of(const IpAddr& local);
  std::uint32_t replace_pool(const IpAddr& local);
  void pick_port(std::uint32_t id, bool ask = true);
  void begin_connect(std::uint32_t id);
  void on_syn_sent(std::uint32_t id, const wire::TcpSegment& s);
  void install_active(std::uint32_t id, const wire::TcpSegment& s);
  void time_out_connect(std::uint32_t id);
  void fail_connect(std::uint32_t id, int error, shm::KernelReason reason);
  void on_held_port(const Request& r);

  // attempts.cc: the table of half-open connections.
  std::uint32_t new_attempt();
  void drop_attempt(std::uint32_t id);
  void stop_waiting(std::uint32_t id);
  void index_attempt(std::uint32_t id);
  const flow::FlowKey& key_of(std::uint32_t id) const;

  // install.cc: from a finished handshake to a flow.
  std::uint32_t new_conn(Segment& segment, std::uint32_t uid);
  void fill_line(std::uint32_t id, const flow::FlowKey& key, const shm::SocketOptions& o);
  const Congestion& congestion_of(const shm::SocketOptions& o, std::uint32_t route);
  void fill_flow(std::uint32_t id, const Attempt& a, const shm::SocketOptions& o);
  void fill_protocol(std::uint32_t id, const Attempt& a, const shm::SocketOptions& o);
  void install(std::uint32_t id, const Attempt& a);
  wire::HeaderTemplate make_header(std::uint32_t id, bool timestamps);
  std::uint16_t send_mss(std::uint32_t id, bool timestamps) const;

  // connections.cc: events of the data path.
  void on_event(const flow::Event& e);
  void on_flow_event(const flow::Event& e);
  void on_closed(const flow::Event& e);
  void on_congestion(const flow::Event& e);
  void push_congestion(std::uint32_t id);
  void on_half_closed(std::uint32_t id);
  void arm_conn(std::uint32_t id);
  void on_conn_timer(std::uint32_t id);
  void abort_conn(std::uint32_t id, int error, bool reset);
  void remove_conn(std::uint32_t id);
  void enter_time_wait(std::uint32_t id);
  void on_conn_over(std::uint32_t id);
  void free_conn_line(std::uint32_t id);
  void settle_user(std::uint32_t uid);

  // rings.cc: growth, accounting.
  shm::RingRef take_ring(Segment& segment, std::uint32_t uid, std::uint32_t bytes);
  void free_ring(Segment& segment, std::uint32_t uid, shm::RingRef& ring);
  void wash_ring(Segment& segment, std::uint32_t uid, shm::RingRef& ring);
  void on_pages_returned(const Request& r);
  void grow(std::uint32_t id, bool rx);
  void on_ring_free(const flow::Event& e, bool rx);

  // idle.cc: rings of connections at rest.
  void on_active(std::uint32_t id);
  void on_idle_timer(std::uint32_t id);
  void rest(std::uint32_t id);
  bool renew_ring(std::uint32_t id, bool rx);  // false: again soon

  // holders.cc: who holds which line.
  bool add_holder(std::uint32_t id, ClientId client);
  void publish_holders(std::uint32_t id);
  std::uint32_t remove_holders(std::uint32_t id, const std::function<bool(ClientId)>& gone);
  bool remove_holder(std::uint32_t id, ClientId client);
  bool holds(std::uint32_t id, ClientId client) const;
  void on_hold(const flow::Event& e);
  void on_release(const flow::Event& e);
  void release_conn(std::uint32_t id, ClientId client, bool reset);
  void on_unheld(std::uint32_t id, bool reset);
  void dequeue(std::uint32_t id);
  bool claim_cookie(std::uint32_t id, std::uint64_t cookie, std::uint32_t uid);
  std::uint32_t find_cookie(std::uint64_t cookie, std::uint32_t uid) const;
  void forget_cookie(std::uint32_t id);
  void drop_client(ClientId client, const char* reason);

  // listeners.cc
  void on_listen(const Request& r);
  void on_marked(const Request& r);
  void on_mark_failed(const Request& r);
  void remember_listener(ClientId client, std::uint32_t id);
  void answer_listen(const Request& r, const ListenAsk& ask);
  std::uint32_t find_listener(const IpAddr& local, std::uint16_t port) const;
  std::uint32_t exact_listener(const Request& r) const;
  bool join_listener(std::uint32_t id, const Request& r);
  std::uint32_t new_listener(const Request& r, Segment& segment);
  void release_listener(std::uint32_t id, ClientId client, bool all);
  void close_listener(std::uint32_t id);
  void finish_listener(std::uint32_t id);
  bool holds_listener(const Listener& l, ClientId client) const;
  void reply_line(const Request& r, shm::MessageType type, std::uint32_t segment,
                  std::uint32_t line);

  // clients.cc: processes and segments.
  void on_join(const Request& r);
  void on_new_segment(const Request& r);
  void on_leave(ClientId id);
  void close_contexts_of(ClientId id);
  bool finish_leave(ClientId id);  // false: not yet
  void on_context(const Request& r);
  void on_context_opened(const flow::Event& e);
  void on_context_closed(const flow::Event& e);
  Segment* segment_of(std::uint32_t id) const;
  Client* live_client(ClientId id);
  bool may_use(const Client& c, std::uint32_t segment) const;
  bool show_segment(ClientId id, std::uint32_t segment);
  Segment* segment_with_room(ClientId id);
  void check_segment(std::uint32_t id);
  void on_segment_removed(std::uint32_t id);
  void refuse(ClientId client, std::uint64_t tag, shm::KernelReason reason, int error);
  template <typename M>
  void reply(ClientId client, std::uint64_t tag, shm::MessageType type, M& message);

  // queries.cc
  void on_show(const Request& r);
  bool show_cookie(ClientId id, std::uint64_t cookie, shm::Shown::Entry& entry);
  void on_info(const Request& r);
  void on_option(const Request& r);
  int set_option(const Request& r, const LineUse& use);
  void push_mss(std::uint32_t id);
  std::uint8_t kernel_state(std::uint32_t id) const;
  void fill_info(std::uint32_t id, shm::InfoReply& info) const;

  // path_mtu.cc: ICMP
  void on_icmp(const Request& r);
  void on_icmp_attempt(std::uint32_t id, const Request& r);
  void on_too_big(std::uint32_t id, const Request& r);
  void expire_path_mtus();

  // dump.cc
  void on_dump(Dump* dump);
  bool step_dump();
  std::int32_t pid_of(ClientId id) const;
  void dump_conn(std::uint32_t id, Dump& dump) const;
  void dump_listener(const Listener& l, Dump& dump) const;
  void dump_time_wait(std::uint32_t i, Dump& dump) const;
  void dump_attempt(const Attempt& a, Dump& dump) const;

  // jobs.cc
  bool step_jobs();
  bool step_front(std::deque<Job>& queue);
  void add_to_batch(Batch& batch, Job::Kind kind, std::uint32_t member);
  void finish_job(const Job& job);
  struct Look;                                 // of a job at its records
  bool renew_header(std::uint32_t id);         // false: no template is free
  bool resume_route(std::uint32_t route);      // true: nobody waits any more
  bool resume_pool(PortPool& pool, bool dry);  // the same, or the next answer goes on
  void resume_later(const PortPool& pool, bool dry);
  void on_route(const Request& r);
  void refresh_route(std::uint32_t id);
  void on_address(const IpAddr& local, bool away);
  void on_stop();
};

template <typename M>
void Control::Impl::reply(ClientId client, std::uint64_t tag, shm::MessageType type, M& message) {
  message.header = {type, sizeof(M), tag};
  world.reply(client, {reinterpret_cast<const std::uint8_t*>(&message), sizeof(M)});
}

}  // namespace toe::control

#endif  // TOE_CONTROL_IMPL_H_
