// The manual pages, rendered in groff's man macros from the same definitions as --help. Pure.
#ifndef TOE_CLI_MANUAL_H_
#define TOE_CLI_MANUAL_H_

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace toe::cli {

struct ManualPage {
  std::string name;  ///< "flextoe-run"
  int section = 1;
  std::string text;
};

/// flextoe(1), one page per verb that --help shows, libtoe(7).
std::vector<ManualPage> manual_pages(const CLI::App& app);

/// Text as it has to stand in a page to be printed as it is.
std::string groff(std::string_view text);

/// Writes DIRECTORY/manN/NAME.N for every page; returns the exit code.
int write_manual(const CLI::App& app, const std::string& directory);

}  // namespace toe::cli

#endif  // TOE_CLI_MANUAL_H_
