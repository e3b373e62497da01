#include "engine/options.h"

#include <charconv>
#include <exception>

#include <fmt/format.h>

#include "base/limits.h"
#include "engine/congestion_routes.h"
#include "engine/metrics.h"
#include "shm/congestion_names.h"

namespace toe::engine {
namespace {

constexpr std::int64_t kMicro = 1000;
constexpr std::int64_t kSecond = 1'000'000'000;

constexpr OptionSpec kOptions[] = {
    {"dev", OptionType::kText, "", 0, 0, "IFACE", "network interface to share with the kernel"},
    {"name", OptionType::kText, "default", 0, 0, "NAME",
     "name of this engine; programs find it by its control socket RUNDIR/NAME.sock"},
    {"rundir", OptionType::kText, "/run/flextoe", 0, 0, "DIR", "directory of the control socket"},
    {"config", OptionType::kText, "", 0, 0, "FILE", "TOML file with these options"},
    {"layout", OptionType::kChoice, "rtc", 0, 0, "rtc",
     "placement of the stages; rtc runs all of them in one thread, best with few free cores"},
    {"groups", OptionType::kNumber, "1", 1, 1, "N", "flow groups"},
    {"cc", OptionType::kChoice, "cubic", 0, 0, shm::kCongestionNames,
     "congestion control of connections whose program (TCP_CONGESTION) and route choose none"},
    {"cc-route", OptionType::kPrefixList, "", 0, 0, "PREFIX=ALGO",
     "congestion control towards these addresses, as 10.0.0.0/8=dctcp; the longest prefix decides, "
     "before the kernel's route (ip route ... congctl) and --cc"},
    {"pacing", OptionType::kChoice, "off", 0, 0, "off|slow-start|on",
     "spread the segments of cubic, reno and dctcp over the round trip; off costs least and suits "
     "queues that hold a burst"},
    {"constant-rate", OptionType::kNumber, "0", 0, 400'000'000, "KBIT",
     "kbit/s of every connection under cc constant; 0 is unpaced"},
    {"constant-window", OptionType::kNumber, "0", 0, 1 << 30, "BYTES",
     "bytes in flight of every connection under cc constant; 0 is unlimited"},
    {"min-rto", OptionType::kDuration, "200ms", 1000 * kMicro, 60 * kSecond, "TIME",
     "least retransmission timeout; 200ms as Linux, lower in a data centre"},
    {"syn-cookies", OptionType::kChoice, "auto", 0, 0, "auto|never|always",
     "answer SYNs without keeping a record of them: when the backlog is full, never, or always"},
    {"ecn", OptionType::kChoice, "accept", 0, 0, "off|request|accept",
     "explicit congestion notification, as Linux tcp_ecn: never, ask peers for it and accept it, "
     "or accept it when asked; connections under dctcp and dctcp-rate always ask and accept"},
    {"ack", OptionType::kChoice, "delayed", 0, 0, "delayed|immediate",
     "acknowledge as Linux does, or every data segment at once"},
    {"rx-csum", OptionType::kChoice, "auto", 0, 0, "auto|verify|trust",
     "received checksums: auto verifies, and on a virtual pair also takes what a local sender left "
     "unfinished"},
    {"profile", OptionType::kChoice, "balanced", 0, 0, "eco|balanced|latency",
     "how long to yield before sleeping: 0, 50 us or 200 us"},
    {"vlan", OptionType::kNumberList, "", 1, 4094, "ID",
     "also serve frames tagged with this VLAN id; others pass to the kernel"},
    {"max-flows", OptionType::kNumber, "65536", 64, 1 << 20, "N", "connections at most"},
    {"max-flows-per-user", OptionType::kNumber, "32768", 1, 1 << 20, "N",
     "connections of one user at most, so that none takes all"},
    {"max-connecting-per-user", OptionType::kNumber, "8192", 1, 16384, "N",
     "connects of one user under way at most; half of all"},
    {"max-listeners-per-user", OptionType::kNumber, "2048", 1, 4096, "N",
     "listeners of one user at most; half of all"},
    {"max-buffers-per-user", OptionType::kNumber, "2147483648", 1 << 20, 1ll << 40, "BYTES",
     "bytes of all buffers of one user's connections at most"},
    {"max-programs-per-user", OptionType::kNumber, "1024", 1, 2048, "N",
     "attached programs of one user at most, but of root; half of all"},
    {"max-segments-per-user", OptionType::kNumber, "512", 1, 1024, "N",
     "shared memory segments of one user at most, but of root: each program needs one; half of "
     "all"},
    {"max-requests-per-user", OptionType::kNumber, "20000", 100, 1'000'000, "N",
     "questions per second that the programs of one user, but of root, may ask the engine (one per "
     "connect; a listen or an attach counts as 20); the rest waits"},
    {"max-rx-buffer", OptionType::kNumber, "4194304", 16 * 1024, 16 << 20, "BYTES",
     "receive buffer of one connection at most, unless the program sets SO_RCVBUF"},
    {"max-tx-buffer", OptionType::kNumber, "4194304", 16 * 1024, 16 << 20, "BYTES",
     "send buffer of one connection at most, unless the program sets SO_SNDBUF"},
    {"frames", OptionType::kNumber, "8192", 2048, 1 << 18, "N",
     "packet buffers; each holds one frame on its way in or out"},
    {"ignore-netfilter", OptionType::kSwitch, "false", 0, 0, "",
     "own ports although netfilter chains exist; they do not see our traffic"},
    {"socket-mode", OptionType::kOctal, "666", 0, 0777, "MODE",
     "mode of the control socket; showing a socket is the right to use it, so all may connect"},
    {"socket-group", OptionType::kText, "", 0, 0, "GROUP", "group of the control socket"},
    {"metrics", OptionType::kText, "", 0, 0, "ADDR:PORT",
     "serve http://ADDR:PORT/metrics for Prometheus; a loopback address, as nobody is asked for a "
     "password"},
    {"seccomp", OptionType::kSwitch, "true", 0, 0, "",
     "allow only the system calls that a serving engine makes (--seccomp=false for debuggers)"},
    {"log-level", OptionType::kChoice, "info", 0, 0, "debug|info|warning|error",
     "least weight of a line on stderr"},
};

template <typename Number>
bool parse_number(std::string_view text, Number& out, int base = 10) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, out, base);
  return !text.empty() && result.ec == std::errc() && result.ptr == end;
}

