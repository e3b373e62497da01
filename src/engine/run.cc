#include "engine/run.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "engine/command_line.h"
#include "engine/log.h"
#include "engine/setup.h"

namespace toe::engine {

namespace {

void complain(const std::string& text) {
  std::fprintf(stderr, "%s%s\n", line_start(spdlog::level::err), text.c_str());
}

}  // namespace

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
      complain(settings.error().text);
      return 2;
    }
    start_log(settings.value().text("log-level"));
    const ProcessTitle title = ProcessTitle::of(argc, argv);
    Engine engine(std::move(settings.value()));
    const Status status = engine.set_up(title);
    if (!status.ok()) {
      complain(status.error().text);
      return 1;
    }
    return engine.serve();
  } catch (const std::exception& error) {
    complain(std::string("start failed: ") + error.what());
    return 1;
  }
}

}  // namespace toe::engine
