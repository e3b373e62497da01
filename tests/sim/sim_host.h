// One process of the simulation: libtoe's client, waiter, connections and listener over real
// segments, driven by random reads and writes, stalls and a way to end.
#ifndef TOE_TESTS_SIM_SIM_HOST_H_
#define TOE_TESTS_SIM_SIM_HOST_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/pattern.h"
#include "libtoe/connection.h"
#include "libtoe/engine_client.h"
#include "libtoe/listener.h"
#include "libtoe/wait_context.h"
#include "sim/sim_engine.h"
#include "sim/tuple.h"

namespace toe::sim {

/// One end of a connection.
struct Endpoint {
  ConnectionPlan plan;
  std::uint32_t number = 0;
  bool client = false;
  libtoe::Connection connection;
  test::Pattern out{0}, in{0};
  std::uint64_t written = 0, received = 0;
  bool established = false;
  bool hostile = false;  ///< the peer is the attacker: anything may come
  bool connecting = false, shut = false, saw_end = false, done = false;
  int error = 0;          ///< errno that ended it
  bool given_up = false;  ///< the peer's engine has stopped trying to reach it, and says nothing
  Time stalled_until;     ///< does nothing before
  bool runnable = true;
};

class SimHost {
 public:
  SimHost(const Plan& plan, SimEngine& engine, Clock& clock, Marks& marks, std::uint64_t seed);
  ~SimHost();

  bool attach(ClientId client);
  bool listen(std::uint16_t port);
  bool connect(const ConnectionPlan& plan, std::uint32_t number, const IpAddr& remote);
  /// How the server finds the plan of a connection that it accepts.
  std::function<std::unique_ptr<Endpoint>(Tuple)> on_accept;
  /// Connections under way, with the numbers given to connect().
  void note_ports(std::map<Tuple, std::uint32_t>& numbers) const;
  /// Bytes received, by number of the connection.
  void note_received(std::vector<std::uint64_t>& bytes) const;
  void adopt(std::uint32_t segment, std::uint8_t* base) {
    client_->segments().adopt(segment, base);
  }

  /// Does what can be done now, then sleeps as a program does.
  void run();
  Time wake_at() const { return wake_at_; }
  void rung();
  void close_listener();
  /// The connection's peer has given up. Who has sent everything and waits without keep-alive would
  /// wait for ever: it closes then, as its user would.
  void give_up_on(std::uint32_t number);
  /// The process is gone: nothing of it runs again.
  void die();
  bool dead() const { return dead_; }
  /// So many connections have come, and all they send is written.
  bool wrote_all(std::size_t connections) const;

  /// Every endpoint has ended.
  bool done() const;
  std::string describe() const;
  std::string failure;

 private:
  class Link;

  bool open_lane();
  void accept_all();
  Time accept_time();
  Time serve(Endpoint& e);
  void add(std::unique_ptr<Endpoint> endpoint, std::uint32_t line);
  void drive(Endpoint& e);
  bool write_some(Endpoint& e);
  bool read_some(Endpoint& e);
  void end_if_due(Endpoint& e);
  void finish(Endpoint& e, bool reset);
  void judge_error(Endpoint& e);
  bool leaves_at_cut(const Endpoint& e) const;
  void guard(Endpoint& e);
  void mark_death();
  bool all_moved(const Endpoint& e) const;
  void fail(const Endpoint& e, const std::string& what);

  const Plan& plan_;
  SimEngine& engine_;
  Clock& clock_;
  Marks& marks_;
  test::Random random_;
  ClientId id_ = kNoClient;
  std::unique_ptr<libtoe::EngineClient> client_;
  std::unique_ptr<libtoe::WaitContext> waiter_;
  libtoe::Lane* lane_ = nullptr;
  libtoe::Listener listener_;
  std::uint16_t listening_port_ = 0;
  Time accepts_from_ = Time::never();  ///< the process that dies lets connections wait
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::map<std::uint32_t, Endpoint*> by_line_;
  std::uint64_t next_cookie_ = 0;  ///< no two processes of an engine have the same
  const Time begin_;
  std::vector<std::uint8_t> buffer_;
  Time wake_at_ = Time::never();
  bool dead_ = false;
};

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_SIM_HOST_H_
