#include "engine/log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <mutex>
#include <utility>

#include <spdlog/sinks/base_sink.h>

#include "engine/clock.h"

namespace toe::engine {
namespace {

constexpr std::size_t kShapeBytes = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// syslog's numbers.
int priority_of(spdlog::level::level_enum weight) {
  switch (weight) {
    case spdlog::level::critical:
    case spdlog::level::err:
      return 3;
    case spdlog::level::warn:
      return 4;
    case spdlog::level::info:
      return 6;
    default:
      return 7;
  }
}

/// "2026-01-31T12:00:00Z".
std::string utc(std::time_t seconds) {
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

/// stderr, one write per line.
class StderrSink : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    std::uint64_t suppressed = 0;
    if (!limiter_.allow(line_shape(text), clock_now(), suppressed)) return;
    std::string line =
        stderr_target() == LogTarget::kJournal
            ? fmt::format("<{}>", priority_of(message.level))
            : fmt::format("flextoe: {} {}: ", utc(spdlog::log_clock::to_time_t(message.time)),
                          level_word(message.level));
    line += safe_line(text);
    if (suppressed != 0) line += fmt::format(" ({} more like this were not written)", suppressed);
    line += '\n';
    (void)!::write(STDERR_FILENO, line.data(), line.size());
  }
  void flush_() override {}

 private:
  static std::string_view level_word(spdlog::level::level_enum level) {
    const auto word = spdlog::level::to_string_view(level);
    return {word.data(), word.size()};
  }

  LogLimiter limiter_;
};

}  // namespace

LogTarget log_target(const char* journal_stream, int fd) {
  struct stat file {};
  if (journal_stream == nullptr || ::fstat(fd, &file) != 0) return LogTarget::kPlain;
  const bool same = fmt::format("{}:{}", file.st_dev, file.st_ino) == journal_stream;
  return same ? LogTarget::kJournal : LogTarget::kPlain;
}

LogTarget stderr_target() {
  static const LogTarget target = log_target(std::getenv("JOURNAL_STREAM"), STDERR_FILENO);
  return target;
}

const char* line_start(spdlog::level::level_enum weight) {
  if (stderr_target() == LogTarget::kPlain) return "flextoe: ";
  return weight >= spdlog::level::err ? "<3>" : "<6>";
}

void start_log(const std::string& level) {
  // Looks at environment and files that may be out of reach once the engine has given up its
  // rights: the C library reads /etc/localtime even for UTC.
  (void)stderr_target();
  (void)utc(0);
  auto logger = std::make_shared<spdlog::logger>("flextoe", std::make_shared<StderrSink>());
  logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(logger));
}

std::string line_shape(std::string_view text) {
  std::string shape;
  for (const char c : text) {
    if (shape.size() == kShapeBytes) break;
    if (!is_digit(c)) {
      shape += c;
    } else if (shape.empty() || shape.back() != '#') {
      shape += '#';
    }
  }
  return shape;
}

std::string safe_line(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  return line;
}

LogLimiter::State& LogLimiter::state_of(std::string_view kind, Time now) {
  const auto found = kinds_.find(kind);
  if (found != kinds_.end()) return found->second;
  if (kinds_.size() >= kMaxKinds) {
    std::erase_if(kinds_,
                  [now](const auto& entry) { return now - entry.second.since >= kInterval; });
  }
  if (kinds_.size() >= kMaxKinds) return others_;
  return kinds_.emplace(std::string(kind), State{now}).first->second;
}

bool LogLimiter::allow(std::string_view kind, Time now, std::uint64_t& suppressed) {
  State& state = state_of(kind, now);
  if (now - state.since >= kInterval) {
    state.since = now;
    state.written = 0;
  }
  if (state.written >= kBurst) {
    ++state.suppressed;
    return false;
  }
  ++state.written;
  suppressed = std::exchange(state.suppressed, 0);
  return true;
}

}  // namespace toe::engine
