// The verbs that ask a running engine: status, conns, stats, config.
#ifndef TOE_CLI_VERBS_H_
#define TOE_CLI_VERBS_H_

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/exec.h"

namespace toe::cli {

/// Settings of all verbs of this folder, filled by the parser.
struct Choice {
  std::string name;
  bool json = false;
  bool all = false;
  bool prometheus = false;
  std::string directory;  ///< of `manual`
  ExecOptions exec;
};

void add_verbs(CLI::App& app, Choice& choice);

/// Carries the chosen verb out; returns the exit code, or -1 if it is none of this folder's.
int run_verb(const CLI::App& app, const Choice& choice);

/// Cuts program and arguments of `exec` off the command line, so that nobody takes them for flags
/// of ours: everything behind "--", or from the first word that is no flag.
std::vector<std::string> split_command(std::vector<std::string>& arguments);

}  // namespace toe::cli

#endif  // TOE_CLI_VERBS_H_
