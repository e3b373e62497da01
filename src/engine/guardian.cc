#include "engine/guardian.h"

#include <fcntl.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include <fmt/format.h>

#include "engine/privileges.h"
#include "shm/segment_format.h"
#include "wire/build.h"

namespace toe::engine {
namespace {

constexpr char kTitle[] = "flextoe-guard";
constexpr int kStartPolls = 10'000;  ///< milliseconds the engine waits for the guardian to be ready

Error failure(const char* what) {
  const int code = errno;
  return {code, fmt::format("{}: {}", what, std::strerror(code))};
}

bool usable(const wire::HeaderTemplate& header) {
  return header.length >= 54 && header.length <= wire::HeaderTemplate::kBytes &&
         header.l3_offset >= 14 && header.l3_offset < header.l4_offset &&
         header.l4_offset + 20 <= header.length;
}

/// All descriptors but the standard three (then /dev/null) and those two, which become 3 and 4.
bool keep_only(int pidfd, int packet_socket) {
  const int null = ::open("/dev/null", O_RDWR);
  if (null < 0) return false;
  const int pid_copy = ::fcntl(pidfd, F_DUPFD_CLOEXEC, 10);
  const int packet_copy = ::fcntl(packet_socket, F_DUPFD_CLOEXEC, 10);
  if (pid_copy < 0 || packet_copy < 0) return false;
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  if (::dup2(pid_copy, 3) != 3 || ::dup2(packet_copy, 4) != 4) return false;
  return ::close_range(5, ~0u, 0) == 0;
}

void wait_for_end(int pidfd) {
  pollfd wait{pidfd, POLLIN, 0};
  while (::poll(&wait, 1, -1) < 0 && errno == EINTR) {
  }
}

void end_connections(std::span<const flow::Flow> flows, int packet_socket, int ifindex) {
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = ifindex;
  for (const flow::Flow& flow : flows) {
    build_resets(flow, [&](std::span<const std::uint8_t> frame) {
      (void)::sendto(packet_socket, frame.data(), frame.size(), MSG_DONTWAIT,
                     reinterpret_cast<const sockaddr*>(&to), sizeof to);
    });
  }
}

void ignore_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT}) {
    ::signal(signal, signal == SIGTERM ? SIG_DFL : SIG_IGN);
  }
}

}  // namespace

int build_resets(const flow::Flow& live,
                 const std::function<void(std::span<const std::uint8_t>)>& send) {
  if (live.post.header.length == 0) return 0;
  const flow::Flow flow = live;
  if (!usable(flow.post.header) || flow.protocol.closed) return 0;
  std::uint8_t frame[wire::HeaderTemplate::kBytes];
  wire::SegmentFields fields;
  fields.flags = wire::kRst | wire::kAck;
  fields.ack = static_cast<std::uint32_t>(flow.pre.irs + 1 + flow.protocol.rcv_nxt);
  // RFC 5961 section 3.2: only a RST exactly at what the peer expects next is taken at once.
  const std::uint64_t edges[] = {flow.protocol.snd_max, flow.protocol.snd_una};
  const int count = edges[0] == edges[1] ? 1 : 2;
  for (int i = 0; i < count; ++i) {
    fields.seq = static_cast<std::uint32_t>(flow.pre.iss + 1 + edges[i]);
    wire::write_headers(flow.post.header, fields, frame);
    send({frame, flow.post.header.length});
  }
  return count;
}

Result<SharedFlows> SharedFlows::make(std::uint32_t max_flows) {
  Result<SharedMemory> memory =
      SharedMemory::make("flextoe-flows", std::size_t{max_flows} * sizeof(flow::Flow));
  if (!memory.ok()) return memory.error();
  SharedFlows flows;
  flows.memory_ = std::move(memory.value());
  flows.count_ = max_flows;
  return flows;
}

ProcessTitle ProcessTitle::of(int argc, char** argv) {
  if (argc < 1) return {};
  const char* end = argv[argc - 1] + std::strlen(argv[argc - 1]) + 1;
  return {argv[0], static_cast<std::size_t>(end - argv[0])};
}

void ProcessTitle::set(const char* title) const {
  ::prctl(PR_SET_NAME, title, 0, 0, 0);
  if (bytes == 0) return;
  std::memset(begin, 0, bytes);
  std::memcpy(begin, title, std::min(std::strlen(title), bytes - 1));
}

/// The rest of the guardian's life.
[[noreturn]] void Guardian::live(std::span<const flow::Flow> flows, const Options& options,
                                 const Ends& ends) const {
  auto* shared = reinterpret_cast<Shared*>(page_.base());
  ::setsid();
  ignore_signals();
  options.title.set(kTitle);
  if (!keep_only(ends.pidfd.get(), ends.packet.get())) ::_exit(1);
  if (!drop_all_privileges().ok()) ::_exit(1);
  if (options.restricted && !restrict_calls(ThreadRole::kGuardian).ok()) ::_exit(1);
  shared->ready.store(1);
  wait_for_end(3);
  if (shared->dismissed.load() == 0) end_connections(flows, 4, options.ifindex);
  ::_exit(0);
}

Result<Guardian> Guardian::start(std::span<const flow::Flow> flows, const Options& options) {
  void* page =
      ::mmap(nullptr, shm::kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return failure("cannot map the guardian's page");
  Guardian guardian;
  guardian.page_ = Mapping(static_cast<std::uint8_t*>(page), shm::kPageBytes);
  auto* shared = new (page) Shared{};
  const Ends ends{UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0))),
                  UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0))};
  if (!ends.pidfd.valid()) return failure("cannot open a pidfd");
  if (!ends.packet.valid()) return failure("cannot open a packet socket");
  guardian.pid_ = ::fork();
  if (guardian.pid_ < 0) return failure("cannot fork the guardian");
  if (guardian.pid_ == 0) guardian.live(flows, options, ends);
  for (int i = 0; i < kStartPolls && shared->ready.load() == 0; ++i) ::usleep(1000);
  if (shared->ready.load() == 0) return Error{ECHILD, "the guardian process did not start"};
  return guardian;
}

void Guardian::dismiss() { reinterpret_cast<Shared*>(page_.base())->dismissed.store(1); }

}  // namespace toe::engine