bool word_of(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const std::size_t bar = words.find('|');
    if (words.substr(0, bar) == word) return true;
    if (bar == std::string_view::npos) break;
    words.remove_prefix(bar + 1);
  }
  return false;
}

Error bad_value(const OptionSpec& option, const std::string& text, const std::string& want) {
  return {EINVAL, fmt::format("{} is '{}', but must be {}", option.name, text, want)};
}

Status check_number(const OptionSpec& option, const std::string& whole, std::string_view text) {
  std::int64_t value = 0;
  if (!parse_number(text, value) || value < option.min || value > option.max) {
    return bad_value(option, whole, fmt::format("a number from {} to {}", option.min, option.max));
  }
  return Done{};
}

Status check_list(const OptionSpec& option, const std::string& text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    Status status = check_number(option, text, rest.substr(0, comma));
    if (!status.ok()) return status;
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return Done{};
}

Status check_prefixes(const OptionSpec& option, const std::string& text) {
  const auto routes = CongestionRoutes::parse(text);
  if (routes.ok()) return Done{};
  return Error{EINVAL, fmt::format("{}: {}", option.name, routes.error().text)};
}

Status check_duration(const OptionSpec& option, const std::string& text) {
  Nanos value;
  if (!parse_duration(text, value) || value.ns < option.min || value.ns > option.max) {
    return bad_value(option, text,
                     fmt::format("a time from {}us to {}s, as in 200ms", option.min / kMicro,
                                 option.max / kSecond));
  }
  return Done{};
}

Status check_value(const OptionSpec& option, const std::string& text) {
  std::int64_t mode = 0;
  switch (option.type) {
    case OptionType::kText:
      return Done{};
    case OptionType::kNumber:
      return check_number(option, text, text);
    case OptionType::kNumberList:
      return check_list(option, text);
    case OptionType::kPrefixList:
      return check_prefixes(option, text);
    case OptionType::kDuration:
      return check_duration(option, text);
    case OptionType::kSwitch:
      if (text == "true" || text == "false") return Done{};
      return bad_value(option, text, "true or false");
    case OptionType::kChoice:
      if (word_of(option.words, text)) return Done{};
      return bad_value(option, text, fmt::format("one of {}", option.words));
    case OptionType::kOctal:
      if (parse_number(text, mode, 8) && mode >= option.min && mode <= option.max) return Done{};
      return bad_value(option, text, "an octal mode, as in 660");
  }
  return Done{};
}

