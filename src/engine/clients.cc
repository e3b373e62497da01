#include "engine/clients.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "engine/clock.h"
#include "engine/message_check.h"

namespace toe::engine {
namespace {

template <typename Message>
std::span<const std::uint8_t> bytes_of(const Message& message) {
  return {reinterpret_cast<const std::uint8_t*>(&message), sizeof message};
}

/// What questions cost, in small ones: by the time that they took in this thread.
constexpr std::uint32_t kAcceptCost = 2;
constexpr std::uint32_t kAttachCost = 20;  ///< a segment is made and mapped
constexpr std::uint32_t kListenCost = 20;  ///< the kernel's connections are listed
constexpr std::uint32_t kContextCost = 4;  ///< a pipe

std::uint32_t cost_of(const Packet& packet) {
  const auto cost = static_cast<std::uint32_t>(1 + packet.fds.size());
  if (packet.kind != Packet::Kind::kMessage || packet.length < sizeof(shm::MessageHeader)) {
    return cost;
  }
  switch (read_message<shm::MessageHeader>({packet.bytes, packet.length}).type) {
    case shm::MessageType::kHello:
      return cost + kAttachCost;
    case shm::MessageType::kListen:
      return cost + kListenCost;
    case shm::MessageType::kContext:
      return cost + kContextCost;
    default:
      return cost;
  }
}

}  // namespace

Clients::Clients(const ClientLinks& links, AdminVerb on_admin)
    : links_(links), on_admin_(std::move(on_admin)), users_(links.limits) {}

int Clients::accept(UniqueFd socket) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
  const std::size_t spared = credentials.uid == Users::kRoot ? 0 : kSparedClients;
  if (clients_.size() + spared >= kMaxClients) return -1;
  if (!users_.take(credentials.uid, Share::kPrograms)) return -1;
  users_.charge(credentials.uid, kAcceptCost);
  const int fd = socket.get();
  Client& client = clients_[fd];
  client = Client{};
  client.id = static_cast<ClientId>(next_id_++);
  client.pid = credentials.pid;
  client.uid = credentials.uid;
  client.socket = std::move(socket);
  sockets_[client.id] = fd;
  return fd;
}

Client* Clients::find(ClientId id) {
  const auto found = sockets_.find(id);
  return found == sockets_.end() ? nullptr : &clients_.at(found->second);
}

bool Clients::on_readable(int socket) {
  Packet packet;
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    const auto found = clients_.find(socket);
    if (found == clients_.end()) return true;
    const std::uint32_t uid = found->second.uid;
    if (!users_.may_ask(uid, clock_now())) return false;
    receive_packet(socket, packet);
    if (packet.kind == Packet::Kind::kNothing) return true;
    users_.charge(uid, cost_of(packet));
    take(found->second, packet);
  }
  return true;
}

void Clients::take(Client& client, Packet& packet) {
  if (packet.kind == Packet::Kind::kEnd) return disconnect(client, nullptr);
  const char* wrong = "message too long";
  if (packet.kind == Packet::Kind::kMessage) {
    const std::span<const std::uint8_t> bytes(packet.bytes, packet.length);
    wrong = refuse_message(bytes, packet.fds.size());
    if (wrong == nullptr) wrong = dispatch(client, bytes, packet.fds);
  }
  if (wrong != nullptr) disconnect(client, wrong);
}

bool Clients::send(Client& client, std::span<const std::uint8_t> message,
                   std::span<const int> fds) {
  if (send_packet(client.socket.get(), message, fds)) return true;
  disconnect(client, errno == EPIPE || errno == ECONNRESET ? nullptr : "it does not read");
  return false;
}

void Clients::refuse(Client& client, std::uint64_t tag, shm::KernelReason reason, int error) {
  shm::Refused refused{};
  refused.header = {shm::MessageType::kRefused, sizeof refused, tag};
  refused.reason = reason;
  refused.error = error;
  send(client, bytes_of(refused));
}

bool Clients::make_doorbell(Client& client, UniqueFd& write_end) {
  int ends[2];
  if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return false;
  client.bell_read = ends[0];
  client.bell_write.reset(ends[1]);
  // The worker reads through a descriptor of its own, which it closes itself.
  Order order;
  order.kind = Order::Kind::kWatch;
  order.fd = ends[0];
  links_.bridge.send(order);
  write_end.reset(::fcntl(ends[1], F_DUPFD_CLOEXEC, 0));
  return write_end.valid();
}

bool Clients::welcome(Client& client, const shm::Hello& message) {
  UniqueFd write_end;
  if (!make_doorbell(client, write_end)) return false;
  shm::Welcome welcome{};
  welcome.header = {shm::MessageType::kWelcome, sizeof welcome, message.header.tag};
  welcome.abi_version = shm::kAbiVersion;
  welcome.client_id = index_of(client.id);
  welcome.features = message.features & shm::kFeatures;
  welcome.netns_cookie = links_.netns_cookie;
  welcome.spin_ns = 500;
  welcome.yield_ns = static_cast<std::uint64_t>(links_.yield_time.ns);
  const int fds[] = {links_.page.read_only_fd(), write_end.get()};
  return send(client, bytes_of(welcome), fds);
}

