// Settings from a TOML file.
#include <fmt/format.h>
#include <toml++/toml.h>

#include "engine/options.h"

namespace toe::engine {
namespace {

/// The value as it would be written on the command line; false for kinds no option has.
bool value_text(const toml::node& node, std::string& out) {
  if (const auto text = node.as_string()) {
    out = text->get();
  } else if (const auto number = node.as_integer()) {
    out = std::to_string(number->get());
  } else if (const auto flag = node.as_boolean()) {
    out = flag->get() ? "true" : "false";
  } else if (const auto list = node.as_array()) {
    out.clear();
    for (const toml::node& element : *list) {
      std::string text;
      if (element.is_array() || !value_text(element, text)) return false;
      out += (out.empty() ? "" : ",") + text;
    }
  } else {
    return false;
  }
  return true;
}

Status set_key(Settings& settings, std::string_view key, const toml::node& node) {
  const auto line = node.source().begin.line;
  if (find_option(key) == nullptr || key == "config") {
    return Error{EINVAL, fmt::format("line {}: there is no option '{}'", line, key)};
  }
  std::string text;
  if (!value_text(node, text)) {
    return Error{EINVAL,
                 fmt::format("line {}: {} must be a text, number, list or true/false", line, key)};
  }
  if (find_option(key)->type == OptionType::kOctal && node.is_integer()) {
    text = fmt::format("{:o}", node.as_integer()->get());  // the file writes 0o660
  }
  const Status status = settings.set(key, text, Source::kFile);
  if (!status.ok()) return Error{EINVAL, fmt::format("line {}: {}", line, status.error().text)};
  return Done{};
}

}  // namespace

Status load_file(Settings& settings, const std::string& path) {
  try {
    const toml::table table = toml::parse_file(path);
    for (const auto& [key, node] : table) {
      const Status status = set_key(settings, key.str(), node);
      if (!status.ok()) return Error{EINVAL, fmt::format("{}, {}", path, status.error().text)};
    }
  } catch (const toml::parse_error& error) {
    return Error{EINVAL, fmt::format("{}, line {}: {}", path, error.source().begin.line,
                                     error.description())};
  }
  return Done{};
}

}  // namespace toe::engine
