// The engine's JSON answers as text for people. Pure.
#ifndef TOE_CLI_TEXT_H_
#define TOE_CLI_TEXT_H_

#include <string>
#include <vector>

namespace toe::cli {

/// Columns as wide as their longest cell; the first row is the heading.
std::vector<std::string> table_lines(const std::vector<std::vector<std::string>>& rows);
std::string table_text(const std::vector<std::vector<std::string>>& rows);

/// Only what a terminal shows as it is: process names are bytes of anybody's choice.
std::string printable(std::string text);

// Each takes the verb's JSON; throws std::exception when it is not what the engine sends.
std::string stats_text(const std::string& json);
std::string status_text(const std::string& json);
std::string config_text(const std::string& json);

}  // namespace toe::cli

#endif  // TOE_CLI_TEXT_H_
