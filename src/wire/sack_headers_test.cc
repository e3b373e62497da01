#include "wire/sack_headers.h"

#include <cstring>
#include <string>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "wire/checksum.h"
#include "wire/test_segments.h"

namespace toe::wire {
namespace {

TcpSegmentHeader drawn_header() {
  TcpSegmentHeader h = test_header(*rc::gen::arbitrary<bool>());
  h.seq = *rc::gen::arbitrary<std::uint32_t>();
  h.ack = *rc::gen::arbitrary<std::uint32_t>();
  h.window = *rc::gen::arbitrary<std::uint16_t>();
  h.ecn = *rc::gen::inRange<std::uint8_t>(0, 4);
  if (*rc::gen::arbitrary<bool>()) h.vlan = {{{kTpidVlan, 9}, {}}, 1};
  h.options.has_timestamp = *rc::gen::arbitrary<bool>();
  if (h.options.has_timestamp) {
    h.options.tsval = *rc::gen::arbitrary<std::uint32_t>();
    h.options.tsecr = *rc::gen::arbitrary<std::uint32_t>();
  }
  h.options.sack_count = *rc::gen::inRange<std::uint8_t>(1, h.options.has_timestamp ? 4 : 5);
  for (std::uint8_t i = 0; i < h.options.sack_count; ++i) {
    h.options.sack[i] = {*rc::gen::arbitrary<std::uint32_t>(),
                         *rc::gen::arbitrary<std::uint32_t>()};
  }
  return h;
}

// The general builder is the oracle, and the parser reads what it wrote.
TEST(SackHeaders, AreWhatTheGeneralBuilderWrites) {
  EXPECT_TRUE(rc::check([] {
    const TcpSegmentHeader h = drawn_header();
    const std::string payload(*rc::gen::inRange<std::size_t>(0, 100), 'x');
    const FrameBytes expected = test_frame(h, payload);

    FrameBytes frame(kMaxHeaderBytes + payload.size());
    const HeaderTemplate t = make_template(h);
    const std::size_t headers = t.length + sack_option_bytes(h.options.sack_count);
    SegmentFields f;
    f.seq = h.seq;
    f.ack = h.ack;
    f.tsval = h.options.tsval;
    f.tsecr = h.options.tsecr;
    f.window = h.window;
    f.flags = h.flags;
    f.ecn = h.ecn;
    f.payload.length = static_cast<std::uint16_t>(payload.size());
    f.payload.sum =
        copy_and_checksum(frame.data() + headers,
                          reinterpret_cast<const std::uint8_t*>(payload.data()), payload.size());
    RC_ASSERT(write_sack_headers(t, f, {h.options.sack, h.options.sack_count}, frame.data()) ==
              headers);
    frame.resize(headers + payload.size());
    RC_ASSERT(frame == expected);

    TcpSegment s;
    RC_ASSERT(parse_frame(frame, {}, s) == ParseVerdict::kOk);
    RC_ASSERT(s.options.sack_count == h.options.sack_count);
    for (std::uint8_t i = 0; i < s.options.sack_count; ++i) {
      RC_ASSERT(s.options.sack[i] == h.options.sack[i]);
    }
  }));
}

}  // namespace
}  // namespace toe::wire
