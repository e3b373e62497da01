#include "engine/guardian.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "base/unique_fd.h"
#include "engine/privileges.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace toe::engine {
namespace {

flow::Flow make_flow() {
  flow::Flow flow;
  wire::TcpSegmentHeader header;
  header.src = IpAddr::v4(10, 0, 0, 1);
  header.dst = IpAddr::v4(10, 0, 0, 2);
  header.eth_dst = {{2, 0, 0, 0, 0, 1}};
  header.src_port = 80;
  header.dst_port = 4000;
  header.options.has_timestamp = true;
  flow.post.header = wire::make_template(header);
  flow.pre.iss = 0xfffffff0u;
  flow.pre.irs = 1000;
  flow.protocol.snd_una = 100;
  flow.protocol.snd_max = 100;
  flow.protocol.rcv_nxt = 50;
  return flow;
}

std::vector<wire::TcpSegment> resets_of(const flow::Flow& flow) {
  std::vector<wire::TcpSegment> segments;
  build_resets(flow, [&](std::span<const std::uint8_t> frame) {
    wire::TcpSegment segment;
    EXPECT_EQ(wire::parse_frame(frame, {}, segment), wire::ParseVerdict::kOk);
    segments.push_back(segment);
  });
  return segments;
}

TEST(Guardian, OneResetAtTheEdgeOfAQuietConnection) {
  const auto segments = resets_of(make_flow());
  ASSERT_EQ(segments.size(), 1u);
  EXPECT_EQ(segments[0].flags, wire::kRst | wire::kAck);
  EXPECT_EQ(segments[0].seq, 0xfffffff0u + 1 + 100);
  EXPECT_EQ(segments[0].ack, 1000u + 1 + 50);
  EXPECT_EQ(segments[0].dst_port, 4000);
  EXPECT_EQ(segments[0].dst, IpAddr::v4(10, 0, 0, 2));
}

TEST(Guardian, BothEdgesWhenDataIsInFlight) {
  flow::Flow flow = make_flow();
  flow.protocol.snd_max = 5000;
  const auto segments = resets_of(flow);
  ASSERT_EQ(segments.size(), 2u);
  EXPECT_EQ(segments[0].seq, 0xfffffff0u + 1 + 5000);
  EXPECT_EQ(segments[1].seq, 0xfffffff0u + 1 + 100);
}

TEST(Guardian, EmptyClosedAndHalfWrittenRecordsAreLeftAlone) {
  EXPECT_TRUE(resets_of(flow::Flow{}).empty());
  flow::Flow closed = make_flow();
  closed.protocol.closed = true;
  EXPECT_TRUE(resets_of(closed).empty());
  flow::Flow broken = make_flow();
  broken.post.header.length = 255;
  EXPECT_TRUE(resets_of(broken).empty());
  broken = make_flow();
  broken.post.header.l4_offset = 250;
  EXPECT_TRUE(resets_of(broken).empty());
  broken = make_flow();
  broken.post.header.l3_offset = 0;
  EXPECT_TRUE(resets_of(broken).empty());
}

TEST(Guardian, SharedFlowsAreZeroAndShared) {
  Result<SharedFlows> flows = SharedFlows::make(1000);
  ASSERT_TRUE(flows.ok()) << flows.error().text;
  ASSERT_EQ(flows.value().flows().size(), 1000u);
  EXPECT_EQ(flows.value().flows()[999].post.header.length, 0);
  const pid_t child = ::fork();
  if (child == 0) {
    flows.value().flows()[999].post.header.length = 77;
    ::_exit(0);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_EQ(flows.value().flows()[999].post.header.length, 77);
}

/// An "engine" in a child: starts a guardian, reports its pid, ends.
pid_t guardian_of_short_engine(bool dismiss) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t engine = ::fork();
  if (engine == 0) {
    std::vector<flow::Flow> none;
    Result<Guardian> guardian = Guardian::start(none, {1, {}, can_restrict_calls()});
    const pid_t pid = guardian.ok() ? guardian.value().pid() : -1;
    if (guardian.ok() && dismiss) guardian.value().dismiss();
    (void)!::write(ends[1], &pid, sizeof pid);
    ::_exit(0);
  }
  pid_t pid = -1;
  EXPECT_EQ(::read(ends[0], &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
  ::waitpid(engine, nullptr, 0);
  ::close(ends[1]);
  // The guardian holds no descriptor of the engine, or this would not be the end of the pipe.
  char byte;
  EXPECT_EQ(::read(ends[0], &byte, 1), 0);
  ::close(ends[0]);
  return pid;
}

bool ends_soon(pid_t pid) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return errno == ESRCH;
  pollfd wait{process.get(), POLLIN, 0};
  return ::poll(&wait, 1, 5000) == 1;
}

TEST(Guardian, LeavesAfterItsEngine) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs the right to open packet sockets";
  for (const bool dismiss : {true, false}) {
    const pid_t pid = guardian_of_short_engine(dismiss);
    ASSERT_GT(pid, 0);
    EXPECT_TRUE(ends_soon(pid));
  }
}

}  // namespace
}  // namespace toe::engine
