// One engine of the simulation: engine::Core on a memory port, and everything around it that a
// real engine does with threads and system calls: routes, ports, steering, segments, doorbells.
//
// It sleeps by the rules of the real worker: asleep it is stepped only for a frame, its own
// deadline, or a doorbell. A lost wake-up therefore shows as a stalled run.
#ifndef TOE_TESTS_SIM_SIM_ENGINE_H_
#define TOE_TESTS_SIM_SIM_ENGINE_H_

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/core.h"
#include "harness/plain_segment.h"
#include "harness/random.h"
#include "libtoe/engine_link.h"
#include "port/mem/mem_wire.h"
#include "sim/marks.h"
#include "sim/plan.h"
#include "wire/segment.h"

namespace toe::sim {

/// Ports of the two server processes. A listener whose descriptor is kDoomedPort has that port.
inline constexpr std::uint16_t kServerPort = 80;
inline constexpr std::uint16_t kDoomedPort = 81;  ///< of the one that dies

struct Clock {
  Time now{seconds(1000).ns};
};

class SimEngine final : public control::World {
 public:
  SimEngine(const Plan& plan, int side, port::MemPort& port, Clock& clock, Marks& marks);
  ~SimEngine() override;

  // --- The loop's side ---
  void step();
  Time wake_at() const { return wake_at_; }
  void wake(Time at) { wake_at_ = std::min(wake_at_, at); }

  // --- The programs' side ---
  /// Attaches a process: its first segment. Its messages come through on_message().
  void attach(ClientId client);
  void leave(ClientId client);
  void on_message(ClientId client, const libtoe::Packet& packet);
  /// The next message for the client; steps the engine until there is one.
  bool next_message(ClientId client, libtoe::Packet& packet);
  const shm::EnginePage* page() const { return page_.get(); }
  /// Called for each doorbell that the engine rings: whose waiter it wakes.
  std::function<void(ClientId)> on_doorbell;
  std::function<void(ClientId, std::uint32_t id, std::uint8_t* base)> on_shared;

  // --- The checker's side ---
  const IpAddr& address() const { return address_; }
  control::Control& control() { return core_->control(); }
  const datapath::Counters& datapath() const { return core_->datapath_counters(); }
  std::string failure;  ///< first thing that must not happen, "" = none
  /// What a quiet engine still holds, "" = nothing. Routes and held ports are kept for reuse.
  std::string leftovers() const;
  /// Whether a data segment that has just left is more than cwnd allowed, "" = no.
  std::string overrun(const wire::TcpSegment& s) const;
  /// Keys of the flows that gave up since the last call because their peer did not answer, while
  /// no process held them. They tell the peer nothing, as on Linux.
  std::vector<flow::FlowKey> take_given_up() { return std::exchange(given_up_, {}); }
  /// The established flow of the key that has seen no FIN; null = none.
  const flow::Flow* find(const flow::FlowKey& key) const;
  std::string busy_lines() const;  ///< lines that are neither free nor listening
  /// Bytes of rings that are not free. Each listener has an accept ring.
  std::uint64_t ring_bytes() const { return core_->control().ring_bytes(); }

 private:
  struct Later {
    Time at;
    control::Request request;
  };

  void transmit(Frame) override {}
  void reinject(Frame) override {}
  void reply(ClientId client, std::span<const std::uint8_t> message) override;
  void share_segment(ClientId client, SegmentId segment) override;
  void want_segment(ClientId client) override;
  void free_segment(SegmentId segment) override { segments_.erase(index_of(segment)); }
  void drop_client(ClientId client, const char* reason) override;
  void want_route(const control::RouteKey& key) override;
  void forget_route(const control::RouteKey&) override {}
  void confirm_neighbor(const control::RouteKey&) override {}
  /// Not zero, so that whoever still reads the ring is found out.
  void return_pages(SegmentId segment, shm::RingRef ring) override;
  void mark_listener(std::uint64_t cookie) override;
  void close_listener(std::uint64_t) override {}
  void release_port(const IpAddr&, std::uint16_t) override {}
  void want_port(const IpAddr& local) override;

  /// A flow as it was after an earlier step.
  struct Seen {
    std::uint32_t iss = 0;
    std::unique_ptr<flow::ProtocolSlice> slice;
  };
  void check_invariants();
  void check_flow(std::size_t i);
  void check_end(std::size_t i, const Seen& seen);

  void ask(const control::Request& request, Nanos after);
  void deliver_requests();

  const Plan& plan_;
  Clock& clock_;
  Marks& marks_;
  test::Random random_;
  port::MemPort& port_;
  IpAddr address_;
  MacAddr mac_, peer_mac_;
  std::unique_ptr<shm::EnginePage> page_;
  std::vector<flow::Flow> flows_;
  std::vector<Seen> seen_;
  std::vector<flow::FlowKey> given_up_;
  std::size_t used_flows_ = 0;  ///< records from here on were never used
  std::uint32_t steps_ = 0;
  std::vector<Later> requests_;
  std::vector<std::pair<ClientId, libtoe::Packet>> staged_;
  std::map<ClientId, std::deque<libtoe::Packet>> inbox_;
  std::map<std::uint32_t, std::unique_ptr<test::PlainSegment>> segments_;
  std::uint32_t next_segment_ = 1;
  std::vector<ClientId> bells_;  ///< owner of bell n + 1
  std::uint16_t next_port_ = 40000;
  Time wake_at_;
  std::unique_ptr<engine::Core> core_;
};

}  // namespace toe::sim

#endif  // TOE_TESTS_SIM_SIM_ENGINE_H_
