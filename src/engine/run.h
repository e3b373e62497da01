// `flextoe run`: the engine in the foreground.
#ifndef TOE_ENGINE_RUN_H_
#define TOE_ENGINE_RUN_H_

#include <CLI/CLI.hpp>

namespace toe::engine {

/// The version that `flextoe --version` and status show.
extern const char* const kVersion;

/// Adds the verb with its flags.
CLI::App* add_run_command(CLI::App& app);

/// Serves until a signal; returns the exit code (0 good, 1 failed, 2 usage). `argv` are main's:
/// the guardian renames itself through them.
int run(const CLI::App& command, int argc, char** argv);

}  // namespace toe::engine

#endif  // TOE_ENGINE_RUN_H_
