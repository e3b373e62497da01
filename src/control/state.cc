#include "control/state.h"

#include <cstring>

namespace toe::control {
namespace {

flow::HashKey derive(const Secrets& s, std::uint64_t tweak) {
  return {s.isn.k0 ^ (s.random + tweak), s.isn.k1 + tweak * 0x9e3779b97f4a7c15ull};
}

// Record numbers with the lowest on top.
std::vector<std::uint32_t> all_free(std::uint32_t n) {
  std::vector<std::uint32_t> v(n);
  for (std::uint32_t i = 0; i < n; ++i) v[i] = n - 1 - i;
  return v;
}

const Congestion* default_algorithm(const Options& o) {
  const Congestion* c = find_congestion({o.congestion, strnlen(o.congestion, sizeof o.congestion)});
  return c != nullptr ? c : &cubic();
}

}  // namespace

State::State(const Options& o, const Secrets& s, const Links& l)
    : options(o),
      secrets(s),
      links(l),
      world(l.world),
      flows(l.flows),
      commands(l.commands),
      default_congestion(default_algorithm(o)),
      conns(o.max_flows),
      free_conns(all_free(o.max_flows)),
      attempts(kMaxAttempts),
      free_attempts(all_free(kMaxAttempts)),
      index(o.max_flows + kMaxAttempts, derive(s, 1)),
      timers(o.max_flows + kMaxAttempts),
      time_wait(o.max_time_wait, o.time_wait, derive(s, 2)),
      routes(l.world, derive(s, 3)),
      port_uses(l.world),
      listeners(kMaxListeners),
      free_listeners(all_free(kMaxListeners)),
      listeners_on_port(65536, kNil),
      segments(kMaxSegments),
      claimed_cookies(64, ClaimedCookie::Hash{derive(s, 4)}),
      headers(kHeaderTemplates),
      free_headers(all_free(kHeaderTemplates)) {
  TOE_CHECK(l.flows.size() >= o.max_flows);
  pools.reserve(kMaxPools);
}

}  // namespace toe::control
