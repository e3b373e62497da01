#include "cli/text.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace toe::cli {
namespace {

using Json = nlohmann::ordered_json;
using Rows = std::vector<std::vector<std::string>>;

std::string cell(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return "-";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

/// Only what a terminal shows as it is: process names are bytes of anybody's choice.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  return text;
}

}  // namespace

std::string table_text(const Rows& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string conns_text(const std::string& text) {
  const Json json = Json::parse(text);
  Rows rows = {{"STATE", "LOCAL", "REMOTE", "PID", "RX", "TX", "RXQ", "TXQ", "RTT_US", "CWND",
                "RETRANS", "ECN", "CC"}};
  for (const Json& c : json.at("listeners")) {
    rows.push_back({"LISTEN", cell(c, "local"), "-", cell(c, "pid"), "-", "-", cell(c, "waiting"),
                    cell(c, "backlog"), "-", "-", "-", "-", "-"});
  }
  for (const Json& c : json.at("conns")) {
    rows.push_back({cell(c, "state"), cell(c, "local"), cell(c, "remote"), cell(c, "pid"),
                    cell(c, "rx_bytes"), cell(c, "tx_bytes"), cell(c, "rx_queue"),
                    cell(c, "tx_queue"), cell(c, "rtt_us"), cell(c, "cwnd"), cell(c, "retrans"),
                    cell(c, "ecn"), cell(c, "cc")});
  }
  return table_text(rows);
}

std::string stats_text(const std::string& text) {
  const Json json = Json::parse(text);
  Rows rows;
  for (const auto& [name, count] : json.at("counters").items()) {
    rows.push_back({name, count.dump()});
  }
  for (const auto& [name, count] : json.at("drops").items()) {
    if (count.get<std::uint64_t>() != 0) rows.push_back({"drop " + name, count.dump()});
  }
  for (const auto& [name, count] : json.at("levels").items()) {
    rows.push_back({"now " + name, count.dump()});
  }
  return table_text(rows);
}

std::string status_text(const std::string& text) {
  const Json json = Json::parse(text);
  Rows facts;
  for (const auto& [name, value] : json.items()) {
    if (name == "schema" || name == "processes") continue;
    facts.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
  }
  Rows rows = {{"PID", "COMM", "OFFLOADED", "KERNEL", "REASONS"}};
  for (const Json& p : json.at("processes")) {
    std::string reasons;
    for (const auto& [reason, count] : p.at("reasons").items()) {
      reasons += (reasons.empty() ? "" : " ") + reason + "=" + count.dump();
    }
    rows.push_back({cell(p, "pid"), printable(cell(p, "comm")), cell(p, "offloaded"),
                    cell(p, "kernel"), reasons});
  }
  return table_text(facts) + (rows.size() > 1 ? "\n" + table_text(rows) : "");
}

std::string config_text(const std::string& text) {
  const Json json = Json::parse(text);
  Rows rows = {{"OPTION", "VALUE", "FROM", "WHY"}};
  for (const auto& [name, option] : json.at("options").items()) {
    const std::string value = cell(option, "value");
    std::string reason = cell(option, "reason");
    if (option.contains("choices")) reason += " (" + cell(option, "choices") + ")";
    rows.push_back({name, value.empty() ? "-" : value, cell(option, "source"), reason});
  }
  return table_text(rows);
}

}  // namespace toe::cli