Status check_metrics(const std::string& text) {
  const Result<LoopbackAddress> address = parse_loopback(text);
  return address.ok() ? Status(Done{}) : Status(address.error());
}

/// A name becomes part of a path and of messages.
Status check_engine_name(const std::string& text) {
  const bool legal = !text.empty() && text.size() <= 64 && text[0] != '.' &&
                     text.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789-_.") == std::string::npos;
  if (legal) return Done{};
  return Error{EINVAL, fmt::format("name is '{}', but must be 1 to 64 letters, digits, '-', '_' "
                                   "or '.', not beginning with '.'",
                                   text)};
}

}  // namespace

std::span<const OptionSpec> option_table() { return kOptions; }

const OptionSpec* find_option(std::string_view name) {
  for (const OptionSpec& option : kOptions) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

std::string environment_name(const OptionSpec& option) {
  std::string name = "FLEXTOE_";
  for (const char c : option.name) {
    name += c == '-' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return name;
}

std::string_view source_name(Source source) {
  static constexpr std::string_view names[] = {"default", "file", "environment", "flag"};
  return names[static_cast<std::size_t>(source)];
}

bool parse_duration(std::string_view text, Nanos& out) {
  const std::size_t digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || digits > 12) return false;
  std::int64_t value = 0;
  if (!parse_number(text.substr(0, digits), value)) return false;
  const std::string_view unit = text.substr(digits);
  const std::int64_t scale = unit == "us"   ? kMicro
                             : unit == "ms" ? 1000 * kMicro
                             : unit == "s"  ? kSecond
                                            : 0;
  if (scale == 0 || value > INT64_MAX / scale) return false;
  out = {value * scale};
  return true;
}

Settings::Settings() {
  for (const OptionSpec& option : kOptions) {
    values_[std::string(option.name)] = {std::string(option.initial), Source::kDefault};
  }
}

Status Settings::set(std::string_view name, const std::string& text, Source source) {
  const OptionSpec* option = find_option(name);
  if (option == nullptr) return Error{EINVAL, fmt::format("there is no option '{}'", name)};
  Status status = check_value(*option, text);
  if (status.ok() && name == "name") status = check_engine_name(text);
  if (status.ok() && name == "metrics" && !text.empty()) status = check_metrics(text);
  if (!status.ok()) return status;
  Value& value = values_.find(name)->second;
  if (source >= value.source) value = {text, source};
  return Done{};
}

const Settings::Value& Settings::value(std::string_view name) const {
  const auto found = values_.find(name);
  TOE_CHECK(found != values_.end());
  return found->second;
}

const std::string& Settings::text(std::string_view name) const { return value(name).text; }

Source Settings::source(std::string_view name) const { return value(name).source; }

bool Settings::on(std::string_view name) const { return text(name) == "true"; }

std::int64_t Settings::number(std::string_view name) const {
  std::int64_t number = 0;
  TOE_CHECK(
      parse_number(text(name), number, find_option(name)->type == OptionType::kOctal ? 8 : 10));
  return number;
}

Nanos Settings::duration(std::string_view name) const {
  Nanos duration;
  TOE_CHECK(parse_duration(text(name), duration));
  return duration;
}

std::vector<std::int64_t> Settings::numbers(std::string_view name) const {
  std::vector<std::int64_t> numbers;
  std::string_view rest = text(name);
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    TOE_CHECK(parse_number(rest.substr(0, comma), numbers.emplace_back()));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return numbers;
}

Status load_environment(Settings& settings,
                        const std::function<const char*(const std::string&)>& lookup) {
  for (const OptionSpec& option : kOptions) {
    const std::string variable = environment_name(option);
    const char* text = lookup(variable);
    if (text == nullptr || *text == '\0') continue;
    const Status status = settings.set(option.name, text, Source::kEnvironment);
    if (!status.ok()) {
      return Error{EINVAL, fmt::format("environment {}: {}", variable, status.error().text)};
    }
  }
  return Done{};
}

}  // namespace toe::engine
