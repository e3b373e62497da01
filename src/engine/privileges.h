// What the engine may do: checked at start, reduced once everything is open.
#ifndef TOE_ENGINE_PRIVILEGES_H_
#define TOE_ENGINE_PRIVILEGES_H_

#include <cstdint>

#include "base/result.h"

namespace toe::engine {

/// One sentence naming what is missing.
Status check_privileges();

/// Keeps NET_ADMIN, NET_RAW, BPF, PERFMON and IPC_LOCK of what the process has, for this thread and
/// those it starts; nothing can be gained again by exec.
Status drop_privileges();

/// From now on only the system calls that a serving engine makes are allowed, for this thread and
/// those it starts; others fail with EPERM. No program can be started any more.
Status restrict_calls();

/// Raises the limit of open descriptors as far as allowed and returns it.
std::uint64_t raise_fd_limit();

}  // namespace toe::engine

#endif  // TOE_ENGINE_PRIVILEGES_H_
