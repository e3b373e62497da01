#include "fake_engine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

namespace toe::test {
namespace {

using shm::AppFlag;
using shm::HintOp;
using shm::KernelReason;
using shm::Line;
using shm::LineFlag;
using shm::LineState;
using shm::MessageType;

constexpr std::uint32_t kAcceptLog2 = 12;
constexpr std::uint32_t kMaxRxLog2 = 20;
constexpr std::uint64_t kPace = 64 * 1024;  ///< bytes moved per flow and round

std::uint64_t cookie_of(int fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  ::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
  return cookie;
}

std::uint16_t port_of(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length);
  return ntohs(reinterpret_cast<sockaddr_in*>(&name)->sin_port);  // same place in both families
}

void set_state(Line& line, LineState state) {
  line.state.store(static_cast<std::uint32_t>(state), std::memory_order_release);
}

}  // namespace

FakeEngine::FakeEngine(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "%s", path.c_str());
  ::unlink(path.c_str());
  listen_fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listen_fd_, 64) != 0) {
    throw std::runtime_error("fake engine: cannot listen on " + path);
  }
  page_fd_ = ::memfd_create("page", MFD_CLOEXEC);
  if (::ftruncate(page_fd_, shm::kPageBytes) != 0) throw std::runtime_error("ftruncate");
  page_ = static_cast<shm::EnginePage*>(
      ::mmap(nullptr, shm::kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd_, 0));
  page_->magic = shm::kPageMagic;
  page_->abi_version = shm::kAbiVersion;
  page_->engine_pid = static_cast<std::uint32_t>(::getpid());
  if (::pipe2(bell_, O_CLOEXEC | O_NONBLOCK) != 0) throw std::runtime_error("pipe2");
  thread_ = std::thread([this] { run(); });
}

FakeEngine::~FakeEngine() {
  stop_ = true;
  const char byte = 0;
  [[maybe_unused]] const ssize_t n = ::write(bell_[1], &byte, 1);
  thread_.join();
  for (Client& client : clients_) {
    if (client.alive) ::close(client.fd);
    for (const auto& [number, fd] : client.bells) ::close(fd);
  }
  for (const auto& segment : segments_) {
    ::munmap(segment->view.base(), shm::kSegmentBytes);
    ::close(segment->fd);
  }
  for (const int fd : {listen_fd_, page_fd_, bell_[0], bell_[1]}) ::close(fd);
  ::munmap(page_, shm::kPageBytes);
}

// --- loop ---

void FakeEngine::run() {
  while (!stop_) {
    if (serve_once()) continue;
    shm::fall_asleep(page_->sleep_epoch);
    if (anything_posted()) {
      shm::wake_up(page_->sleep_epoch);
      continue;
    }
    std::vector<pollfd> fds = {{bell_[0], POLLIN, 0}, {listen_fd_, POLLIN, 0}};
    for (const Client& client : clients_) fds.push_back({client.alive ? client.fd : -1, POLLIN, 0});
    const bool backlog = slowness > 1;
    ::poll(fds.data(), fds.size(), backlog ? 1 : -1);
    shm::wake_up(page_->sleep_epoch);
    char sink[64];
    while (::read(bell_[0], sink, sizeof(sink)) > 0) ++doorbells_;
    if (fds[1].revents != 0) accept_client();
    for (std::size_t i = 2; i < fds.size(); ++i) {
      if (fds[i].revents != 0 && !serve_client(static_cast<int>(i - 2))) {
        drop_client(static_cast<int>(i - 2));
      }
    }
  }
}

bool FakeEngine::serve_once() {
  ++round_;
  const bool hints = take_hints();
  return pump_all() || hints;
}

bool FakeEngine::anything_posted() {
  for (const auto& segment : segments_) {
    if (segment->view.header().posted.load() != 0) return true;
  }
  return false;
}

