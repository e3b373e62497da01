// Cost of the flow scheduler per segment: round robin, and paced with many flows waiting.
#include <benchmark/benchmark.h>

#include "datapath/scheduler.h"

namespace {

using namespace toe;
using namespace toe::datapath;

void serve(benchmark::State& state, std::uint64_t bytes_per_s) {
  const auto flows = static_cast<std::uint32_t>(state.range(0));
  Scheduler s(flows);
  Time now{seconds(1).ns};
  for (std::uint32_t f = 0; f < flows; ++f) {
    s.push(FlowId{f}, now);
    if (bytes_per_s == 0) continue;
    // Phases and rates differ, so that the order of the waiting flows keeps changing.
    s.pop(now);
    s.pace(FlowId{f}, 1 + f % 1448, bytes_per_s + f, now);
    s.push(FlowId{f}, now);
  }
  for (auto _ : state) {
    FlowId flow = s.pop(now);
    if (flow == kNoFlow) {
      now = s.next_deadline();
      flow = s.pop(now);
    }
    s.pace(flow, 1448, bytes_per_s == 0 ? 0 : bytes_per_s + index_of(flow), now);
    s.push(flow, now);
  }
}

void BM_RoundRobin(benchmark::State& state) { serve(state, 0); }
void BM_Paced(benchmark::State& state) { serve(state, 1'000'000); }

BENCHMARK(BM_RoundRobin)->Arg(64)->Arg(65536);
BENCHMARK(BM_Paced)->Arg(64)->Arg(1024)->Arg(65536);

}  // namespace
