// A segment in plain memory and a link that counts rings, for unit tests of the core.
#ifndef TOE_LIBTOE_TEST_SEGMENT_H_
#define TOE_LIBTOE_TEST_SEGMENT_H_

#include <sys/mman.h>

#include <stdexcept>
#include <string>

#include "libtoe/connection.h"
#include "libtoe/lane.h"
#include "shm/ring_copy.h"

namespace toe::libtoe {

class CountingLink final : public EngineLink {
 public:
  Exchange send(const Packet&) override { return Exchange::kDone; }
  bool receive(Packet&) override { return false; }
  void ring() override { ++rings; }
  void set_doorbell(int) override {}
  int life_fd() const override { return -1; }
  void close() override {}
  int rings = 0;
};

/// Segment 1 with one open lane (context 0) and line 5 as an established connection.
class TestSegment {
 public:
  static constexpr std::uint32_t kLine = 5;
  static constexpr std::uint32_t kLog2 = 14;

  TestSegment() {
    void* memory = ::mmap(nullptr, shm::kSegmentBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("mmap");
    shm::SegmentView view(static_cast<std::uint8_t*>(memory));
    view.header().magic = shm::kSegmentMagic;
    view.header().abi_version = shm::kAbiVersion;
    view.header().segment_id = 1;
    segment = {view, 1, 0};
    bell.page = &page;
    bell.link = &link;
    lane.open(&segment, 0, &bell);
    line().rx_ring[0] = ring(0).word;
    line().tx_ring[0] = ring(1).word;
    line().state = static_cast<std::uint32_t>(shm::LineState::kEstablished);
    connection.attach(&lane, kLine);
  }
  ~TestSegment() { ::munmap(segment.view.base(), shm::kSegmentBytes); }
  TestSegment(const TestSegment&) = delete;
  TestSegment& operator=(const TestSegment&) = delete;

  shm::Line& line() { return segment.view.line(kLine); }
  /// The n-th ring of the arena, each with room for 16 MiB.
  static shm::RingRef ring(std::uint32_t n, std::uint32_t log2 = kLog2) {
    return shm::RingRef::make(
        static_cast<std::uint32_t>(shm::kArenaOffset / shm::kPageBytes) + n * 4096, log2);
  }

  // The engine's part.
  void receive(const std::string& bytes) {
    const std::uint32_t epoch = line().rx_epoch;
    const shm::RingRef ref{line().rx_ring[epoch & 1]};
    const std::uint64_t tail = line().rx_tail;
    shm::copy_to_ring({segment.view.ring(ref), ref.bytes()}, tail, bytes.data(), bytes.size());
    line().rx_tail = tail + bytes.size();
  }
  void switch_rx(shm::RingRef to) {
    const std::uint32_t epoch = line().rx_epoch + 1;
    line().rx_ring[epoch & 1] = to.word;
    line().rx_switch[epoch & 1] = line().rx_tail.load();
    line().rx_epoch = epoch;
  }
  std::string sent(std::uint64_t from, std::uint64_t to, shm::RingRef ref) {
    std::string bytes(to - from, 0);
    shm::copy_from_ring({segment.view.ring(ref), ref.bytes()}, from, bytes.data(), bytes.size());
    return bytes;
  }
  std::uint32_t looks() {
    const std::uint32_t posted = segment.view.context(0).engine_tail - looked;
    looked += posted;
    line().hinted_engine = 0;
    return posted;
  }

  // The program's part.
  ssize_t send(const std::string& bytes, bool more = false) {
    const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    IoCursor cursor(&part, 1);
    return connection.send(cursor, more);
  }
  std::string recv(std::size_t count, RecvMode mode = RecvMode::kTake) {
    std::string bytes(count, 0);
    const iovec part{bytes.data(), count};
    IoCursor cursor(&part, 1);
    last = connection.recv(cursor, mode);
    bytes.resize(last > 0 ? static_cast<std::size_t>(last) : 0);
    return bytes;
  }

  MappedSegment segment;
  shm::EnginePage page{};
  CountingLink link;
  EngineBell bell;
  Lane lane;
  Connection connection;
  std::uint32_t looked = 0;
  ssize_t last = 0;
};

}  // namespace toe::libtoe

#endif  // TOE_LIBTOE_TEST_SEGMENT_H_