bool FakeEngine::take_hints() {
  bool any = false;
  for (const auto& segment : segments_) {
    std::uint64_t posted = segment->view.header().posted.exchange(0);
    for (; posted != 0; posted &= posted - 1) {
      const auto slot = static_cast<std::uint32_t>(__builtin_ctzll(posted));
      ContextState& context = segment->contexts[slot];
      std::uint32_t entry = 0;
      while (context.client >= 0 && context.from_app.take(entry) == shm::Taken::kEntry) {
        any = true;
        const std::uint32_t line = shm::hint_line(entry);
        if (shm::hint_op(entry) == HintOp::kLook) {
          shm::clear_hinted(segment->view.line(line).hinted_engine, slot);
          continue;  // pump_all() looks at every line anyway
        }
        const auto found = segment->flows.find(line);
        if (found == segment->flows.end()) continue;
        Flow& flow = *found->second;
        if (shm::hint_op(entry) == HintOp::kAccept) {
          flow.holders.insert(context.client);
          flow.cookie = segment->view.line(line).cookie.load();
          ++accepts_;
        } else {
          release(flow, context.client, shm::hint_op(entry) == HintOp::kCloseReset);
        }
      }
    }
  }
  return any;
}

bool FakeEngine::pump_all() {
  bool any = false;
  std::vector<Flow*> flows;
  for (const auto& segment : segments_) {
    for (const auto& [line, flow] : segment->flows) flows.push_back(flow.get());
  }
  for (Flow* flow : flows) {
    if (!flow->listener && flow->peer != nullptr && round_ % slowness == 0)
      any = pump(*flow) || any;
  }
  for (Flow* flow : flows) {
    if (!flow->listener) finish(*flow);
  }
  return any;
}

// --- bytes ---

// Moves bytes from `from`'s send ring to its peer's receive ring, then its end of stream.
bool FakeEngine::pump(Flow& from) {
  Flow& to = *from.peer;
  Line& line = from.segment->view.line(from.line);
  Line& other = to.segment->view.line(to.line);
  const std::uint32_t flags = line.app_flags.load(std::memory_order_acquire);
  const std::uint64_t tail = line.tx_tail.load(std::memory_order_acquire);
  const std::uint32_t taken = line.tx_taken.load(std::memory_order_acquire);
  if (taken != from.tx_taken) {  // the program has switched
    from.tx_taken = taken;
    from.tx_switch = line.tx_switch.load();
    ++tx_switches_;
  }
  if (tail - from.moved > shm::kMaxRingBytes || other.rx_head.load() > to.received) {
    throw std::runtime_error("fake engine: a position that cannot be true");
  }
  bool any = false;
  std::uint64_t left = std::min(tail - from.moved, kPace);
  while (left > 0) {
    const bool old = from.tx_next.valid() && from.tx_taken > 0 && from.moved < from.tx_switch;
    const bool switched = from.tx_next.valid() && line.tx_taken.load() == line.tx_offered.load();
    const shm::RingRef ring = switched && !old ? from.tx_next : from.tx_now;
    std::uint64_t piece = left;
    if (old) piece = std::min(piece, from.tx_switch - from.moved);
    const std::uint64_t head = other.rx_head.load(std::memory_order_acquire);
    const std::uint64_t base = std::max(head, to.rx_switch);
    const std::uint64_t used = to.received - base;
    const std::uint64_t space = to.rx_now.bytes() - used;
    piece = std::min(piece, space);
    if (piece == 0) {
      if (!grow_rx(to)) break;
      continue;
    }
    std::vector<std::uint8_t> bytes(piece);
    shm::copy_from_ring({from.segment->view.ring(ring), ring.bytes()}, from.moved, bytes.data(),
                        piece);
    shm::copy_to_ring({to.segment->view.ring(to.rx_now), to.rx_now.bytes()}, to.received,
                      bytes.data(), piece);
    from.moved += piece;
    to.received += piece;
    left -= piece;
    any = true;
  }
  if (any) {
    other.rx_tail.store(to.received, std::memory_order_release);
    line.tx_una.store(from.moved, std::memory_order_release);
    if (from.tx_next.valid() && from.tx_taken == line.tx_offered.load() &&
        from.moved >= from.tx_switch) {
      free_ring(*from.segment, from.tx_now);
      from.tx_now = from.tx_next;
      from.tx_next = {};
    }
  }
  if ((flags & AppFlag::kWantTxRing) != 0) offer_tx(from);
  const bool fin = ((flags & AppFlag::kShutWrite) != 0 || from.closed) && from.moved == tail;
  if (fin && !from.fin_sent) {
    from.fin_sent = true;
    to.fin_received = true;
    other.flags.fetch_or(LineFlag::kRxFin, std::memory_order_release);
    line.flags.fetch_or(LineFlag::kTxFinAcked, std::memory_order_release);
    any = true;
  }
  if (any) {
    hint(to, true, false);
    hint(from, false, true);
  }
  return any;
}

