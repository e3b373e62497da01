// A hostile peer on the simulated wire. It sends from the client's address, unimpaired:
//  - blind spoofs of live connections: resets, SYNs and data around the window that must not be
//    taken, acknowledgements of what was never sent;
//  - connections of its own, with valid sequence numbers and everything else as it likes:
//    overlaps, single bytes, options without sense, SACKs of anything, windows of any size;
//  - SYNs with options without sense, which it may or may not go on with.
// After a while it says nothing more, and the engine must get rid of its connections.
#ifndef TOE_TESTS_SIM_ATTACKER_H_
#define TOE_TESTS_SIM_ATTACKER_H_

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "harness/random.h"
#include "port/mem/mem_wire.h"
#include "sim/sim_engine.h"
#include "sim/tuple.h"

namespace toe::sim {

class Attacker {
 public:
  struct Bed {
    Clock& clock;
    port::MemWire& wire;
    SimEngine* engines[2];
  };
  Attacker(const Bed& bed, std::uint64_t seed);

  Time wake_at() const { return left_ == 0 ? Time::never() : next_; }
  /// Sends something; `victims` are connections that must survive it.
  void act(std::span<const Tuple> victims);
  /// True while it sends: the wire lets its frames through as they are.
  bool sending() const { return sending_; }
  bool owns(Tuple tuple) const { return (tuple >> 16) >= kFirstPort; }
  /// A segment for one of its connections.
  void take(const wire::TcpSegment& s);
  std::uint64_t spoofs() const { return spoofs_; }
  std::uint64_t accepted() const { return accepted_; }

 private:
  static constexpr std::uint16_t kFirstPort = 60000;
  static constexpr std::uint32_t kPorts = 24;

  struct Own {
    std::uint32_t iss = 0;
    std::uint32_t rcv_nxt = 0;  ///< what the engine has acknowledged of ours
    std::uint32_t snd_nxt = 0;  ///< end of what the engine has sent
    bool open = false;
    bool greeted = false;  ///< the handshake is complete
  };

  wire::TcpSegmentHeader header(int from, Tuple tuple);
  void spoof(Tuple tuple);
  void spoof_flow(int from, Tuple tuple, const flow::Flow& flow);
  void attack();
  void attack_open(Tuple tuple, Own& own);
  std::vector<std::uint8_t> odd_options();
  void send(int from, const wire::TcpSegmentHeader& h, std::size_t payload,
            std::span<const std::uint8_t> options);

  Bed bed_;
  test::Random random_;
  std::map<Tuple, Own> own_;
  Time next_;
  std::uint32_t left_ = 0;  ///< frames still to be sent
  bool sending_ = false;
  std::uint64_t spoofs_ = 0, accepted_ = 0;
};

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_ATTACKER_H_
