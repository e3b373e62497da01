// One seed: two engines joined by a hostile wire, processes on both, a virtual clock.
#ifndef TOE_TESTS_SIM_SIMULATION_H_
#define TOE_TESTS_SIM_SIMULATION_H_

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "netlab/impairer.h"
#include "port/mem/mem_wire.h"
#include "sim/attacker.h"
#include "sim/ecn_check.h"
#include "sim/marks.h"
#include "sim/plan.h"
#include "sim/sim_engine.h"
#include "sim/sim_host.h"
#include "sim/wire_check.h"
#include "wire/segment.h"

namespace toe::sim {

struct Verdict {
  std::string failure;       ///< "" = passed
  std::uint64_t digest = 0;  ///< of all frames and instants: equal for equal seeds
  Marks marks;
  Time ended;
  std::uint64_t steps = 0;
  std::size_t given_up = 0;  ///< connections that an orphan gave up, silently
};

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed) : Simulation(Plan::draw(seed)) {}
  explicit Simulation(const Plan& plan);
  /// Runs to the end, or to the first thing that must not happen.
  Verdict run();
  /// Begins, if it has not begun, and runs for a time whether or not connections end. What went
  /// wrong, "" = nothing.
  std::string run_for(Nanos time);
  /// Bytes that the server has received, by number of the connection.
  std::vector<std::uint64_t> received() const;
  const netlab::Tally& tally(int from) const { return impairers_[from].tally(); }
  /// The longest queues are those from now on.
  void forget_peaks() {
    for (netlab::Impairer& impairer : impairers_) impairer.forget_peaks();
  }
  SimEngine& engine(int side) { return *engines_[side]; }

 private:
  void wire_up();
  bool start();
  std::unique_ptr<Endpoint> accepted(Tuple tuple);
  void loop(bool (Simulation::*finished)() const, Nanos limit, const char* what);
  bool turn();
  void kill(std::size_t which);
  void kill_who_is_due();
  bool cut(int from, const wire::TcpSegment& s);
  std::vector<SimHost*> hosts() const;
  void attack();
  void excuse_given_up();
  bool all_done() const;
  bool all_quiet() const;
  bool rings_are_back() const;
  bool no_flows() const;
  void check_end();
  void fail(const std::string& what);
  void collect_failures();
  void collect_marks();
  port::Fate impair(int from, std::span<std::uint8_t> bytes);
  void print(int from, const wire::TcpSegment& s) const;
  void mark_fate(const netlab::Verdict& verdict, Nanos delay);
  void watch(int from, const wire::TcpSegment& s);

  const bool trace_ = std::getenv("SIM_TRACE") != nullptr;
  Plan plan_;
  Clock clock_;
  Verdict verdict_;
  test::Random random_;
  port::MemWire wire_;
  netlab::Impairer impairers_[2];  ///< by sending side
  std::unique_ptr<SimEngine> engines_[2];
  std::unique_ptr<SimHost> client_, victim_, server_, doomed_;
  std::map<Tuple, std::uint32_t> number_of_;  ///< connections by their ports
  std::unique_ptr<Attacker> attacker_;        ///< null: nobody attacks
  Time begun_;
  Time death_[2] = {Time::never(), Time::never()};  ///< of victim_, of doomed_
  std::set<std::uint32_t> given_up_;  ///< connections of which one side gave up, silently
  std::size_t orphans_ = 0;  ///< connections of kOrphan: doomed_ dies when it has written theirs
  /// Per connection: which side's FIN was sent, up to which sequence number.
  struct Fins {
    bool sent[2] = {};
    std::uint32_t end[2] = {};
  };
  std::map<Tuple, Fins> fins_;
  std::map<Tuple, int> syns_;
  WireCheck check_;
  EcnCheck ecn_check_;
};

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_SIMULATION_H_