bool FakeEngine::grow_rx(Flow& flow) {
  Line& line = flow.segment->view.line(flow.line);
  if (flow.rx_log2 >= kMaxRxLog2 || line.rx_head.load() < flow.rx_switch || flow.closed)
    return false;
  const std::uint32_t epoch = line.rx_epoch.load();
  if (flow.rx_old.valid()) free_ring(*flow.segment, flow.rx_old);
  const shm::RingRef ring = new_ring(*flow.segment, flow.rx_log2 += 2);
  line.rx_ring[(epoch + 1) & 1].store(ring.word);
  line.rx_switch[(epoch + 1) & 1].store(flow.received);
  line.rx_epoch.store(epoch + 1, std::memory_order_release);
  flow.rx_old = flow.rx_now;
  flow.rx_now = ring;
  flow.rx_switch = flow.received;
  ++rx_switches_;
  return true;
}

void FakeEngine::offer_tx(Flow& flow) {
  Line& line = flow.segment->view.line(flow.line);
  if (flow.tx_next.valid() || line.tx_offered.load() != line.tx_taken.load() ||
      flow.tx_now.bytes() >= (1u << kMaxRxLog2)) {
    return;
  }
  const auto log2 = static_cast<std::uint32_t>(__builtin_ctz(flow.tx_now.bytes())) + 2;
  flow.tx_next = new_ring(*flow.segment, log2);
  const std::uint32_t offered = line.tx_offered.load() + 1;
  line.tx_ring[offered & 1].store(flow.tx_next.word);
  line.tx_offered.store(offered, std::memory_order_release);
  hint(flow, false, true);
}

// --- ends ---

void FakeEngine::reset_flow(Flow& flow, int error) {
  Line& line = flow.segment->view.line(flow.line);
  if (line.state.load() == static_cast<std::uint32_t>(LineState::kClosed)) return;
  line.error.store(static_cast<std::uint32_t>(error));
  line.flags.fetch_or(LineFlag::kReset, std::memory_order_release);
  set_state(line, LineState::kClosed);
  flow.peer = nullptr;
  hint(flow, true, true);
}

void FakeEngine::release(Flow& flow, int client, bool reset) {
  flow.holders.erase(client);
  if (!flow.holders.empty()) return;
  if (flow.listener) {
    end_flow(flow);
    return;
  }
  flow.closed = true;
  const Line& line = flow.segment->view.line(flow.line);
  const bool unread = line.rx_head.load() != flow.received;
  if (flow.peer != nullptr && (reset || unread)) {
    Flow* peer = flow.peer;
    flow.peer = nullptr;
    peer->peer = nullptr;
    const bool read_all = peer->fin_received;
    reset_flow(*peer, read_all ? EPIPE : ECONNRESET);
  }
}

// An orphan ends when its stream is delivered; both ends of stream end the connection.
void FakeEngine::finish(Flow& flow) {
  if (flow.fin_sent && flow.fin_received) {
    Line& line = flow.segment->view.line(flow.line);
    if (line.state.load() == static_cast<std::uint32_t>(LineState::kEstablished)) {
      set_state(line, LineState::kClosed);
      hint(flow, true, true);
    }
  }
  if (!flow.closed) return;
  if (flow.peer != nullptr && !flow.fin_sent) return;
  if (flow.peer != nullptr) {
    // Bytes that still arrive for a closed socket reset the sender.
    const Line& sender = flow.peer->segment->view.line(flow.peer->line);
    const bool more = sender.tx_tail.load() != flow.peer->moved;
    Flow* peer = flow.peer;
    if (!more && !flow.fin_received) return;
    if (more && !flow.fin_received) reset_flow(*peer, ECONNRESET);
    peer->peer = nullptr;
  }
  end_flow(flow);
}

