// Looks at a program before it is started: can a preloaded library see its sockets?
#ifndef TOE_CLI_PROGRAM_H_
#define TOE_CLI_PROGRAM_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace toe::cli {

/// Why the dynamic loader would not load libtoe, or why the program would not call it.
enum class Obstacle : std::uint8_t {
  kNone,
  kStatic,        ///< no dynamic loader
  kMusl,          ///< another C library
  kGo,            ///< makes its system calls without the C library
  kSetuid,        ///< gains privileges: the loader ignores LD_PRELOAD
  kOtherMachine,  ///< not of this machine's kind
};

/// "is statically linked" and so on.
const char* obstacle_text(Obstacle obstacle);

/// Reads an ELF image. Nothing: it is no ELF file, or a broken one (the kernel will say so).
std::optional<Obstacle> look_at_elf(std::span<const std::uint8_t> file);

struct Program {
  int error = 0;     ///< errno if it cannot be started: ENOENT not found, else not executable
  std::string path;  ///< to execute
  Obstacle obstacle = Obstacle::kNone;
};

/// Finds `name` as a shell does (PATH unless it has a slash) and looks at it; scripts lead to their
/// interpreter.
Program look_at_program(const std::string& name);

}  // namespace toe::cli

#endif  // TOE_CLI_PROGRAM_H_
