// The engine's JSON answers as text for people. Pure.
#ifndef TOE_CLI_TEXT_H_
#define TOE_CLI_TEXT_H_

#include <string>
#include <vector>

namespace toe::cli {

/// Columns as wide as their longest cell; the first row is the heading.
std::string table_text(const std::vector<std::vector<std::string>>& rows);

// Each takes the verb's JSON; throws std::exception when it is not what the engine sends.
std::string conns_text(const std::string& json);
std::string stats_text(const std::string& json);
std::string status_text(const std::string& json);
std::string config_text(const std::string& json);

}  // namespace toe::cli

#endif  // TOE_CLI_TEXT_H_