void FakeEngine::end_flow(Flow& flow) {
  Segment& segment = *flow.segment;
  Line& line = segment.view.line(flow.line);
  for (const shm::RingRef ring : {flow.rx_old, flow.rx_now, flow.tx_now, flow.tx_next}) {
    if (ring.valid()) free_ring(segment, ring);
  }
  set_state(line, LineState::kFree);
  line.generation.fetch_add(1);
  segment.free_lines.push_back(flow.line);
  segment.flows.erase(flow.line);
}

void FakeEngine::hint(Flow& flow, bool rx, bool tx) {
  Line& line = flow.segment->view.line(flow.line);
  shm::full_fence();
  std::uint64_t mask = (rx ? line.rx_interest.load() : 0) | (tx ? line.tx_interest.load() : 0);
  for (; mask != 0; mask &= mask - 1) {
    const auto slot = static_cast<std::uint32_t>(__builtin_ctzll(mask));
    ContextState& context = flow.segment->contexts[slot];
    if (context.client < 0) continue;
    if (shm::mark_hinted(line.hinted_app, slot)) {
      context.to_app.append(shm::make_hint(HintOp::kLook, flow.line));
    }
    shm::full_fence();
    const std::uint32_t epoch = flow.segment->view.context(slot).sleep_epoch.load();
    if ((epoch & 1) == 0 || epoch == context.rung) continue;
    context.rung = epoch;
    const char byte = 0;
    [[maybe_unused]] const ssize_t n = ::write(context.bell, &byte, 1);
  }
}

// --- memory ---

FakeEngine::Segment& FakeEngine::new_segment() {
  auto segment = std::make_unique<Segment>();
  segment->id = static_cast<std::uint32_t>(segments_.size()) + 1;
  segment->fd = ::memfd_create("segment", MFD_CLOEXEC);
  if (::ftruncate(segment->fd, static_cast<off_t>(shm::kSegmentBytes)) != 0)
    throw std::runtime_error("ftruncate");
  void* base = ::mmap(nullptr, shm::kSegmentBytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE, segment->fd, 0);
  segment->view = shm::SegmentView(static_cast<std::uint8_t*>(base));
  shm::SegmentHeader& header = segment->view.header();
  header.magic = shm::kSegmentMagic;
  header.abi_version = shm::kAbiVersion;
  header.segment_id = segment->id;
  segment->next_page = static_cast<std::uint32_t>(shm::kArenaOffset / shm::kPageBytes);
  for (std::uint32_t line = 4096; line >= 1; --line) segment->free_lines.push_back(line);
  segments_.push_back(std::move(segment));
  return *segments_.back();
}

shm::RingRef FakeEngine::new_ring(Segment& segment, std::uint32_t log2) {
  if (const auto found = segment.free_rings.find(log2); found != segment.free_rings.end()) {
    const std::uint32_t page = found->second;
    segment.free_rings.erase(found);
    return shm::RingRef::make(page, log2);
  }
  const shm::RingRef ring = shm::RingRef::make(segment.next_page, log2);
  segment.next_page += ring.bytes() / shm::kPageBytes;
  return ring;
}

void FakeEngine::free_ring(Segment& segment, shm::RingRef ring) {
  segment.free_rings.emplace(ring.word >> 24, ring.word & 0xffffff);
}

FakeEngine::Flow& FakeEngine::new_flow(Segment& segment) {
  auto flow = std::make_unique<Flow>();
  flow->segment = &segment;
  flow->line = segment.free_lines.back();
  segment.free_lines.pop_back();
  Line& line = segment.view.line(flow->line);
  const std::uint64_t hinted_app = line.hinted_app.load();
  const std::uint64_t hinted_engine = line.hinted_engine.load();
  const std::uint32_t generation = line.generation.load();
  std::memset(static_cast<void*>(&line), 0, sizeof(line));
  line.hinted_app.store(hinted_app);
  line.hinted_engine.store(hinted_engine);
  line.generation.store(generation + 1);
  flow->rx_now = new_ring(segment, 14);
  flow->tx_now = new_ring(segment, 14);
  line.rx_ring[0].store(flow->rx_now.word);
  line.tx_ring[0].store(flow->tx_now.word);
  Flow& made = *flow;
  segment.flows[flow->line] = std::move(flow);
  return made;
}

