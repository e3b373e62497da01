// The engine's log: one line per event on stderr. Admin thread and start-up only.
#ifndef TOE_ENGINE_LOG_H_
#define TOE_ENGINE_LOG_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <spdlog/spdlog.h>

#include "base/types.h"

namespace toe::engine {

/// Where stderr leads. The journal knows the program and the time, and takes a line's weight from
/// a prefix (sd-daemon(3)); a file or a terminal has to be told.
enum class LogTarget : std::uint8_t { kPlain, kJournal };

/// `journal_stream`: $JOURNAL_STREAM, "device:inode" of the journal's socket; nullptr if unset.
LogTarget log_target(const char* journal_stream, int fd);
/// The same for this process and its stderr, looked at once.
LogTarget stderr_target();

/// How lines of this process begin that are no log: "flextoe: ", in the journal "<3>" (error) or
/// "<6>" (information).
const char* line_start(spdlog::level::level_enum weight);

/// Lines of `level` (debug, info, warning, error) and above go to stderr as
/// "flextoe: TIME LEVEL: text" (UTC), in the journal as "<N>text". Lines of one kind, which differ
/// in numbers only, are limited as LogLimiter says.
void start_log(const std::string& level);

/// `text` with every number replaced by '#', cut to a length: lines of one kind have one shape.
std::string line_shape(std::string_view text);

/// A line without bytes that would begin another one or steer a terminal.
std::string safe_line(std::string_view text);

/// Lets through a few lines of each kind per interval and counts the others, so that a hostile
/// program cannot fill the log. Thread: one.
class LogLimiter {
 public:
  static constexpr std::uint32_t kBurst = 5;
  static constexpr Nanos kInterval = seconds(10);
  /// At a time; those beyond share one allowance.
  static constexpr std::size_t kMaxKinds = 64;

  /// True when a line of this kind may be written now; `suppressed` is how many were not since
  /// the last one that was.
  bool allow(std::string_view kind, Time now, std::uint64_t& suppressed);

 private:
  struct State {
    Time since;
    std::uint32_t written = 0;
    std::uint64_t suppressed = 0;
  };
  State& state_of(std::string_view kind, Time now);

  std::map<std::string, State, std::less<>> kinds_;
  State others_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_LOG_H_
