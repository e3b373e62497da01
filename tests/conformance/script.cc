#include "conformance/script.h"

#include <charconv>
#include <fstream>

namespace toe::conformance {
namespace {

constexpr const char* kSpaces = " \t";

std::size_t end_of_word(const std::string& line, std::size_t at) {
  const bool options = line[at] == '<' && at + 1 < line.size() && line[at + 1] != ' ';
  if (!options && line[at] != '"') return std::min(line.find_first_of(kSpaces, at), line.size());
  const std::size_t end = line.find(options ? '>' : '"', at + 1);
  if (end == std::string::npos) throw Failure("no end of " + line.substr(at));
  return end + 1;
}

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

Block range(const std::string& word) {
  const auto parts = parts_of(word, ':');
  if (parts.size() != 2) throw Failure("not a range: " + word);
  return {static_cast<std::uint32_t>(number(parts[0])),
          static_cast<std::uint32_t>(number(parts[1]))};
}

std::vector<std::uint8_t> hex_bytes(const std::string& word) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < word.size(); i += 2) {
    std::uint8_t byte = 0;
    const char* at = word.data() + i;
    if (std::from_chars(at, at + 2, byte, 16).ptr != at + 2) throw Failure("not hex: " + word);
    bytes.push_back(byte);
  }
  return bytes;
}

long value_or_any(const std::vector<std::string>& words) {
  return words.size() < 2 || words[1] == "any" ? -1 : number(words[1]);
}

void parse_option(const std::vector<std::string>& words, OptionText& o) {
  const std::string& name = words[0];
  if (name == "mss") {
    o.mss = value_or_any(words);
  } else if (name == "wscale") {
    o.wscale = value_or_any(words);
  } else if (name == "sackOK") {
    o.sack_ok = true;
  } else if (name == "nots") {
    o.no_ts = true;
  } else if (name == "*") {
    o.any = true;
  } else if (name == "ts") {
    o.ts = value_or_any(words);
    if (words.size() == 4 && words[2] == "ecr") o.echo = words[3];
  } else if (name == "ecr" && words.size() == 2) {
    o.ts = -1;
    o.echo = words[1];
  } else if (name == "sack") {
    for (std::size_t i = 1; i < words.size(); ++i) o.sacks.push_back(range(words[i]));
  } else if (name == "raw" && words.size() == 2) {
    o.raw = hex_bytes(words[1]);
  } else {
    throw Failure("not an option: " + name);
  }
}

std::uint8_t parse_flags(const std::string& word) {
  static const std::string letters = "FSRP.UEW";
  std::uint8_t flags = 0;
  for (const char c : word) {
    const std::size_t at = letters.find(c);
    if (at == std::string::npos) throw Failure("not flags: " + word);
    flags = static_cast<std::uint8_t>(flags | (1u << at));
  }
  return flags;
}

/// SEQ or SEQ:END, or W+N:W+M from the window's edge.
void parse_range(const std::string& word, SegmentText& s) {
  s.from_edge = word[0] == 'W';
  const auto place = [&](const std::string& text) {
    if (!s.from_edge) return number(text);
    if (text[0] != 'W') throw Failure("not from the edge: " + text);
    const std::string offset = text.substr(text.size() > 1 && text[1] == '+' ? 2 : 1);
    return offset.empty() ? 0 : number(offset);
  };
  const auto parts = parts_of(word, ':');
  s.seq = place(parts[0]);
  if (parts.size() == 2) s.end = place(parts[1]);
}

void parse_window(std::string word, SegmentText& s) {
  if (word[0] == '<' || word[0] == '>') {
    s.win_compare = word[0];
    word.erase(0, 1);
  }
  s.win = number(word);
}

std::uint8_t parse_ecn(const std::string& word) {
  static const std::pair<const char*, Ecn> names[] = {
      {"no", kNotEct}, {"ect", kEct0}, {"ect1", kEct1}, {"ce", kCe}};
  for (const auto& [name, value] : names) {
    if (word == name) return value;
  }
  throw Failure("not an ECN field: " + word);
}