// --- messages ---

void FakeEngine::accept_client() {
  const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) clients_.push_back({fd, true, {}, {}});
}

bool FakeEngine::serve_client(int index) {
  std::vector<std::uint8_t> bytes(shm::kMaxMessageBytes);
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int) * shm::kMaxShown)];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  const ssize_t n =
      ::recvmsg(clients_[static_cast<std::size_t>(index)].fd, &message, MSG_CMSG_CLOEXEC);
  if (n < static_cast<ssize_t>(sizeof(shm::MessageHeader))) return false;
  bytes.resize(static_cast<std::size_t>(n));
  std::vector<int> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      fds.push_back(fd);
    }
  }
  on_message(index, bytes, fds);
  for (const int fd : fds) ::close(fd);
  return true;
}

void FakeEngine::drop_client(int index) {
  Client& client = clients_[static_cast<std::size_t>(index)];
  ::close(client.fd);
  client.alive = false;
  take_hints();
  for (const auto& segment : segments_) {
    for (std::uint32_t slot = 0; slot < shm::kContexts; ++slot) {
      if (segment->contexts[slot].client != index) continue;
      segment->contexts[slot] = {};
      for (std::uint32_t line = 1; line <= 4096; ++line) {
        Line& words = segment->view.line(line);
        const std::uint64_t keep = ~(std::uint64_t{1} << slot);
        words.rx_interest.fetch_and(keep);
        words.tx_interest.fetch_and(keep);
        words.hinted_app.fetch_and(keep);
        words.hinted_engine.fetch_and(keep);
        std::uint32_t owner = slot + 1;
        words.rx_lock.compare_exchange_strong(owner, 0);
        owner = slot + 1;
        words.tx_lock.compare_exchange_strong(owner, 0);
      }
    }
    std::vector<Flow*> held;
    for (const auto& [line, flow] : segment->flows) {
      if (flow->holders.count(index) != 0) held.push_back(flow.get());
    }
    for (Flow* flow : held) release(*flow, index, false);
  }
  for (const auto& [number, fd] : client.bells) ::close(fd);
  client.bells.clear();
}

void FakeEngine::reply(int index, void* message, std::uint32_t length, std::vector<int> fds) {
  static_cast<shm::MessageHeader*>(message)->length = length;
  iovec part{message, length};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int) * 4)] = {};
  msghdr out{};
  out.msg_iov = &part;
  out.msg_iovlen = 1;
  if (!fds.empty()) {
    out.msg_control = space;
    out.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&out);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  ::sendmsg(clients_[static_cast<std::size_t>(index)].fd, &out, MSG_NOSIGNAL);
}

void FakeEngine::refuse(int index, std::uint64_t tag, KernelReason reason) {
  shm::Refused message{};
  message.header = {MessageType::kRefused, 0, tag};
  message.reason = reason;
  reply(index, &message, sizeof(message));
}

void FakeEngine::give_segment(int index, Segment& segment) {
  Client& client = clients_[static_cast<std::size_t>(index)];
  if (!client.segments.insert(&segment).second) return;
  shm::SegmentMessage message{};
  message.header = {MessageType::kSegment, 0, 0};
  message.segment_id = segment.id;
  message.bytes = shm::kSegmentBytes;
  reply(index, &message, sizeof(message), {segment.fd});
}

