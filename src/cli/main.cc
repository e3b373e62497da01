// The program `flextoe`: one verb per call.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/verbs.h"
#include "engine/run.h"

namespace {

/// False when the first word is neither a flag nor a verb.
bool known_verb(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0].substr(0, 1) == "-") return true;
  const auto verbs =
      app.get_subcommands([&](const CLI::App* verb) { return verb->get_name() == arguments[0]; });
  return !verbs.empty();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("FlexTOE: a TCP offload engine for unmodified programs", "flextoe");
  app.set_version_flag("--version", std::string("flextoe ") + toe::engine::kVersion);
  app.require_subcommand(1);
  const CLI::App* run = toe::engine::add_run_command(app);
  toe::cli::Choice choice;
  toe::cli::add_verbs(app, choice);

  std::vector<std::string> arguments(argv + 1, argv + argc);
  choice.exec.command = toe::cli::split_command(arguments);
  if (!known_verb(app, arguments)) {
    std::fprintf(stderr, "flextoe: there is no verb '%s'; see flextoe --help\n",
                 arguments[0].c_str());
    return 2;
  }
  std::reverse(arguments.begin(), arguments.end());  // the parser takes them from the back
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::fprintf(stderr, "flextoe: %s\n", error.what());
    return 2;
  }
  if (run->parsed()) return toe::engine::run(*run, argc, argv);
  return toe::cli::run_verb(app, choice);
}
