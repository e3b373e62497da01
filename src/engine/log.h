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

/// Lines of `level` (debug, info, warning, error) and above go to stderr as "flextoe: LEVEL: text".
void start_log(const std::string& level);

/// Lets through a few lines of each kind per interval and counts the others, so that a hostile
/// program cannot fill the log. Thread: one.
class LogLimiter {
 public:
  static constexpr std::uint32_t kBurst = 5;
  static constexpr Nanos kInterval = seconds(10);
  static constexpr std::size_t kMaxKinds = 256;

  /// True when a line of this kind may be written now; `suppressed` is how many were not since
  /// the last one that was.
  bool allow(std::string_view kind, Time now, std::uint64_t& suppressed);

 private:
  struct State {
    Time since;
    std::uint32_t written = 0;
    std::uint64_t suppressed = 0;
  };
  std::map<std::string, State, std::less<>> kinds_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_LOG_H_
