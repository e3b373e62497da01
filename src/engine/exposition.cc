#include "engine/exposition.h"

#include <string_view>

#include <fmt/format.h>

namespace toe::engine {
namespace {

/// A label's value: backslash, quote and line feed are escaped.
std::string quoted(std::string_view value) {
  std::string text = "\"";
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') text += '\\';
    text += c;
  }
  return text + '"';
}

void add_family(std::string& text, std::string_view name, std::string_view type,
                std::string_view help) {
  text += fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, help);
}

}  // namespace

std::string exposition_text(const StatsFacts& facts, const StatusFacts& engine,
                            std::int64_t uptime_s) {
  const std::string label = "engine=" + quoted(engine.name);
  std::string text;
  add_family(text, "flextoe_info", "gauge", "The engine; the value is always 1.");
  text +=
      fmt::format("flextoe_info{{{},dev={},version={},xdp=\"{}\"}} 1\n", label, quoted(engine.dev),
                  quoted(engine.version), engine.generic_xdp ? "generic" : "driver");
  add_family(text, "flextoe_uptime_seconds", "gauge", "Seconds since the engine started.");
  text += fmt::format("flextoe_uptime_seconds{{{}}} {}\n", label, uptime_s);
  for (const auto& [name, level] : facts.levels) {
    const std::string metric = "flextoe_" + name;
    add_family(text, metric, "gauge", fmt::format("The level {} of flextoe stats.", name));
    text += fmt::format("{}{{{}}} {}\n", metric, label, level);
  }
  for (const auto& [name, count] : facts.counters) {
    const std::string metric = "flextoe_" + name + "_total";
    add_family(text, metric, "counter", fmt::format("The counter {} of flextoe stats.", name));
    text += fmt::format("{}{{{}}} {}\n", metric, label, count);
  }
  add_family(text, "flextoe_drops_total", "counter", "Frames and segments dropped, by reason.");
  for (const auto& [reason, count] : facts.drops) {
    text += fmt::format("flextoe_drops_total{{{},reason={}}} {}\n", label, quoted(reason), count);
  }
  return text;
}

}  // namespace toe::engine
