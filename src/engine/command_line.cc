#include "engine/command_line.h"

#include <fmt/format.h>

namespace toe::engine {
namespace {

std::string flag_name(const OptionSpec& option) { return "--" + std::string(option.name); }

std::string value_name(const OptionSpec& option) {
  switch (option.type) {
    case OptionType::kNumber:
      return fmt::format("{} ({} to {})", option.words, option.min, option.max);
    case OptionType::kChoice:
      return "{" + std::string(option.words) + "}";
    default:
      return std::string(option.words);
  }
}

std::string help_text(const OptionSpec& option) {
  std::string text(option.reason);
  if (!option.initial.empty() && option.type != OptionType::kSwitch) {
    text += fmt::format(" [{}]", option.initial);
  }
  return text;
}

/// What was given for a flag: several values of a list are joined.
std::string given_text(const OptionSpec& option, const CLI::Option& flag) {
  if (option.type == OptionType::kSwitch) {
    return flag.results().back();
  }
  std::string text;
  for (const std::string& value : flag.results()) text += (text.empty() ? "" : ",") + value;
  return text;
}

Status take_flags(Settings& settings, const CLI::App& command) {
  for (const OptionSpec& option : option_table()) {
    const CLI::Option* flag = command.get_option(flag_name(option));
    if (flag->count() == 0) continue;
    const Status status = settings.set(option.name, given_text(option, *flag), Source::kFlag);
    if (!status.ok()) return Error{EINVAL, "--" + status.error().text};
  }
  return Done{};
}

}  // namespace

void add_flags(CLI::App& command) {
  for (const OptionSpec& option : option_table()) {
    CLI::Option* flag = nullptr;
    if (option.type == OptionType::kSwitch) {
      flag = command.add_flag(flag_name(option));
    } else {
      flag = command.add_option(flag_name(option));
      flag->type_name(value_name(option));
    }
    flag->description(help_text(option));
    if (option.type == OptionType::kNumberList || option.type == OptionType::kPrefixList) {
      flag->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      flag->expected(1);
    }
  }
}

Result<Settings> collect_settings(
    const CLI::App& command, const std::function<const char*(const std::string&)>& environment) {
  Settings settings;
  Status status = take_flags(settings, command);
  if (status.ok()) status = load_environment(settings, environment);
  if (status.ok() && !settings.text("config").empty()) {
    status = load_file(settings, settings.text("config"));
  }
  if (!status.ok()) return status.error();
  if (settings.text("dev").empty()) {
    return Error{EINVAL, "name the network interface with --dev IFACE"};
  }
  return settings;
}

}  // namespace toe::engine
