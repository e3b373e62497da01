#include "port/mem/mem_wire.h"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/limits.h"

namespace toe::port {
namespace {

bool send(Port& port, std::string_view text) {
  Frame frame = port.pool().acquire();
  if (!frame.valid()) return false;
  frame.length = static_cast<std::uint16_t>(text.size());
  std::memcpy(port.pool().bytes(frame).data(), text.data(), text.size());
  return port.tx({&frame, 1}) == 1;
}

std::vector<std::string> receive(Port& port) {
  std::vector<std::string> texts;
  Frame frames[8];
  for (std::size_t n = port.rx(frames); n != 0; n = port.rx(frames)) {
    for (std::size_t i = 0; i < n; ++i) {
      const auto bytes = port.pool().bytes(frames[i]);
      texts.emplace_back(bytes.begin(), bytes.end());
      port.pool().release(frames[i]);
    }
  }
  return texts;
}

using Texts = std::vector<std::string>;

TEST(MemWire, CarriesFramesBothWaysInOrder) {
  MemWire wire;
  ASSERT_TRUE(send(wire.port(0), "one"));
  ASSERT_TRUE(send(wire.port(0), "two"));
  ASSERT_TRUE(send(wire.port(1), "back"));
  EXPECT_FALSE(wire.port(1).prepare_sleep());
  EXPECT_EQ(receive(wire.port(1)), (Texts{"one", "two"}));
  EXPECT_EQ(receive(wire.port(0)), (Texts{"back"}));
  EXPECT_TRUE(wire.port(1).prepare_sleep());
}

TEST(MemWire, ReturnsEveryChunk) {
  MemWire wire(4);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(send(wire.port(0), "x"));
    ASSERT_EQ(receive(wire.port(1)).size(), 1u);
  }
  EXPECT_EQ(wire.port(0).pool().free_count(), 4u);
  EXPECT_EQ(wire.port(1).pool().free_count(), 4u);
}

TEST(MemWire, DelaysReorderAndTimeDecides) {
  MemWire wire;
  wire.set_impairment([](int, std::span<std::uint8_t> bytes, Time) {
    Fate fate;
    fate.delay[0] = bytes[0] == 's' ? millis(5) : millis(1);
    return fate;
  });
  send(wire.port(0), "slow");
  send(wire.port(0), "fast");
  EXPECT_EQ(receive(wire.port(1)), Texts{});
  EXPECT_EQ(wire.next_arrival(), Time{} + millis(1));
  wire.set_now(Time{} + millis(1));
  EXPECT_EQ(receive(wire.port(1)), (Texts{"fast"}));
  wire.set_now(Time{} + millis(5));
  EXPECT_EQ(receive(wire.port(1)), (Texts{"slow"}));
  EXPECT_EQ(wire.next_arrival(), Time::never());
}

TEST(MemWire, LosesDuplicatesAndCorrupts) {
  MemWire wire;
  wire.set_impairment([](int from, std::span<std::uint8_t> bytes, Time) {
    Fate fate;
    if (bytes[0] == 'l') fate.copies = 0;
    if (bytes[0] == 'd') fate.copies = 2;
    if (from == 1) bytes[0] = '!';
    return fate;
  });
  send(wire.port(0), "lost");
  send(wire.port(0), "dup");
  send(wire.port(1), "bad");
  EXPECT_EQ(receive(wire.port(1)), (Texts{"dup", "dup"}));
  EXPECT_EQ(receive(wire.port(0)), (Texts{"!ad"}));
  EXPECT_EQ(wire.lost(), 1u);
}

TEST(MemWire, CountsFramesForWhichTheReceiverHasNoChunk) {
  MemWire wire(2);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(send(wire.port(0), "x"));
  Frame frames[8];
  ASSERT_EQ(wire.port(1).rx(frames), 2u);
  EXPECT_EQ(wire.port(1).stats().rx_dropped_no_fill, 1u);
}

TEST(MemWire, RefusesOverlongAndEmptyFrames) {
  MemWire wire;
  const std::uint32_t free = wire.port(0).pool().free_count();
  Frame frame = wire.port(0).pool().acquire();
  ASSERT_EQ(wire.port(0).tx({&frame, 1}), 1u);
  EXPECT_EQ(wire.port(0).stats().tx_invalid, 1u);
  EXPECT_EQ(wire.port(0).pool().free_count(), free);
  EXPECT_EQ(receive(wire.port(1)), Texts{});
}

TEST(MemWire, CarriesFramesOfSeveralChunks) {
  MemWire wire(16);
  Port& from = wire.port(0);
  FramePool& pool = from.pool();
  Frame frame = pool.acquire();
  std::string expected;
  for (std::uint32_t i = 0; i < kMaxFrameChunks; ++i) {
    Frame part = i == 0 ? frame : pool.acquire();
    part.length = static_cast<std::uint16_t>(100 + i);
    std::memset(pool.bytes(part).data(), static_cast<int>('a' + i), part.length);
    expected.append(part.length, static_cast<char>('a' + i));
    if (i == 0) {
      frame = part;
    } else {
      pool.append(frame, part);
    }
  }
  wire.port(1).cut_at(200, 150);
  ASSERT_EQ(from.tx({&frame, 1}), 1u);
  EXPECT_EQ(from.pool().free_count(), 16u) << "all chunks have returned";
  Frame got;
  ASSERT_EQ(wire.port(1).rx({&got, 1}), 1u);
  FramePool& there = wire.port(1).pool();
  EXPECT_EQ(there.count_parts(got), 4u);
  std::string bytes;
  Frame part = got;
  do {
    bytes.append(there.bytes(part).begin(), there.bytes(part).end());
  } while (there.advance(part));
  EXPECT_EQ(bytes, expected);
  EXPECT_EQ(wire.port(1).stats().rx_bytes, expected.size());
  there.release(got);
  EXPECT_EQ(there.free_count(), 16u);
}

TEST(MemWire, AFrameThatFindsTooFewChunksIsLostWhole) {
  MemWire wire(3);
  MemPort& to = wire.port(1);
  to.cut_at(5, 5);
  const Frame taken = to.pool().acquire();
  ASSERT_TRUE(send(wire.port(0), "eleven byte"));
  EXPECT_TRUE(receive(to).empty());
  EXPECT_EQ(to.stats().rx_dropped_no_fill, 1u);
  to.pool().release(taken);
  ASSERT_TRUE(send(wire.port(0), std::string(5 * kMaxFrameChunks + 1, 'x')));
  EXPECT_TRUE(receive(to).empty());
  EXPECT_EQ(to.stats().rx_dropped_jumbo, 1u);
  EXPECT_EQ(to.pool().free_count(), 3u);
}

}  // namespace
}  // namespace toe::port
