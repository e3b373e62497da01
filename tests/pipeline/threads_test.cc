// Engine and program in threads of their own over one segment: what the thread sanitizer is to see.
// Both sleep by the rules, so a lost wake-up ends in a hang.
#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "harness/bench.h"
#include "harness/pattern.h"

namespace toe::test {
namespace {

constexpr std::uint32_t kStreams = 3;
constexpr std::uint64_t kBytes = 200'000;
constexpr std::uint32_t kMaxTurns = 50'000'000;  ///< a hang ends here

/// A doorbell without a kernel: rung by one side, taken by the other.
class Bell {
 public:
  void ring() { rung_.store(true, std::memory_order_release); }
  /// False when the test has to end.
  bool wait(const std::atomic<bool>& stop) {
    for (std::uint32_t i = 0; i < kMaxTurns && !stop.load(std::memory_order_relaxed); ++i) {
      if (rung_.exchange(false, std::memory_order_acquire)) return true;
      std::this_thread::yield();
    }
    return false;
  }

 private:
  std::atomic<bool> rung_{false};
};

/// Reads and sends back whatever arrives, woken by hints only.
class EchoProgram {
 public:
  EchoProgram(Bench& bench, Bell& bell) : bench_(bench), bell_(bell), sockets_(kStreams) {
    for (std::uint32_t n = 0; n < kStreams; ++n) sockets_[n].attach(&bench.lane, n + 1);
  }

  void run(const std::atomic<bool>& stop) {
    shm::Context& context = bench_.segment.view().context(Bench::kSlot);
    for (std::uint32_t n = 0; n < kStreams; ++n) echo(n);
    while (!stop.load(std::memory_order_relaxed)) {
      std::uint32_t line = 0;
      while (bench_.lane.take(line)) echo(line - 1);
      shm::fall_asleep(context.sleep_epoch);
      const bool pending = bench_.lane.pending();
      if (!pending && !bell_.wait(stop)) return;
      shm::wake_up(context.sleep_epoch);
    }
  }

 private:
  void echo(std::uint32_t n) {
    for (;;) {
      if (held_[n].empty()) {
        held_[n].resize(5000);
        iovec to{held_[n].data(), held_[n].size()};
        libtoe::IoCursor cursor(&to, 1);
        const ssize_t got = sockets_[n].recv(cursor, libtoe::RecvMode::kTake);
        held_[n].resize(got > 0 ? static_cast<std::size_t>(got) : 0);
        if (got <= 0) return;
      }
      iovec from{held_[n].data(), held_[n].size()};
      libtoe::IoCursor cursor(&from, 1);
      const ssize_t sent = sockets_[n].send(cursor, false);
      if (sent <= 0) return;
      held_[n].erase(held_[n].begin(), held_[n].begin() + sent);
    }
  }

  Bench& bench_;
  Bell& bell_;
  std::vector<libtoe::Connection> sockets_;
  std::vector<std::uint8_t> held_[kStreams];
};

/// The peer of all streams: sends as the window allows, acknowledges and checks the echo.
class Peer {
 public:
  explicit Peer(Bench& bench) : bench_(bench) {
    for (std::uint32_t n = 0; n < kStreams; ++n) edge_[n] = 1u << Bench::kRingLog2;
  }
  bool done() const {
    for (const std::uint64_t echoed : echoed_) {
      if (echoed != kBytes) return false;
    }
    return true;
  }
  std::vector<Frame> segments() {
    std::vector<Frame> burst;
    for (std::uint32_t n = 0; n < kStreams; ++n) {
      const std::uint64_t room = std::min(edge_[n], kBytes) - std::min(sent_[n], edge_[n]);
      const std::uint64_t count = std::min<std::uint64_t>(room, 900);
      if (count == 0 && acked_[n] == echoed_[n]) continue;
      const auto* bytes = reinterpret_cast<const char*>(Pattern(n).at(sent_[n]));
      burst.push_back(bench_.data(n, sent_[n], {bytes, count}, echoed_[n]));
      sent_[n] += count;
      acked_[n] = echoed_[n];
    }
    return burst;
  }
  void take(const std::vector<Bench::Sent>& frames) {
    for (const Bench::Sent& s : frames) {
      const std::uint32_t n = s.flow;
      edge_[n] = std::max(edge_[n], s.ack + s.window);
      if (s.payload.empty() || s.position != echoed_[n]) continue;
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(s.payload.data());
      ASSERT_TRUE(Pattern(n).matches(echoed_[n], bytes, s.payload.size()));
      echoed_[n] += s.payload.size();
    }
  }

 private:
  Bench& bench_;
  std::uint64_t sent_[kStreams] = {}, echoed_[kStreams] = {}, acked_[kStreams] = {};
  std::uint64_t edge_[kStreams] = {};
};

TEST(Threads, StreamsPassBetweenThreadsThatSleep) {
  Bench b;
  Bell bell;
  for (std::uint32_t n = 0; n < kStreams; ++n) b.install(n);
  std::atomic<bool> stop{false};
  std::thread program([&] { EchoProgram(b, bell).run(stop); });
  Peer peer(b);
  for (std::uint32_t turn = 0; turn < kMaxTurns && !peer.done(); ++turn) {
    b.now = b.now + micros(10);
    b.rx(peer.segments());
    b.pipeline.hc(b.now);
    b.pipeline.tx(b.now);
    std::vector<Bench::Sent> sent;
    b.take_out(sent);
    peer.take(sent);
    if (!b.pipeline.doorbells().empty()) bell.ring();
    b.pipeline.clear_doorbells();
    b.take_events();
    if (sent.empty()) std::this_thread::yield();
  }
  stop = true;
  program.join();
  EXPECT_TRUE(peer.done());
  EXPECT_EQ(b.pipeline.counters().misbehaved.value(), 0u);
}

}  // namespace
}  // namespace toe::test
