// Work over all records, in three queues. Private to src/control.
#ifndef TOE_CONTROL_JOB_H_
#define TOE_CONTROL_JOB_H_

#include <cstdint>
#include <vector>

#include "base/addr.h"
#include "control/index_list.h"

namespace toe::control {

/// Those that one look at all records serves together: all that come before it begins. Programs end
/// and routes change by thousands at once, and each look is at tens of thousands of records.
struct Batch {
  std::vector<std::uint32_t> coming;  ///< for the job that has not begun
  std::vector<std::uint32_t> served;  ///< by the one that has
  std::uint32_t turn = 1;             ///< of what comes
};

/// Work over all records, done in bounded steps by poll().
struct Job {
  enum class Kind : std::uint8_t {
    // Urgent: connections wait for it.
    kAnswer,   ///< answer the SYNs that waited until `listener` was steered
    kRoute,    ///< give the flows of the routes of `turn` their new headers
    kResume,   ///< go on with the attempts that wait for `route`
    kAddress,  ///< DEV lost the address `local` (`away`) or has it again
    // Ports: new ones may come to wait without end.
    kPort,  ///< go on with those that wait for a port of `pool` (`dry`: there are no more)
    // Clearing up.
    kLeave,  ///< give up what the clients of `turn` held
    kClose,  ///< take the listeners of `turn` down: embryos, unaccepted connections, the lines
    kWipe,   ///< wipe what the contexts in `mask` left in the lines of `segment`
    kStop,   ///< end all
  };
  Kind kind = Kind::kStop;
  bool begun = false, dry = false, away = false;
  std::uint32_t listener = kNil;
  std::uint32_t route = kNil;
  std::uint32_t turn = 0;
  std::uint32_t pool = kNil;
  std::uint32_t segment = kNil;
  std::uint64_t mask = 0;
  std::uint32_t cursor = 0;
  IpAddr local;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_JOB_H_
