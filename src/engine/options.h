// Settings of `flextoe run`: one table of all options, and their values with where each came from.
//
// Order of precedence: flag, environment (FLEXTOE_*), file, default. Every value is checked when it
// is set, whatever its source.
#ifndef TOE_ENGINE_OPTIONS_H_
#define TOE_ENGINE_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace toe::engine {

enum class OptionType : std::uint8_t {
  kText,
  kNumber,
  kDuration,    ///< number with unit: us, ms or s
  kSwitch,      ///< true or false; a flag without a value means true
  kChoice,      ///< one of the words in `words`
  kPrefixList,  ///< PREFIX=ALGORITHM, separated by commas; a flag may be given several times
  kNumberList,  ///< numbers separated by commas; a flag may be given several times
  kOctal,       ///< file mode
};

/// One option. Drives --help, checking of all sources and `flextoe config`.
struct OptionSpec {
  std::string_view name;  ///< flag without dashes, key in the file
  OptionType type;
  std::string_view initial;  ///< default, as it would be written
  std::int64_t min = 0;      ///< numbers; durations in nanoseconds
  std::int64_t max = 0;
  std::string_view words;   ///< kChoice: separated by '|'; else what --help calls the value
  std::string_view reason;  ///< what it does and why the default is what it is
};

std::span<const OptionSpec> option_table();
/// nullptr when there is no such option.
const OptionSpec* find_option(std::string_view name);
/// FLEXTOE_MAX_FLOWS for max-flows.
std::string environment_name(const OptionSpec& option);

enum class Source : std::uint8_t { kDefault, kFile, kEnvironment, kFlag };
std::string_view source_name(Source source);

class Settings {
 public:
  /// All defaults.
  Settings();

  /// Checks and stores; a value of a stronger source stays. Fails with one sentence.
  Status set(std::string_view name, const std::string& text, Source source);

  const std::string& text(std::string_view name) const;
  std::int64_t number(std::string_view name) const;
  Nanos duration(std::string_view name) const;
  bool on(std::string_view name) const;
  std::vector<std::int64_t> numbers(std::string_view name) const;
  Source source(std::string_view name) const;

 private:
  struct Value {
    std::string text;
    Source source = Source::kDefault;
  };
  const Value& value(std::string_view name) const;

  std::map<std::string, Value, std::less<>> values_;
};

/// Reads every FLEXTOE_* variable that stands for an option; `lookup` returns nullptr if unset.
Status load_environment(Settings& settings,
                        const std::function<const char*(const std::string&)>& lookup);
/// Reads a TOML file: keys of the top level are option names, nothing else is accepted.
Status load_file(Settings& settings, const std::string& path);

/// "1500us", "200ms", "2s" to nanoseconds; false when it is none of these.
bool parse_duration(std::string_view text, Nanos& out);

}  // namespace toe::engine

#endif  // TOE_ENGINE_OPTIONS_H_
