// Counters and levels in Prometheus' text exposition format (version 0.0.4). Pure.
#ifndef TOE_ENGINE_EXPOSITION_H_
#define TOE_ENGINE_EXPOSITION_H_

#include <cstdint>
#include <string>

#include "engine/json.h"

namespace toe::engine {

/// Every counter as flextoe_NAME_total, every drop as flextoe_drops_total{reason="NAME"}, every
/// level as a gauge flextoe_NAME; all carry the label `engine`.
std::string exposition_text(const StatsFacts& facts, const StatusFacts& engine,
                            std::int64_t uptime_s);

}  // namespace toe::engine

#endif  // TOE_ENGINE_EXPOSITION_H_
