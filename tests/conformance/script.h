// The text of a packet script as statements. The language is described in docs/conformance.md.
#ifndef TOE_CONFORMANCE_SCRIPT_H_
#define TOE_CONFORMANCE_SCRIPT_H_

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "conformance/segment.h"
#include "conformance/subject.h"

namespace toe::conformance {

/// What a script is refused or failed for: a sentence.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Statement {
  int line = 0;
  std::string only;                ///< "linux", "engine", or "" for both
  std::vector<std::string> words;  ///< `<options>` and "text" are one word each
  std::string text;
};

struct Script {
  std::string path;
  std::string rule, defect;
  Settings linux_settings, engine_settings;
  std::vector<Statement> statements;
};

Script read_script(const std::string& path);
std::vector<std::string> split(const std::string& line);
long number(const std::string& word);

/// Options as a script writes them; sequence numbers are relative.
struct OptionText {
  std::optional<long> mss, wscale, ts;  ///< -1 = any value
  std::optional<std::string> echo;      ///< number or label; none = what was heard last
  bool sack_ok = false;
  bool no_ts = false;
  bool any = false;  ///< `<*>`: whatever they are
  std::vector<Block> sacks;
  std::vector<std::uint8_t> raw;
};

OptionText parse_options(const std::string& word);

/// A segment as a script writes it.
struct SegmentText {
  std::uint8_t flags = 0;
  std::uint8_t without = 0;  ///< flags that must not be there
  std::optional<long> seq, end, ack, win, urgent;
  std::optional<std::uint8_t> ecn;
  bool from_edge = false;  ///< seq and end count from the window's right edge, not from the SYN
  char win_compare = '=';  ///< '=', '<' or '>'
  long by = 0;             ///< the range comes in segments of so many bytes
  std::optional<OptionText> options;
  std::string fill;  ///< payload: one character, repeated
  std::string label;
  long at_least = -1, at_most = -1;  ///< ms since what came before
};

SegmentText parse_segment(const std::vector<std::string>& words);

}  // namespace toe::conformance

#endif  // TOE_CONFORMANCE_SCRIPT_H_
