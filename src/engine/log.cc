#include "engine/log.h"

#include <memory>
#include <utility>

#include <spdlog/sinks/stdout_sinks.h>

namespace toe::engine {

void start_log(const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>("flextoe",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("flextoe: %l: %v");
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

bool LogLimiter::allow(std::string_view kind, Time now, std::uint64_t& suppressed) {
  auto found = kinds_.find(kind);
  if (found == kinds_.end()) {
    if (kinds_.size() >= kMaxKinds) return false;
    found = kinds_.emplace(std::string(kind), State{now}).first;
  }
  State& state = found->second;
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
