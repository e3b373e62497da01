#include "netlab/impairments.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>

namespace toe::netlab {
namespace {

/// A number and the unit that follows it.
struct Quantity {
  double value = 0;
  std::string unit;
};

std::optional<Quantity> quantity(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || !std::isfinite(value) || value < 0) return std::nullopt;
  return Quantity{value, end};
}

template <std::size_t N>
std::optional<double> scaled(const std::string& text,
                             const std::pair<const char*, double> (&units)[N]) {
  const auto q = quantity(text);
  if (!q) return std::nullopt;
  for (const auto& [unit, factor] : units) {
    if (q->unit == unit) return q->value * factor;
  }
  return std::nullopt;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) break;
    text.remove_prefix(at + 1);
  }
  return parts;
}

bool read(const std::string& text, double& chance) {
  static constexpr std::pair<const char*, double> kUnits[] = {{"", 1}, {"%", 0.01}};
  const auto value = scaled(text, kUnits);
  if (value) chance = *value;
  return value && *value <= 1;
}

bool read(const std::string& text, Nanos& time) {
  static constexpr std::pair<const char*, double> kUnits[] = {
      {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
  const auto value = scaled(text, kUnits);
  if (value) time.ns = std::llround(std::min(*value, 1e12));
  return value && *value <= 1e12;
}

bool read(const std::string& text, std::uint64_t& number) {
  char* end = nullptr;
  number = std::strtoull(text.c_str(), &end, 10);
  return !text.empty() && text[0] >= '0' && text[0] <= '9' && *end == 0;
}

bool read(const std::string& text, std::uint32_t& number) {
  std::uint64_t wide = 0;
  const bool ok = read(text, wide) && wide <= 1'000'000;
  number = static_cast<std::uint32_t>(wide);
  return ok;
}

bool read_rate(const std::string& text, std::uint64_t& rate) {
  static constexpr std::pair<const char*, double> kUnits[] = {
      {"bit", 1}, {"kbit", 1e3}, {"Mbit", 1e6}, {"Gbit", 1e9}};
  const auto value = scaled(text, kUnits);
  if (value) rate = static_cast<std::uint64_t>(std::min(*value, 1e12));
  return value && *value >= 1 && *value <= 1e12;
}

/// "100" is frames, "64kB" bytes.
bool read(const std::string& text, Amount& amount) {
  static constexpr std::pair<const char*, double> kUnits[] = {{"B", 1}, {"kB", 1e3}, {"MB", 1e6}};
  amount = {};
  if (read(text, amount.frames)) return amount.frames > 0;
  amount.frames = 0;
  const auto bytes = scaled(text, kUnits);
  if (bytes) amount.bytes = static_cast<std::uint64_t>(std::min(*bytes, 1e12));
  return amount.bytes > 0;
}

/// "ENTER/LEAVE" or "ENTER/LEAVE/LOSS".
bool read(const std::string& text, Burst& burst) {
  const auto parts = split(text, '/');
  if (parts.size() < 2 || parts.size() > 3) return false;
  burst = {};
  return read(parts[0], burst.enter) && read(parts[1], burst.leave) && burst.leave > 0 &&
         (parts.size() == 2 || read(parts[2], burst.loss));
}

/// "3:7:9-12", in order.
bool read(const std::string& text, std::vector<FrameRange>& ranges) {
  ranges.clear();
  for (const std::string& part : split(text, ':')) {
    const auto ends = split(part, '-');
    FrameRange range;
    if (ends.empty() || ends.size() > 2 || !read(ends[0], range.first)) return false;
    range.last = range.first;
    if (ends.size() == 2 && !read(ends[1], range.last)) return false;
    const std::uint64_t before = ranges.empty() ? 0 : ranges.back().last;
    if (range.first <= before || range.last < range.first) return false;
    ranges.push_back(range);
  }
  return !ranges.empty();
}

bool read(const std::string& text, Select& select) {
  if (text == "all") select = Select::kAll;
  if (text == "tcp") select = Select::kTcp;
  if (text == "data") select = Select::kData;
  return text == "all" || text == "tcp" || text == "data";
}

enum class Outcome { kRead, kBadValue, kUnknown };

Outcome set(Impairments& out, const std::string& key, const std::string& value) {
  const auto outcome = [](bool ok) { return ok ? Outcome::kRead : Outcome::kBadValue; };
  if (key == "select") return outcome(read(value, out.select));
  if (key == "loss") return outcome(read(value, out.loss));
  if (key == "burst") return outcome(read(value, out.burst));
  if (key == "every") return outcome(read(value, out.every) && out.every > 0);
  if (key == "lose") return outcome(read(value, out.lose));
  if (key == "duplicate") return outcome(read(value, out.duplicate));
  if (key == "reorder") return outcome(read(value, out.reorder));
  if (key == "reorder-by") return outcome(read(value, out.reorder_by));
  if (key == "reorder-distance") return outcome(read(value, out.reorder_distance));
  if (key == "corrupt") return outcome(read(value, out.corrupt));
  if (key == "delay") return outcome(read(value, out.delay));
  if (key == "jitter") return outcome(read(value, out.jitter));
  if (key == "rate") return outcome(read_rate(value, out.rate));
  if (key == "queue") return outcome(read(value, out.queue));
  if (key == "mark") return outcome(read(value, out.mark));
  if (key == "mark-above") return outcome(read(value, out.mark_above));
  return Outcome::kUnknown;
}

std::string shortest(double value) {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

/// "key=value" items, joined by commas.
class Items {
 public:
  void add(const char* key, const std::string& value) {
    text_ += (text_.empty() ? "" : ",") + std::string(key) + '=' + value;
  }
  void chance(const char* key, double value) {
    if (value > 0) add(key, shortest(value));
  }
  void time(const char* key, Nanos value) {
    if (value.ns > 0) add(key, std::to_string(value.ns) + "ns");
  }
  void amount(const char* key, const Amount& value) {
    if (value.frames != 0) add(key, std::to_string(value.frames));
    if (value.bytes != 0) add(key, std::to_string(value.bytes) + 'B');
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string text_of(const std::vector<FrameRange>& ranges) {
  std::string text;
  for (const FrameRange& range : ranges) {
    text += (text.empty() ? "" : ":") + std::to_string(range.first);
    if (range.last != range.first) text += '-' + std::to_string(range.last);
  }
  return text;
}

}  // namespace

Result<Impairments> Impairments::parse(std::string_view text) {
  Impairments out;
  for (const std::string& item : split(text, ',')) {
    const std::size_t at = item.find('=');
    const std::string key = item.substr(0, at);
    const std::string value = at == std::string::npos ? "" : item.substr(at + 1);
    switch (set(out, key, value)) {
      case Outcome::kRead:
        break;
      case Outcome::kBadValue:
        return Error{EINVAL, "\"" + value + "\" is no value of " + key};
      case Outcome::kUnknown:
        return Error{EINVAL, "there is no impairment \"" + key + "\""};
    }
  }
  if (out.rate == 0 && (out.mark_above.frames != 0 || out.mark_above.bytes != 0)) {
    return Error{EINVAL, "mark-above needs a rate: without one nothing waits"};
  }
  return out;
}

std::string Impairments::text() const {
  Items items;
  if (select != Select::kAll) items.add("select", select == Select::kTcp ? "tcp" : "data");
  items.chance("loss", loss);
  if (burst.enter > 0) {
    items.add("burst",
              shortest(burst.enter) + '/' + shortest(burst.leave) + '/' + shortest(burst.loss));
  }
  if (every != 0) items.add("every", std::to_string(every));
  if (!lose.empty()) items.add("lose", text_of(lose));
  items.chance("duplicate", duplicate);
  items.chance("reorder", reorder);
  if (reorder > 0) items.time("reorder-by", reorder_by);
  if (reorder > 0 && reorder_distance != 0)
    items.add("reorder-distance", std::to_string(reorder_distance));
  items.chance("corrupt", corrupt);
  items.time("delay", delay);
  items.time("jitter", jitter);
  if (rate != 0) items.add("rate", std::to_string(rate) + "bit");
  if (rate != 0) items.amount("queue", queue);
  items.chance("mark", mark);
  items.amount("mark-above", mark_above);
  return items.text();
}

}  // namespace toe::netlab
