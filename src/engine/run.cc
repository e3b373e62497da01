#include "engine/run.h"

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "engine/command_line.h"
#include "engine/log.h"
#include "engine/setup.h"

namespace toe::engine {

const char* const kVersion = "0.1.0";

CLI::App* add_run_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("run", "serve TCP on a network interface, in the foreground");
  add_flags(*command);
  return command;
}

int run(const CLI::App& command, int argc, char** argv) {
  try {
    Result<Settings> settings = collect_settings(
        command, [](const std::string& name) { return std::getenv(name.c_str()); });
    if (!settings.ok()) {
      std::fprintf(stderr, "flextoe: %s\n", settings.error().text.c_str());
      return 2;
    }
    start_log(settings.value().text("log-level"));
    const ProcessTitle title = ProcessTitle::of(argc, argv);
    Engine engine(std::move(settings.value()));
    const Status status = engine.set_up(title);
    if (!status.ok()) {
      std::fprintf(stderr, "flextoe: %s\n", status.error().text.c_str());
      return 1;
    }
    return engine.serve();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "flextoe: start failed: %s\n", error.what());
    return 1;
  }
}

}  // namespace toe::engine