void FakeEngine::on_message(int index, const std::vector<std::uint8_t>& bytes,
                            const std::vector<int>& fds) {
  shm::MessageHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  const auto as = [&bytes]<typename T>(T& out) {
    if (bytes.size() != sizeof(T)) throw std::runtime_error("fake engine: message of wrong size");
    std::memcpy(&out, bytes.data(), sizeof(T));
  };
  switch (header.type) {
    case MessageType::kHello: {
      shm::Welcome welcome{};
      welcome.header = {MessageType::kWelcome, 0, header.tag};
      welcome.features = shm::kFeatures;
      welcome.abi_version = shm::kAbiVersion;
      welcome.spin_ns = 500;
      welcome.yield_ns = 50'000;
      reply(index, &welcome, sizeof(welcome), {page_fd_, bell_[1]});
      give_segment(index, new_segment());
      break;
    }
    case MessageType::kListen: {
      shm::Listen ask;
      as(ask);
      on_listen(index, ask, fds.at(0));
      break;
    }
    case MessageType::kConnect: {
      shm::Connect ask;
      as(ask);
      on_connect(index, ask, fds.at(0));
      break;
    }
    case MessageType::kContext: {
      shm::ContextMessage ask;
      as(ask);
      on_context(index, ask);
      break;
    }
    case MessageType::kShow: {
      shm::Show ask;
      as(ask);
      on_show(index, ask, fds);
      break;
    }
    case MessageType::kInfo: {
      shm::InfoReply answer{};
      answer.header = {MessageType::kInfoReply, 0, header.tag};
      answer.state = 1;
      answer.rtt_us = 77;
      answer.bytes_acked = 123456789012;
      reply(index, &answer, sizeof(answer));
      break;
    }
    case MessageType::kOption: {
      shm::OptionReply answer{};
      answer.header = {MessageType::kOptionReply, 0, header.tag};
      reply(index, &answer, sizeof(answer));
      break;
    }
    default:
      break;
  }
}

namespace {

void set_options(Line& line, const shm::SocketOptions& options) {
  line.app_flags.store(options.app_flags);
  line.rcvbuf.store(options.rcvbuf);
  line.sndbuf.store(options.sndbuf);
  line.linger_s.store(options.linger_s);
  line.keep_idle_s.store(options.keep_idle_s);
  line.keep_interval_s.store(options.keep_interval_s);
  line.keep_count.store(options.keep_count);
  line.user_timeout_ms.store(options.user_timeout_ms);
}

}  // namespace

void FakeEngine::on_listen(int index, const shm::Listen& ask, int fd) {
  const std::uint64_t cookie = cookie_of(fd);
  for (const auto& segment : segments_) {
    for (const auto& [number, flow] : segment->flows) {
      if (!flow->listener || (flow->cookie != cookie && flow->port != port_of(fd))) continue;
      give_segment(index, *segment);
      flow->holders.insert(index);
      flow->options = ask.options;
      shm::LineMessage again{};
      again.header = {MessageType::kListening, 0, ask.header.tag};
      again.segment_id = segment->id;
      again.line = number;
      reply(index, &again, sizeof(again));
      return;
    }
  }
  Segment& segment = **clients_[static_cast<std::size_t>(index)].segments.begin();
  Flow& flow = new_flow(segment);
  Line& line = segment.view.line(flow.line);
  free_ring(segment, flow.rx_now);
  flow.rx_now = new_ring(segment, kAcceptLog2);
  line.rx_ring[0].store(flow.rx_now.word);
  flow.listener = true;
  flow.cookie = cookie;
  flow.port = port_of(fd);
  flow.options = ask.options;
  flow.holders.insert(index);
  set_state(line, LineState::kListening);
  shm::LineMessage answer{};
  answer.header = {MessageType::kListening, 0, ask.header.tag};
  answer.segment_id = segment.id;
  answer.line = flow.line;
  answer.generation = line.generation.load();
  reply(index, &answer, sizeof(answer));
}

