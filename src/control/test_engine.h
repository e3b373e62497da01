// Control with a data path that does as it is told and a clock that stands still until it is moved.
#ifndef TOE_CONTROL_TEST_ENGINE_H_
#define TOE_CONTROL_TEST_ENGINE_H_

#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "control/control.h"
#include "control/test_world.h"

namespace toe::control {

class ControlBench : public ::testing::Test {
 protected:
  static Options small_options() {
    Options o;
    o.max_flows = 64;
    o.max_time_wait = 64;
    return o;
  }
  static constexpr std::uint32_t kChunk = 2048;

  explicit ControlBench(const Options& o = small_options())
      : options(o),
        memory(256 * kChunk),
        frames(memory, kChunk),
        flows(o.max_flows),
        commands(kCommandRing),
        events(kEventRing),
        world(frames),
        control(std::make_unique<Control>(o, Secrets{{0x1122334455667788, 0x99aabbccddeeff00}, 7},
                                          Links{frames, flows, commands, events, world})) {}

  // --- The engine's side.
  void request(const Request& r) { control->on_request(r, now); }
  void poll() {
    bool more = true;
    while (more) {
      more = control->poll(now);
      drain();
      more = answer_pages() || more || !events.empty();
    }
  }
  /// The admin thread: pages go back to the system.
  bool answer_pages() {
    const auto all = std::exchange(world.returning, {});
    for (const auto& [segment, ring] : all) {
      Request r;
      r.kind = Request::Kind::kPagesReturned;
      r.segment = segment;
      r.ring = ring;
      request(r);
    }
    return !all.empty();
  }
  void pass(Nanos d) {
    now = now + d;
    poll();
  }
  /// The data path: takes commands and answers those that have an answer; none without room for it.
  void drain() {
    flow::Command c;
    while (events.size() < events.capacity() && commands.pop(c)) {
      done.push_back(c);
      flow::Event e{};
      e.flow = c.flow;
      if (c.kind == flow::Command::Kind::kRemove) {
        e.kind = flow::Event::Kind::kRemoved;
        events.push(e);
      } else if (c.kind == flow::Command::Kind::kRemoveSegment) {
        e.kind = flow::Event::Kind::kSegmentRemoved;
        e.segment = c.segment;
        events.push(e);
      } else if (c.kind == flow::Command::Kind::kOpenContext ||
                 c.kind == flow::Command::Kind::kCloseContext) {
        const bool opened = c.kind == flow::Command::Kind::kOpenContext;
        e.kind = opened ? flow::Event::Kind::kContextOpened : flow::Event::Kind::kContextClosed;
        e.segment = c.segment;
        e.slot = c.slot;
        events.push(e);
      } else if (c.kind == flow::Command::Kind::kSetHeader) {
        e.kind = flow::Event::Kind::kHeaderTaken;
        e.header = c.header;
        events.push(e);
      } else if (c.kind == flow::Command::Kind::kAbort && answer_aborts) {
        e.kind = flow::Event::Kind::kClosed;
        e.close = flow::Event::Close::kAborted;
        events.push(e);
      }
    }
  }
  void event(flow::Event e) {
    ASSERT_TRUE(events.push(e));
    poll();
  }
  void close_flow(FlowId flow, flow::Event::Close how) {
    flow::Event e{};
    e.kind = flow::Event::Kind::kClosed;
    e.flow = flow;
    e.close = how;
    event(e);
  }
  /// Commands of a kind carried out so far.
  std::vector<flow::Command> commanded(flow::Command::Kind kind) {
    poll();
    std::vector<flow::Command> v;
    for (const auto& c : done) {
      if (c.kind == kind) v.push_back(c);
    }
    return v;
  }

  bool all_frames_home() const { return frames.free_count() == frames.chunks(); }

  Options options;
  std::vector<std::uint8_t> memory;
  FramePool frames;
  std::vector<flow::Flow> flows;
  flow::CommandRing commands;
  flow::EventRing events;
  RecordingWorld world;
  std::unique_ptr<Control> control;
  std::vector<flow::Command> done;
  Time now{1'000'000'000'000};
  bool answer_aborts = true;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_TEST_ENGINE_H_
