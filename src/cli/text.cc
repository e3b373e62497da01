#include "cli/text.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "shm/kernel_reason.h"

namespace toe::cli {
namespace {

using Json = nlohmann::ordered_json;
using Rows = std::vector<std::vector<std::string>>;

std::string cell(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return "-";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

/// "2 option: a socket option ..." for each reason why sockets stayed with the kernel.
std::string reasons_text(const Json& reasons) {
  std::string text;
  for (const auto& [word, count] : reasons.items()) {
    const char* meaning = shm::kernel_reason_meaning(word);
    text += fmt::format("    {} to the kernel, {}{}{}\n", count.dump(), word,
                        *meaning == '\0' ? "" : ": ", meaning);
  }
  return text;
}

/// What the process has here: a line per process, then its listeners and reasons.
std::string process_text(const Json& p) {
  std::string text =
      fmt::format("{} {} (uid {}): ", cell(p, "pid"), printable(cell(p, "comm")), cell(p, "uid"));
  text +=
      fmt::format("{} offloaded, {} left to the kernel\n", cell(p, "offloaded"), cell(p, "kernel"));
  if (p.contains("listeners")) {
    for (const Json& listener : p.at("listeners")) {
      text += "    listens on " + listener.get<std::string>() + "\n";
    }
  }
  if (p.value("connections", 0) != 0) {
    text += "    connections: " + cell(p, "connections") + "\n";
  }
  return text + reasons_text(p.at("reasons"));
}

std::string user_text(const Json& user) {
  std::string text = "user " + cell(user, "uid") + ":";
  for (const auto& [name, count] : user.items()) {
    if (name != "uid") text += " " + name + " " + count.dump();
  }
  return text + "\n";
}

}  // namespace

std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  return text;
}

std::vector<std::string> table_lines(const Rows& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::vector<std::string> lines;
  for (const auto& row : rows) {
    std::string& line = lines.emplace_back();
    for (std::size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
  }
  return lines;
}

std::string table_text(const Rows& rows) {
  std::string text;
  for (const std::string& line : table_lines(rows)) text += line + "\n";
  return text;
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
    if (name == "schema" || name == "processes" || name == "users") continue;
    facts.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
  }
  std::string users;
  for (const Json& user : json.value("users", Json::array())) users += user_text(user);
  std::string processes;
  for (const Json& process : json.at("processes")) processes += "\n" + process_text(process);
  return table_text(facts) + (users.empty() ? "" : "\n") + users + processes;
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