void FakeEngine::on_connect(int index, const shm::Connect& ask, int fd) {
  Segment& segment = **clients_[static_cast<std::size_t>(index)].segments.begin();
  if (ask.remote_addr[12] != 10) {
    refuse(index, ask.header.tag, KernelReason::kOtherDevice);
    return;
  }
  Flow& mine = new_flow(segment);
  mine.cookie = cookie_of(fd);
  mine.holders.insert(index);
  Line& line = segment.view.line(mine.line);
  const std::uint8_t local[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1};
  for (std::size_t i = 0; i < 16; ++i) {
    line.remote_addr[i].store(ask.remote_addr[i]);
    line.local_addr[i].store(local[i]);
  }
  line.remote_port.store(ask.remote_port);
  line.local_port.store(next_port_);
  line.mss.store(1448);
  set_options(line, ask.options);
  set_state(line, LineState::kConnecting);
  shm::LineMessage answer{};
  answer.header = {MessageType::kConnecting, 0, ask.header.tag};
  answer.segment_id = segment.id;
  answer.line = mine.line;
  answer.generation = line.generation.load();
  reply(index, &answer, sizeof(answer));

  Flow* listener = nullptr;
  for (const auto& other : segments_) {
    for (const auto& [number, flow] : other->flows) {
      if (flow->listener && flow->port == ask.remote_port) listener = flow.get();
    }
  }
  if (listener == nullptr) {
    reset_flow(mine, ECONNREFUSED);
    return;
  }
  Flow& theirs = new_flow(*listener->segment);
  Line& there = listener->segment->view.line(theirs.line);
  for (std::size_t i = 0; i < 16; ++i) {
    there.local_addr[i].store(ask.remote_addr[i]);
    there.remote_addr[i].store(local[i]);
  }
  there.local_port.store(ask.remote_port);
  there.remote_port.store(next_port_++);
  there.mss.store(1448);
  set_options(there, listener->options);
  mine.peer = &theirs;
  theirs.peer = &mine;
  set_state(there, LineState::kEstablished);
  set_state(line, LineState::kEstablished);
  ++connects_;
  hint(mine, true, true);

  Line& accepting = listener->segment->view.line(listener->line);
  auto* ring = reinterpret_cast<shm::AcceptEntry*>(listener->segment->view.ring(listener->rx_now));
  const std::uint32_t generation = there.generation.load();
  there.claim.store(shm::make_claim(generation, shm::kUnclaimed));
  ring[listener->accept_tail % (listener->rx_now.bytes() / sizeof(shm::AcceptEntry))].store(
      shm::make_claim(generation, theirs.line));
  accepting.rx_tail.store(++listener->accept_tail, std::memory_order_release);
  hint(*listener, true, false);
}

void FakeEngine::on_context(int index, const shm::ContextMessage& ask) {
  Client& client = clients_[static_cast<std::size_t>(index)];
  Segment* segment =
      ask.segment_id <= segments_.size() ? segments_[ask.segment_id - 1].get() : nullptr;
  std::uint32_t slot = 0;
  while (segment != nullptr && slot < shm::kContexts && segment->contexts[slot].client >= 0) ++slot;
  if (segment == nullptr || slot == shm::kContexts) {
    refuse(index, ask.header.tag, KernelReason::kLimit);
    return;
  }
  shm::ContextMessage answer = ask;
  answer.header = {MessageType::kContextReady, 0, ask.header.tag};
  answer.slot = slot;
  int ends[2] = {-1, -1};
  if (ask.doorbell == 0) {
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw std::runtime_error("pipe2");
    answer.doorbell = next_bell_++;
    client.bells[answer.doorbell] = ends[1];
  }
  ContextState& context = segment->contexts[slot];
  shm::Context& words = segment->view.context(slot);
  context.client = index;
  context.bell = client.bells.at(answer.doorbell);
  context.to_app = shm::HintWriter(segment->view.app_queue(slot), &words.app_tail, &words.app_head);
  context.from_app =
      shm::HintReader(segment->view.engine_queue(slot), &words.engine_tail, &words.engine_head);
  reply(index, &answer, sizeof(answer),
        ends[0] >= 0 ? std::vector<int>{ends[0]} : std::vector<int>{});
  if (ends[0] >= 0) ::close(ends[0]);
}

void FakeEngine::on_show(int index, const shm::Show& ask, const std::vector<int>& fds) {
  take_hints();
  shm::Shown answer{};
  answer.header = {MessageType::kShown, 0, ask.header.tag};
  answer.count = ask.count;
  for (std::size_t i = 0; i < fds.size(); ++i) {
    const std::uint64_t cookie = cookie_of(fds[i]);
    for (const auto& segment : segments_) {
      for (const auto& [number, flow] : segment->flows) {
        if (flow->cookie != cookie) continue;
        give_segment(index, *segment);
        flow->holders.insert(index);
        answer.entries[i] = {
            flow->listener ? shm::ShownKind::kListener : shm::ShownKind::kConnection, segment->id,
            number, segment->view.line(number).generation.load()};
      }
    }
  }
  reply(index, &answer, sizeof(answer));
}

}  // namespace toe::test
