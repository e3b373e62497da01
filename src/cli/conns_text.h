// Connections as `ss -tia` shows sockets: its columns, its words, its order. What the engine does
// not know of a connection is left out. Pure.
#ifndef TOE_CLI_CONNS_TEXT_H_
#define TOE_CLI_CONNS_TEXT_H_

#include <string>

#include <nlohmann/json.hpp>

namespace toe::cli {

/// The line below a connection ("cubic wscale:7,7 rto:204 ..."), from its object in the answer of
/// the verb conns; "" when nothing is known.
std::string connection_details(const nlohmann::ordered_json& connection);

/// "1.56G" for 1.556e9, as ss writes rates.
std::string rate_text(double bits_per_second);

/// The verb's JSON as text; throws std::exception when it is not what the engine sends.
std::string conns_text(const std::string& json);

}  // namespace toe::cli

#endif  // TOE_CLI_CONNS_TEXT_H_
