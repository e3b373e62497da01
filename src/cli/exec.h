// `flextoe exec`: replaces itself by a program whose sockets the engine serves.
#ifndef TOE_CLI_EXEC_H_
#define TOE_CLI_EXEC_H_

#include <string>
#include <vector>

namespace toe::cli {

struct ExecOptions {
  std::string name;  ///< of the engine; "" = environment or default
  bool strict = false;
  bool allow_kernel = false;
  std::vector<std::string> command;  ///< program and arguments
};

/// Returns an exit code only when the program was not started: 1 no engine, 2 it cannot be served,
/// 126 not executable, 127 not found.
int exec_program(const ExecOptions& options);

/// libtoe.so beside this binary (../lib), else where it is installed; "" when there is none.
std::string find_library();

/// LD_PRELOAD with `library` in front of what stands there.
std::string preload_text(const std::string& library, const char* present);

}  // namespace toe::cli

#endif  // TOE_CLI_EXEC_H_
