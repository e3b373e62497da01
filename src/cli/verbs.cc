#include "cli/verbs.h"

#include <cstdio>
#include <exception>

#include "cli/conns_text.h"
#include "cli/engine_client.h"
#include "cli/manual.h"
#include "cli/text.h"

namespace toe::cli {
namespace {

struct Verb {
  const char* name;
  const char* help;
  shm::AdminVerb verb;
  std::string (*text)(const std::string& json);
};

constexpr Verb kVerbs[] = {
    {"status", "the engine, and the programs it serves", shm::AdminVerb::kStatus, status_text},
    {"conns", "connections and listeners", shm::AdminVerb::kConns, conns_text},
    {"stats", "counters and drops by reason", shm::AdminVerb::kStats, stats_text},
    {"config", "every setting, where it came from and why", shm::AdminVerb::kConfig, config_text},
};

int ask(const Verb& verb, const Choice& choice) {
  const std::uint32_t flags =
      (choice.all ? shm::kAdminTimeWait : 0) | (choice.prometheus ? shm::kAdminExposition : 0);
  Result<std::string> json = ask_engine(engine_name(choice.name), verb.verb, flags);
  if (!json.ok()) {
    std::fprintf(stderr, "flextoe: %s\n", json.error().text.c_str());
    return 1;
  }
  try {
    const bool as_it_is = choice.json || choice.prometheus;
    const std::string text = as_it_is ? json.value() : verb.text(json.value());
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
                   std::fflush(stdout) == 0
               ? 0
               : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "flextoe: the engine's answer is broken: %s\n", error.what());
    return 1;
  }
}

}  // namespace

void add_verbs(CLI::App& app, Choice& choice) {
  CLI::App* exec = app.add_subcommand("exec", "start a program whose sockets the engine serves");
  exec->add_option("--name", choice.exec.name, "engine to use [default]")->type_name("NAME");
  auto* strict = exec->add_flag("--strict", choice.exec.strict,
                                "fail instead of leaving a socket to the kernel");
  exec->add_flag("--allow-kernel", choice.exec.allow_kernel,
                 "also start programs that the engine cannot serve")
      ->excludes(strict);
  exec->footer(
      "Usage: "
      "flextoe exec [--name NAME] [--strict|--allow-kernel] -- PROGRAM ARGS...");
  CLI::App* manual = app.add_subcommand("manual", "write the manual pages, for make install");
  manual->add_option("directory", choice.directory, "gets man1, man7 and man8")->required();
  manual->group("");  // not in --help
  for (const Verb& verb : kVerbs) {
    CLI::App* command = app.add_subcommand(verb.name, verb.help);
    command->add_option("--name", choice.name, "engine to ask [default]")->type_name("NAME");
    CLI::Option* json = command->add_flag("--json", choice.json, "one JSON object instead of text");
    if (verb.verb == shm::AdminVerb::kConns) {
      command->add_flag("--all", choice.all, "also connections in TIME-WAIT");
    }
    if (verb.verb == shm::AdminVerb::kStats) {
      command
          ->add_flag("--prometheus", choice.prometheus,
                     "Prometheus' text exposition format instead of text")
          ->excludes(json);
    }
  }
}

int run_verb(const CLI::App& app, const Choice& choice) {
  if (app.got_subcommand("manual")) return write_manual(app, choice.directory);
  if (app.got_subcommand("exec")) {
    if (!choice.exec.command.empty()) return exec_program(choice.exec);
    std::fprintf(stderr, "flextoe: exec needs a program: flextoe exec -- PROGRAM ARGS\n");
    return 2;
  }
  for (const Verb& verb : kVerbs) {
    if (app.got_subcommand(verb.name)) return ask(verb, choice);
  }
  return -1;
}

std::vector<std::string> split_command(std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] != "exec") return {};
  std::size_t at = 1;
  for (; at < arguments.size(); ++at) {
    const std::string& word = arguments[at];
    if (word == "--" || word.empty() || word[0] != '-') break;
    if (word == "--name") ++at;  // its value is no program
  }
  if (at >= arguments.size()) return {};
  const bool dashes = arguments[at] == "--";
  const auto begin = arguments.begin() + static_cast<std::ptrdiff_t>(at);
  std::vector<std::string> command(begin + (dashes ? 1 : 0), arguments.end());
  arguments.erase(begin, arguments.end());
  return command;
}

}  // namespace toe::cli
