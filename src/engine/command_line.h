// The command line of `flextoe run`, made from the option table.
#ifndef TOE_ENGINE_COMMAND_LINE_H_
#define TOE_ENGINE_COMMAND_LINE_H_

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "engine/options.h"

namespace toe::engine {

/// Gives `command` one flag for every option.
void add_flags(CLI::App& command);

/// Settings from the parsed `command`, the environment and the file that they name.
Result<Settings> collect_settings(
    const CLI::App& command, const std::function<const char*(const std::string&)>& environment);

}  // namespace toe::engine

#endif  // TOE_ENGINE_COMMAND_LINE_H_
