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

/// Keeps no capability at all, for this thread and those it starts.
Status drop_all_privileges();

/// What a thread is for, hence which system calls it makes. A new kind of thread takes a word here
/// and a list in seccomp.cc.
enum class ThreadRole : std::uint8_t { kAdmin, kDataPath, kGuardian, kMetrics };

/// False in builds with sanitizers, whose own system calls nobody can foresee.
bool can_restrict_calls();

/// From now on the calling thread may make only the system calls of its role; any other one ends
/// the whole process with SIGSYS. Counts for threads that it starts later as well, so those that
/// need other calls are started before. REQUIRES: can_restrict_calls().
Status restrict_calls(ThreadRole role);

/// Raises the limit of open descriptors as far as allowed and returns it.
std::uint64_t raise_fd_limit();

}  // namespace toe::engine

#endif  // TOE_ENGINE_PRIVILEGES_H_
