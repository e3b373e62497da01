// What one seed does: drawn once, printed when it fails.
#ifndef TOE_TESTS_SIM_PLAN_H_
#define TOE_TESTS_SIM_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/types.h"
#include "control/control.h"
#include "harness/random.h"
#include "netlab/impairments.h"

namespace toe::sim {

enum class CloseOrder : std::uint8_t {
  kActive,        ///< the client closes when it has everything
  kPassive,       ///< the server does
  kSimultaneous,  ///< both do, without waiting for the other's end
  kHalfClose,     ///< the client shuts its writing side and reads on; the server answers then
  kShutBoth,      ///< the client shuts both directions when it has everything, and closes later
  kOrphan,        ///< the server's process dies when it has written everything; only it sends
  kReset,         ///< the client resets in the middle (SO_LINGER of zero)
  kUnread,        ///< the client closes with input unread
  kLingerZero,    ///< as kActive, by reset
  kDeath,         ///< the client's process dies in the middle, perhaps of the handshake
  kServerDeath,   ///< the server's does, perhaps before it has accepted
  kBothDie,       ///< both do
  kVanish,        ///< the wire is cut for good: each side must find out by itself
  kCount,
};
/// Orders in which every byte arrives and nobody sees an error.
inline bool is_orderly(CloseOrder order) { return order <= CloseOrder::kOrphan; }
/// The client belongs to the process that dies; the server does.
inline bool client_dies(CloseOrder order) {
  return order == CloseOrder::kDeath || order == CloseOrder::kBothDie;
}
inline bool server_dies(CloseOrder order) {
  return order == CloseOrder::kOrphan || order == CloseOrder::kServerDeath ||
         order == CloseOrder::kBothDie;
}

/// By what an end of kVanish notices that the other is gone.
enum class Guard : std::uint8_t {
  kRetries,
  kUserTimeout,
  kKeepAlive,
  kClosed,  ///< the client's program has closed when the wire is cut: nobody waits but the engine
  kCount
};

struct ConnectionPlan {
  CloseOrder order = CloseOrder::kActive;
  std::uint64_t bytes = 256 * 1024;  ///< each way
  std::uint64_t cut = 0;             ///< kReset, kUnread: position at which the client ends it
  bool nodelay = false;
  bool one_way = false;           ///< only the client sends
  Guard guard = Guard::kRetries;  ///< kVanish
  Nanos cut_after{0};             ///< kVanish: from the start
};

struct Plan {
  std::uint64_t seed = 0;
  netlab::Impairments wire[2];  ///< by sending side
  std::vector<ConnectionPlan> connections;
  bool ipv6 = false;
  bool late_listener = false;
  bool hostile = false;  ///< somebody attacks (tests/sim/attacker.h)
  bool immediate_ack = false;
  bool sack = true;
  control::Ecn ecn = control::Ecn::kRequest;
  std::uint16_t mtu = 1500;
  std::uint32_t parts[2] = {0, 0};  ///< where long frames are cut: see MemPort::cut_at
  std::uint32_t order_seed = 0;
  std::uint32_t max_ring = 64 * 1024;
  Nanos min_rto = millis(200);
  Nanos ring_rest = seconds(1);
  const char* congestion = "cubic";
  control::Pacing pacing = control::Pacing::kOff;
  Nanos think = micros(5);  ///< an application reacts after at most this
  Nanos death_after[2];     ///< of the client's, of the server's process that dies
  double stall = 0;         ///< chance of a stall per action
  Nanos longest_stall = millis(5);

  static Plan draw(std::uint64_t seed);
  std::string text() const;
};

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_PLAN_H_
