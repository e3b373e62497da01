// What surrounds control in tests: a world that records what it is asked, segments in plain memory.
#ifndef TOE_CONTROL_TEST_WORLD_H_
#define TOE_CONTROL_TEST_WORLD_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "control/world.h"
#include "shm/segment_view.h"
#include "wire/parse.h"

namespace toe::control {

inline const IpAddr kHere = IpAddr::v4(10, 0, 0, 1);
inline const IpAddr kPeer = IpAddr::v4(10, 0, 0, 2);
inline constexpr MacAddr kHereMac{{0x02, 0, 0, 0, 0, 1}};
inline constexpr MacAddr kPeerMac{{0x02, 0, 0, 0, 0, 2}};

struct Reply {
  ClientId client;
  std::vector<std::uint8_t> bytes;

  shm::MessageType type() const { return as<shm::MessageHeader>().type; }
  template <typename M>
  M as() const {
    M m{};
    std::memcpy(&m, bytes.data(), std::min(sizeof m, bytes.size()));
    return m;
  }
};

/// Records everything; answers nothing by itself.
struct RecordingWorld : World {
  explicit RecordingWorld(FramePool& f) : frames(f) {}

  void transmit(Frame frame) override {
    wire::TcpSegment s;
    ASSERT_EQ(wire::parse_frame(frames.bytes(frame), {}, s), wire::ParseVerdict::kOk);
    sent.push_back(s);
    frames.release(frame);
  }
  void reinject(Frame frame) override {
    ++reinjected;
    frames.release(frame);
  }
  void reply(ClientId client, std::span<const std::uint8_t> m) override {
    replies.push_back({client, {m.begin(), m.end()}});
  }
  void share_segment(ClientId c, SegmentId s) override { shared.emplace_back(c, s); }
  void want_segment(ClientId) override { ++segments_wanted; }
  void free_segment(SegmentId s) override { freed.push_back(s); }
  void drop_client(ClientId c, const char*) override { dropped.push_back(c); }
  void want_route(const RouteKey& key) override { routes_wanted.push_back(key); }
  void forget_route(const RouteKey& key) override { routes_forgotten.push_back(key); }
  void confirm_neighbor(const RouteKey&) override { ++confirmed; }
  void return_pages(SegmentId segment, shm::RingRef ring) override {
    returned += ring.bytes();
    returning.emplace_back(segment, ring);
  }
  void mark_listener(std::uint64_t cookie) override { marked.push_back(cookie); }
  void close_listener(std::uint64_t cookie) override { closed.push_back(cookie); }
  void release_port(const IpAddr& a, std::uint16_t p) override {
    ports_released.emplace_back(a, p);
  }
  void want_port(const IpAddr&) override { ++ports_wanted; }

  /// An answer to what was last asked about `remote`; if nothing was, to what nobody asks.
  Request route_answer(const IpAddr& remote) const {
    Request r;
    r.kind = Request::Kind::kRoute;
    r.remote = remote;
    for (const RouteKey& key : routes_wanted) {
      if (key.path.remote == remote) set_route_key(key, r);
    }
    return r;
  }

  FramePool& frames;
  std::vector<wire::TcpSegment> sent;
  int reinjected = 0;
  std::vector<Reply> replies;
  std::vector<std::pair<ClientId, SegmentId>> shared;
  int segments_wanted = 0;
  std::vector<SegmentId> freed;
  std::vector<ClientId> dropped;
  std::vector<RouteKey> routes_wanted, routes_forgotten;
  int confirmed = 0;
  std::uint64_t returned = 0;  // bytes
  std::vector<std::pair<SegmentId, shm::RingRef>> returning;
  std::vector<std::uint64_t> marked, closed;
  std::vector<std::pair<IpAddr, std::uint16_t>> ports_released;
  int ports_wanted = 0;
};

/// A gigabyte of address space; pages appear when they are written.
class TestSegment {
 public:
  TestSegment()
      : base_(static_cast<std::uint8_t*>(::mmap(nullptr, shm::kSegmentBytes, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                                                0))) {}
  ~TestSegment() { ::munmap(base_, shm::kSegmentBytes); }
  TestSegment(const TestSegment&) = delete;
  TestSegment& operator=(const TestSegment&) = delete;
  std::uint8_t* base() const { return base_; }
  shm::SegmentView view() const { return shm::SegmentView(base_); }

 private:
  std::uint8_t* base_;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_TEST_WORLD_H_
