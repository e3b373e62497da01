// Asks a running engine one question over its control socket.
#ifndef TOE_CLI_ENGINE_CLIENT_H_
#define TOE_CLI_ENGINE_CLIENT_H_

#include <string>

#include "base/result.h"
#include "shm/control_format.h"

namespace toe::cli {

/// Where the engine called `name` is found: $FLEXTOE_RUNDIR (default /run/flextoe) / name.sock.
std::string socket_path(const std::string& name);

/// `given`, else $FLEXTOE_NAME, else "default".
std::string engine_name(const std::string& given);

/// The engine's JSON answer. Fails with one sentence when no engine answers or it refuses.
Result<std::string> ask_engine(const std::string& name, shm::AdminVerb verb, std::uint32_t flags);

/// Fails with one sentence when no engine takes a connection.
Status reach_engine(const std::string& name);

}  // namespace toe::cli

#endif  // TOE_CLI_ENGINE_CLIENT_H_