/// "A..B" in milliseconds.
void parse_times(const std::string& word, SegmentText& s) {
  const std::size_t dots = word.find("..");
  if (dots == std::string::npos) throw Failure("not A..B: " + word);
  s.at_least = number(word.substr(0, dots));
  s.at_most = number(word.substr(dots + 2));
}

bool takes_setting(Script& script, const std::vector<std::string>& w, const std::string& line) {
  const auto rest = [&] { return line.substr(line.find(w[0]) + w[0].size() + 1); };
  if (w[0] == "rule") return script.rule = rest(), true;
  if (w[0] == "without") return script.defect = rest(), true;
  if (w[0] != "linux" && w[0] != "engine") return false;
  if (w.size() < 3) throw Failure("a setting has a name and a value");
  Settings& settings = w[0] == "linux" ? script.linux_settings : script.engine_settings;
  std::string value = w[2];
  for (std::size_t i = 3; i < w.size(); ++i) value += " " + w[i];
  settings[w[1]] = value;
  return true;
}

}  // namespace

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> words;
  for (std::size_t at = line.find_first_not_of(kSpaces); at != std::string::npos;) {
    if (line[at] == '#') break;
    const std::size_t end = end_of_word(line, at);
    words.push_back(line.substr(at, end - at));
    at = line.find_first_not_of(kSpaces, end);
  }
  return words;
}

long number(const std::string& word) {
  long value = 0;
  const char* end = word.data() + word.size();
  const auto result = std::from_chars(word.data(), end, value);
  if (word.empty() || result.ec != std::errc{} || result.ptr != end) {
    throw Failure("not a number: " + word);
  }
  return value;
}

Script read_script(const std::string& path) {
  Script script;
  script.path = path;
  std::ifstream file(path);
  if (!file) throw Failure("cannot be read");
  std::string line;
  for (int n = 1; std::getline(file, line); ++n) {
    Statement s;
    s.line = n;
    s.text = line;
    s.words = split(line);
    if (s.words.empty() || takes_setting(script, s.words, line)) continue;
    if (s.words[0] == "[linux]" || s.words[0] == "[engine]") {
      s.only = s.words[0].substr(1, s.words[0].size() - 2);
      s.words.erase(s.words.begin());
    }
    if (!s.words.empty()) script.statements.push_back(s);
  }
  if (script.rule.empty() || script.defect.empty()) {
    throw Failure("names no rule, or no defect that removes it");
  }
  return script;
}

OptionText parse_options(const std::string& word) {
  OptionText o;
  for (const std::string& part : parts_of(word.substr(1, word.size() - 2), ',')) {
    const auto words = split(part);
    if (!words.empty()) parse_option(words, o);
  }
  return o;
}

SegmentText parse_segment(const std::vector<std::string>& words) {
  SegmentText s;
  if (words.empty()) throw Failure("a segment has flags");
  s.flags = parse_flags(words[0]);
  std::size_t i = 1;
  if (i < words.size() && std::string("-W0123456789").find(words[i][0]) != std::string::npos) {
    parse_range(words[i++], s);
  }
  while (i < words.size()) {
    const std::string& name = words[i++];
    if (name[0] == '<' && name.back() == '>') {
      s.options = parse_options(name);
      continue;
    }
    if (i == words.size()) throw Failure("nothing behind " + name);
    const std::string& value = words[i++];
    if (name == "ack") {
      s.ack = number(value);
    } else if (name == "win") {
      parse_window(value, s);
    } else if (name == "not") {
      s.without = parse_flags(value);
    } else if (name == "ecn") {
      s.ecn = parse_ecn(value);
    } else if (name == "urg") {
      s.urgent = number(value);
    } else if (name == "by") {
      s.by = number(value);
    } else if (name == "fill") {
      s.fill = value;
    } else if (name == "as") {
      s.label = value;
    } else if (name == "at") {
      parse_times(value, s);
    } else {
      throw Failure("not part of a segment: " + name);
    }
  }
  return s;
}

}  // namespace toe::conformance