bool Clients::give_segment(Client& client, control::Request::Kind kind) {
  if (client.own_segments.size() >= kMaxSegmentsPerClient) return false;
  if (!users_.take(client.uid, Share::kSegments)) return false;
  Result<SegmentStore::Segment> made = links_.segments.create();
  if (!made.ok()) {
    users_.give_back(client.uid, Share::kSegments);
    std::uint64_t suppressed = 0;
    if (limiter_.allow("no segment", clock_now(), suppressed)) {
      spdlog::error("no segment for process {}: {}", client.pid, made.error().text);
    }
    return false;
  }
  const SegmentStore::Segment& segment = made.value();
  segment_users_[segment.id] = client.uid;
  client.attached = true;
  client.own_segments.insert(segment.id);
  control::Request request;
  request.kind = kind;
  request.client = client.id;
  request.uid = client.uid;
  request.pid = client.pid;
  request.segment = segment.id;
  request.base = segment.base;
  links_.bridge.send(request);
  share_segment(client, segment.id);  // last: it may be the end of the client
  return true;
}

void Clients::share_segment(Client& client, SegmentId id) {
  const SegmentStore::Segment segment = links_.segments.find(id);
  if (segment.fd < 0 || !client.segments.insert(id).second) return;
  shm::SegmentMessage message{};
  message.header = {shm::MessageType::kSegment, sizeof message, 0};
  message.segment_id = index_of(id);
  message.bytes = shm::kSegmentBytes;
  const int fds[] = {segment.fd};
  send(client, bytes_of(message), fds);
}

void Clients::on_note(const Note& note) {
  if (note.kind == Note::Kind::kReply) return on_reply(note);
  if (note.kind == Note::Kind::kFreeSegment) return on_free_segment(note.segment);
  if (note.kind == Note::Kind::kReturnPages) {
    links_.segments.return_pages(note.segment, note.ring);
    control::Request done;
    done.kind = control::Request::Kind::kPagesReturned;
    done.segment = note.segment;
    done.ring = note.ring;
    return links_.bridge.send(done);
  }
  Client* client = find(note.client);
  if (client == nullptr) return;
  if (note.kind == Note::Kind::kShareSegment) {
    share_segment(*client, note.segment);
  } else if (note.kind == Note::Kind::kWantSegment) {
    // Without one it goes on with what it has: its further sockets stay with the kernel.
    if (!give_segment(*client, control::Request::Kind::kSegment)) wanting_.insert(note.client);
  } else if (note.kind == Note::Kind::kDropClient) {
    disconnect(*client, note.reason);
  }
}

void Clients::on_free_segment(SegmentId id) {
  for (auto& [socket, client] : clients_) {
    client.segments.erase(id);
    client.own_segments.erase(id);
  }
  links_.segments.remove(id);
  const auto owner = segment_users_.find(id);
  if (owner != segment_users_.end()) {
    users_.give_back(owner->second, Share::kSegments);
    segment_users_.erase(owner);
  }
  for (const ClientId wanting : std::exchange(wanting_, {})) {
    Client* client = find(wanting);
    const bool given = client == nullptr || give_segment(*client, control::Request::Kind::kSegment);
    if (!given) wanting_.insert(wanting);
  }
}

void Clients::on_reply(const Note& note) {
  const std::span<const std::uint8_t> bytes(note.bytes, note.length);
  const auto header = read_message<shm::MessageHeader>(bytes);
  Client* client = find(note.client);
  int fd_along = -1;
  settle(client, note.client, header, fd_along);
  if (client != nullptr) {
    if (header.tag != 0 && client->unanswered > 0) --client->unanswered;
    send(*client, bytes, std::span(&fd_along, fd_along >= 0 ? 1 : 0));
  }
  if (fd_along >= 0) ::close(fd_along);
}

/// The part of an answer that is this side's business. `client` is nullptr if it has gone.
void Clients::settle(Client* client, ClientId id, const shm::MessageHeader& header, int& fd_along) {
  const auto found = pending_.find({id, header.tag});
  if (found == pending_.end()) return;
  const Pending pending = found->second;
  pending_.erase(found);
  if (pending.cookie != 0) {
    links_.listeners.answered(pending.cookie, header.type == shm::MessageType::kListening);
  }
  if (pending.bell == 0) return;
  if (client != nullptr && header.type == shm::MessageType::kContextReady) {
    client->bells.insert(pending.bell);
    fd_along = pending.bell_read;
    return;
  }
  ::close(pending.bell_read);
  drop_bell(pending.uid, pending.bell);
}

void Clients::drop_bell(std::uint32_t uid, std::uint32_t number) {
  users_.give_back(uid, Share::kBells);
  Order order;
  order.kind = Order::Kind::kRemoveBell;
  order.bell = number;
  links_.bridge.send(order);
  bell_numbers_.give_back(number);
}

void Clients::disconnect(Client& client, const char* reason) {
  std::uint64_t suppressed = 0;
  if (reason != nullptr && limiter_.allow(reason, clock_now(), suppressed)) {
    spdlog::warn("process {} ({}) disconnected: {}{}", client.pid, client.comm, reason,
                 suppressed == 0 ? "" : fmt::format(" (and {} others)", suppressed));
  }
  if (client.attached) {
    control::Request leave;
    leave.kind = control::Request::Kind::kLeave;
    leave.client = client.id;
    links_.bridge.send(leave);
  }
  for (const std::uint32_t bell : client.bells) drop_bell(client.uid, bell);
  if (client.bell_read >= 0) {
    Order order;
    order.kind = Order::Kind::kUnwatch;
    order.fd = client.bell_read;
    links_.bridge.send(order);
  }
  users_.give_back(client.uid, Share::kPrograms);
  sockets_.erase(client.id);
  clients_.erase(client.socket.get());  // `client` is gone from here on
}

}  // namespace toe::engine
