// Cost of the wire layer alone: parse, header template, checksum.
#include <vector>

#include <benchmark/benchmark.h>

#include "wire/build.h"
#include "wire/checksum.h"
#include "wire/parse.h"

namespace {

using namespace toe;
using namespace toe::wire;

TcpSegmentHeader sample_header() {
  TcpSegmentHeader h;
  h.eth_dst = {{0x02, 0, 0, 0, 0, 1}};
  h.src = IpAddr::v4(10, 0, 0, 2);
  h.dst = IpAddr::v4(10, 0, 0, 1);
  h.src_port = 40000;
  h.dst_port = 80;
  h.flags = kAck;
  h.options.has_timestamp = true;
  return h;
}

void parse(benchmark::State& state, RxChecksum policy) {
  const std::vector<std::uint8_t> payload(static_cast<std::size_t>(state.range(0)), 7);
  std::vector<std::uint8_t> frame(kMaxHeaderBytes + payload.size());
  frame.resize(build_segment(sample_header(), payload, frame));
  for (auto _ : state) {
    TcpSegment segment;
    benchmark::DoNotOptimize(parse_frame(frame, {policy}, segment));
    benchmark::DoNotOptimize(segment);
  }
}

void BM_ParseTrusted(benchmark::State& state) { parse(state, RxChecksum::kTrust); }
void BM_ParseVerified(benchmark::State& state) { parse(state, RxChecksum::kVerify); }

void BM_WriteHeaders(benchmark::State& state) {
  const HeaderTemplate header = make_template(sample_header());
  std::uint8_t out[HeaderTemplate::kBytes];
  SegmentFields fields;
  fields.flags = kAck;
  for (auto _ : state) {
    ++fields.seq;
    write_headers(header, fields, out);
    benchmark::DoNotOptimize(out);
    benchmark::ClobberMemory();
  }
}

void BM_CopyAndChecksum(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  std::vector<std::uint8_t> from(size, 7);
  std::vector<std::uint8_t> to(size);
  for (auto _ : state) {
    benchmark::DoNotOptimize(copy_and_checksum(to.data(), from.data(), size));
    benchmark::ClobberMemory();
  }
}

void BM_Checksum(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  std::vector<std::uint8_t> from(size, 7);
  for (auto _ : state) benchmark::DoNotOptimize(checksum_partial(from.data(), size));
}

BENCHMARK(BM_ParseTrusted)->Arg(0);
BENCHMARK(BM_ParseVerified)->Arg(0)->Arg(64)->Arg(1448);
BENCHMARK(BM_WriteHeaders);
BENCHMARK(BM_CopyAndChecksum)->Arg(64)->Arg(1448);
BENCHMARK(BM_Checksum)->Arg(64)->Arg(1448);

}  // namespace
