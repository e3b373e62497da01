#include "datapath/rack.h"

#include <algorithm>

namespace toe::datapath {
namespace {

constexpr std::uint8_t kWindowPersist = 16;  // recoveries, RFC 8985 section 6.2 step 4
constexpr std::uint8_t kMaxWindowSteps = 255;

/// RACK_sent_after() of section 6.2.
bool sent_after(Time a, std::uint64_t a_end, Time b, std::uint64_t b_end) {
  return a > b || (a == b && a_end > b_end);
}

/// Step 2: an acknowledgement of bytes that left twice may answer the first copy.
bool ambiguous(const Delivery::Latest& latest, const RackClock& clock) {
  const Nanos rtt = clock.now - latest.sent;
  return (clock.echo && clock.echoed < latest.sent) || rtt < clock.min_rtt;
}

void take_latest(flow::RackState& rack, const Delivery::Latest& latest, const RackClock& clock) {
  if (latest.end == 0) return;
  // Runs carry the instant of their last byte: what arrived may have left a little earlier, but
  // nothing arrives sooner than the least round trip.
  const Nanos least = clock.min_rtt.ns == INT64_MAX ? Nanos{0} : clock.min_rtt;
  const Nanos rtt = std::max(clock.now - latest.sent, least);
  if (!sent_after(latest.sent, latest.end, rack.sent, rack.end)) return;
  rack.sent = latest.sent;
  rack.end = latest.end;
  rack.rtt = rtt;
}

}  // namespace

bool rack_update(flow::RackState& rack, const Delivery& delivery, const RackClock& clock) {
  take_latest(rack, delivery.fresh, clock);
  if (delivery.again.end != 0 && !ambiguous(delivery.again, clock)) {
    take_latest(rack, delivery.again, clock);
  }
  const bool seen = delivery.lowest_fresh < rack.fack && !rack.reordering;
  rack.reordering = rack.reordering || seen;
  rack.fack = std::max(rack.fack, delivery.highest);
  return seen;
}

Nanos rack_window(const flow::RackState& rack, const RackClock& clock, const RackContext& context) {
  if (!rack.reordering && (context.recovering || context.many_sacked)) return {0};
  if (clock.min_rtt.ns == INT64_MAX) return clock.srtt;
  return std::min(clock.min_rtt / 4 * rack.window_steps, clock.srtt);
}

void rack_on_dsack(flow::RackState& rack, std::uint64_t snd_una, std::uint64_t snd_max) {
  if (rack.dsack_round != 0 && snd_una < rack.dsack_round) return;
  rack.dsack_round = snd_max;
  if (rack.window_steps < kMaxWindowSteps) ++rack.window_steps;
  rack.window_persist = kWindowPersist;
}

void rack_on_recovered(flow::RackState& rack) {
  if (rack.window_persist == 0 || --rack.window_persist != 0) return;
  rack.window_steps = 1;
}

RackVerdict rack_detect(Scoreboard& board, const flow::RackState& rack, Nanos window, Time now) {
  RackVerdict verdict;
  if (rack.end == 0) return verdict;
  for (std::uint32_t i = 0; i < board.count(); ++i) {
    const Scoreboard::Run& run = board.run(i);
    if (run.sacked || run.lost) continue;
    if (!sent_after(rack.sent, rack.end, run.sent(), run.end)) continue;
    const Nanos remaining = (run.sent() + rack.rtt + window) - now;
    if (remaining.ns > 0) {
      verdict.wait = std::max(verdict.wait, remaining);
      continue;
    }
    verdict.lost += board.bytes_of(i);
    board.lose_run(i);
  }
  return verdict;
}

std::uint64_t rack_on_timeout(Scoreboard& board, Nanos age, Time now) {
  std::uint64_t lost = 0;
  for (std::uint32_t i = 0; i < board.count(); ++i) {
    const Scoreboard::Run& run = board.run(i);
    if (run.sacked || run.lost) continue;
    if (i != 0 && run.sent() + age > now) continue;
    lost += board.bytes_of(i);
    board.lose_run(i);
  }
  return lost;
}

}  // namespace toe::datapath
