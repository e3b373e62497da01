#include "libtoe/engine_client.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>

#include "libtoe/cancel.h"
#include "libtoe/internal_fds.h"
#include "libtoe/libc.h"

namespace toe::libtoe {

using shm::MessageType;

namespace {

/// Stray messages read while waiting for one answer, at most.
constexpr int kMaxStray = 256;
constexpr std::uint64_t kMaxSpinNs = 1'000;
constexpr std::uint64_t kMaxYieldNs = 10'000'000;

void close_fds(const Packet& packet) {
  for (std::uint32_t i = 0; i < packet.fd_count; ++i) close_internal(packet.fds[i]);
}

void read_comm(char (&comm)[16]) {
  const int fd = make_internal([] { return ::open("/proc/self/comm", O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return;
  const ssize_t n = libc().read(fd, comm, sizeof(comm) - 1);
  comm[n > 0 ? n - 1 : 0] = 0;  // without the line's end
  close_internal(fd);
}

}  // namespace

bool EngineClient::attach(bool strict) {
  shm::Hello hello{};
  hello.magic = shm::kSegmentMagic;
  hello.abi_version = shm::kAbiVersion;
  hello.features = shm::kFeatures;
  hello.pid = static_cast<std::int32_t>(::getpid());
  hello.strict = strict ? 1 : 0;
  read_comm(hello.comm);
  Packet packet;
  packet.set(MessageType::kHello, hello);
  const NoCancel whole;
  MutexLock lock(mutex_);
  bell_.link = link_.get();
  if (exchange(packet) != Exchange::kDone || !on_welcome(packet)) {
    alive_.store(false, std::memory_order_release);
    return false;
  }
  for (int i = 0; i < kMaxStray && segments_.count() == 0; ++i) {
    Packet next;
    if (!link_->receive(next) || !on_segment(next)) {
      alive_.store(false, std::memory_order_release);
      return false;
    }
  }
  return true;
}

bool EngineClient::on_welcome(const Packet& packet) {
  const auto* welcome = packet.as<shm::Welcome>(MessageType::kWelcome);
  const auto* refused = packet.as<shm::Refused>(MessageType::kRefused);
  if (welcome == nullptr || welcome->abi_version != shm::kAbiVersion ||
      (welcome->features & shm::kRequiredFeatures) != shm::kRequiredFeatures) {
    // What is not even a refusal is the answer of an engine whose messages are others.
    reason_ = refused != nullptr ? refused->reason : shm::KernelReason::kVersion;
    close_fds(packet);
    return false;
  }
  profile_.spin_ns = std::min(welcome->spin_ns, kMaxSpinNs);
  profile_.yield_ns = std::min(welcome->yield_ns, kMaxYieldNs);
  if (packet.fd_count != 2) {
    close_fds(packet);
    return bell_.page != nullptr;
  }
  void* page = ::mmap(nullptr, shm::kPageBytes, PROT_READ, MAP_SHARED, packet.fds[0], 0);
  close_internal(packet.fds[0]);
  link_->set_doorbell(packet.fds[1]);
  if (page == MAP_FAILED) return false;
  bell_.page = static_cast<const shm::EnginePage*>(page);
  return bell_.page->magic == shm::kPageMagic;
}

bool EngineClient::on_segment(const Packet& packet) {
  const auto* message = packet.as<shm::SegmentMessage>(MessageType::kSegment);
  bool mapped = false;
  if (message != nullptr) {
    mapped = segments_.find(message->segment_id) != nullptr ||
             (packet.fd_count == 1 && segments_.map(message->segment_id, packet.fds[0]));
  }
  close_fds(packet);
  return mapped;
}

// Sends `packet` and replaces it by the answer. Holds mutex_.
Exchange EngineClient::exchange(Packet& packet) {
  if (!alive()) return Exchange::kGone;
  const NoCancel whole;
  const std::uint64_t tag = next_tag_++;
  packet.set_tag(tag);
  if (const Exchange sent = link_->send(packet); sent != Exchange::kDone) return sent;
  for (int i = 0; i < kMaxStray; ++i) {
    packet = Packet{};
    if (!link_->receive(packet)) return Exchange::kGone;
    if (packet.header().tag == tag) return Exchange::kDone;
    on_segment(packet);
  }
  return Exchange::kGone;
}

LineAnswer EngineClient::ask_for_line(Packet& packet, MessageType type) {
  MutexLock lock(mutex_);
  switch (exchange(packet)) {
    case Exchange::kDone:
      return line_answer(packet, type);
    case Exchange::kNotSent:
      return {nullptr, 0, shm::KernelReason::kInternal, 0};
    default:
      return {nullptr, 0, shm::KernelReason::kNoEngine, 0};
  }
}

LineAnswer EngineClient::line_answer(const Packet& packet, MessageType type) {
  LineAnswer answer;
  close_fds(packet);
  if (const auto* line = packet.as<shm::LineMessage>(type); line != nullptr) {
    if (line->line != 0 && line->line < shm::kLines) {
      answer.segment = segments_.find(line->segment_id);
    }
    answer.line = line->line;
    if (!answer.ok()) answer.reason = shm::KernelReason::kInternal;
  } else if (const auto* refused = packet.as<shm::Refused>(MessageType::kRefused);
             refused != nullptr) {
    answer.reason = refused->reason;
    answer.error = refused->error;
  } else {
    answer.reason = shm::KernelReason::kInternal;
  }
  return answer;
}

LineAnswer EngineClient::listen(int fd, std::uint32_t backlog, const shm::SocketOptions& options) {
  shm::Listen request{};
  request.backlog = backlog;
  request.options = options;
  Packet packet;
  packet.set(MessageType::kListen, request);
  packet.add_fd(fd);
  return ask_for_line(packet, MessageType::kListening);
}

LineAnswer EngineClient::connect(int fd, const shm::Connect& request) {
  Packet packet;
  packet.set(MessageType::kConnect, request);
  packet.add_fd(fd);
  return ask_for_line(packet, MessageType::kConnecting);
}

std::optional<ContextAnswer> EngineClient::open_context(const MappedSegment& segment,
                                                        std::uint32_t doorbell) {
  shm::ContextMessage request{};
  request.segment_id = segment.id;
  request.doorbell = doorbell;
  Packet packet;
  packet.set(MessageType::kContext, request);
  MutexLock lock(mutex_);
  if (exchange(packet) != Exchange::kDone) return std::nullopt;
  const auto* ready = packet.as<shm::ContextMessage>(MessageType::kContextReady);
  const std::uint32_t fds = doorbell == 0 ? 1 : 0;
  if (ready == nullptr || ready->slot >= shm::kContexts || packet.fd_count != fds) {
    close_fds(packet);
    return std::nullopt;
  }
  return ContextAnswer{ready->slot, ready->doorbell, fds == 1 ? packet.fds[0] : -1};
}

bool EngineClient::show(std::span<const int> fds, std::span<ShownSocket> out) {
  shm::Show request{};
  request.count = static_cast<std::uint32_t>(fds.size());
  Packet packet;
  packet.set(MessageType::kShow, request);
  for (const int fd : fds) packet.add_fd(fd);
  MutexLock lock(mutex_);
  if (exchange(packet) != Exchange::kDone) return false;
  close_fds(packet);
  const auto* shown = packet.as<shm::Shown>(MessageType::kShown);
  if (shown == nullptr || shown->count != fds.size()) return false;
  for (std::size_t i = 0; i < fds.size(); ++i) {
    const shm::Shown::Entry& entry = shown->entries[i];
    out[i].segment = segments_.find(entry.segment_id);
    out[i].line = entry.line % shm::kLines;
    out[i].kind = out[i].segment != nullptr ? entry.kind : shm::ShownKind::kKernel;
  }
  return true;
}

bool EngineClient::info(const MappedSegment& segment, std::uint32_t line, shm::InfoReply& out) {
  shm::Info request{};
  request.segment_id = segment.id;
  request.line = line;
  Packet packet;
  packet.set(MessageType::kInfo, request);
  MutexLock lock(mutex_);
  if (exchange(packet) != Exchange::kDone) return false;
  close_fds(packet);
  const auto* reply = packet.as<shm::InfoReply>(MessageType::kInfoReply);
  if (reply == nullptr) return false;
  out = *reply;
  return true;
}

int EngineClient::set_option(const MappedSegment& segment, std::uint32_t line,
                             const shm::Option& option) {
  shm::Option request = option;
  request.segment_id = segment.id;
  request.line = line;
  Packet packet;
  packet.set(MessageType::kOption, request);
  MutexLock lock(mutex_);
  if (exchange(packet) != Exchange::kDone) return ENOPROTOOPT;
  close_fds(packet);
  const auto* reply = packet.as<shm::OptionReply>(MessageType::kOptionReply);
  return reply != nullptr ? reply->error : ENOPROTOOPT;
}

void EngineClient::report(shm::KernelReason reason) {
  shm::Report request{};
  request.reason = reason;
  request.count = 1;
  Packet packet;
  packet.set(MessageType::kReport, request);
  MutexLock lock(mutex_);
  const NoCancel whole;
  if (alive()) link_->send(packet);
}

}  // namespace toe::libtoe
