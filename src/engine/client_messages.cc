// What attached programs ask, one function per message. Each returns nullptr, or why the program
// is disconnected.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/clients.h"
#include "engine/message_check.h"
#include "engine/net/ownership.h"

namespace toe::engine {
namespace {

using shm::KernelReason;
using shm::MessageType;
using Kind = control::Request::Kind;

KernelReason reason_of(int error) {
  switch (error) {
    case EINVAL:
      return KernelReason::kNotListening;
    case EADDRNOTAVAIL:
      return KernelReason::kNotOurAddress;
    case EXDEV:
      return KernelReason::kOtherNamespace;
    case ENODEV:
      return KernelReason::kOtherDevice;
    default:
      return KernelReason::kNotTcp;
  }
}

control::Request request_of(Kind kind, const Client& client, std::uint64_t tag) {
  control::Request request;
  request.kind = kind;
  request.client = client.id;
  request.uid = client.uid;
  request.pid = client.pid;
  request.tag = tag;
  return request;
}

void add_facts(control::Request& request, const net::SocketFacts& facts) {
  request.cookie = facts.cookie;
  request.local = facts.address;
  request.local_port = facts.port;
  request.v6only = facts.v6_only;
  request.reuseport = facts.reuse_port;
  request.v4_socket = facts.family == AF_INET;
}

/// Text of a program: the terminating zero is not its to leave out.
void terminate(shm::SocketOptions& options) {
  options.congestion[sizeof options.congestion - 1] = '\0';
}

}  // namespace

const char* Clients::dispatch(Client& client, std::span<const std::uint8_t> bytes, Fds& fds) {
  const auto type = read_message<shm::MessageHeader>(bytes).type;
  if (is_foreign_hello(bytes))
    return on_foreign_hello(client, read_message<shm::HelloBegin>(bytes));
  if (type == MessageType::kHello) return on_hello(client, read_message<shm::Hello>(bytes));
  if (type == MessageType::kAdmin) {
    on_admin_(client, read_message<shm::Admin>(bytes));
    return nullptr;
  }
  if (!client.attached) return "message before Hello";
  switch (type) {
    case MessageType::kListen:
      return on_listen(client, read_message<shm::Listen>(bytes), fds);
    case MessageType::kConnect:
      return on_connect(client, read_message<shm::Connect>(bytes), fds);
    case MessageType::kContext:
      return on_context(client, read_message<shm::ContextMessage>(bytes));
    case MessageType::kShow:
      return on_show(client, read_message<shm::Show>(bytes), fds);
    case MessageType::kInfo:
      return on_info(client, read_message<shm::Info>(bytes));
    case MessageType::kOption:
      return on_option(client, read_message<shm::Option>(bytes));
    case MessageType::kReport:
      return on_report(client, read_message<shm::Report>(bytes));
    default:
      return "message of unknown type";
  }
}

const char* Clients::ask(Client& client, const control::Request& request) {
  if (++client.unanswered > kMaxUnanswered) return "too many questions without waiting";
  links_.bridge.send(request);
  return nullptr;
}

const char* Clients::ask_pending(Client& client, const control::Request& request,
                                 const Pending& pending) {
  const auto [place, fresh] = pending_.emplace(std::pair(client.id, request.tag), pending);
  if (!fresh) return "a tag was used twice";
  const char* wrong = ask(client, request);
  if (wrong != nullptr) pending_.erase(place);
  return wrong;
}

const char* Clients::on_foreign_hello(Client& client, const shm::HelloBegin& message) {
  const ClientId id = client.id;
  refuse(client, message.header.tag, KernelReason::kVersion, 0);
  return find(id) != nullptr ? "its libtoe has another version of the format" : nullptr;
}

const char* Clients::on_hello(Client& client, const shm::Hello& message) {
  if (client.attached) return "second Hello";
  if (message.magic != shm::kSegmentMagic) return "Hello without magic";
  client.comm.assign(message.comm, ::strnlen(message.comm, sizeof message.comm));
  if (client.pid == 0) client.pid = message.pid;  // a process of a foreign pid namespace
  if ((message.features & shm::kRequiredFeatures) != shm::kRequiredFeatures) {
    return on_foreign_hello(client, {message.header, message.magic, message.abi_version, 0});
  }
  const ClientId id = client.id;
  if (!welcome(client, message)) {
    return find(id) != nullptr ? "no descriptor is left for its doorbell" : nullptr;
  }
  if (!give_segment(client, Kind::kJoin)) return "no segment is left for it";
  return nullptr;
}

const char* Clients::on_listen(Client& client, const shm::Listen& message, Fds& fds) {
  const std::uint64_t tag = message.header.tag;
  if (filtered_) {
    refuse(client, tag, KernelReason::kNetfilter, 0);
    return nullptr;
  }
  Result<net::ListenerProof> proof =
      net::check_listener(fds[0].get(), links_.netns_cookie, links_.listeners.addresses());
  if (!proof.ok()) {
    refuse(client, tag, reason_of(proof.error().code), 0);
    return nullptr;
  }
  control::Request request = request_of(Kind::kListen, client, tag);
  add_facts(request, proof.value());
  request.backlog = message.backlog;
  request.options = message.options;
  terminate(request.options);
  Pending pending;
  pending.cookie = proof.value().cookie;
  const char* wrong = ask_pending(client, request, pending);
  if (wrong == nullptr) links_.listeners.offer(proof.value(), std::move(fds[0]));
  return wrong;
}

const char* Clients::on_connect(Client& client, const shm::Connect& message, const Fds& fds) {
  const std::uint64_t tag = message.header.tag;
  if (filtered_) {
    refuse(client, tag, KernelReason::kNetfilter, 0);
    return nullptr;
  }
  Result<net::SocketFacts> facts =
      net::check_connector(fds[0].get(), links_.netns_cookie, links_.listeners.addresses());
  if (!facts.ok()) {
    refuse(client, tag, reason_of(facts.error().code), 0);
    return nullptr;
  }
  control::Request request = request_of(Kind::kConnect, client, tag);
  add_facts(request, facts.value());
  request.remote = IpAddr::v6(message.remote_addr);
  request.remote_port = message.remote_port;
  request.options = message.options;
  terminate(request.options);
  return ask(client, request);
}

const char* Clients::on_show(Client& client, const shm::Show& message, const Fds& fds) {
  control::Request request = request_of(Kind::kShow, client, message.header.tag);
  request.count = static_cast<std::uint32_t>(fds.size());
  for (std::size_t i = 0; i < fds.size(); ++i) {
    Result<net::SocketFacts> facts = net::check_socket(fds[i].get(), links_.netns_cookie);
    request.cookies[i] = facts.ok() ? facts.value().cookie : 0;  // 0 is nobody's: kKernel
  }
  return ask(client, request);
}

const char* Clients::on_context(Client& client, const shm::ContextMessage& message) {
  control::Request request = request_of(Kind::kContext, client, message.header.tag);
  request.segment = static_cast<SegmentId>(message.segment_id);
  request.doorbell = message.doorbell;
  if (message.doorbell != 0) {
    if (!client.bells.contains(message.doorbell)) return "context with an unknown doorbell";
    return ask(client, request);
  }
  if (client.bells.size() >= kMaxBellsPerClient || !users_.take(client.uid, Share::kBells)) {
    refuse(client, message.header.tag, KernelReason::kLimit, 0);
    return nullptr;
  }
  int ends[2];
  const std::uint32_t number = bell_numbers_.take();
  if (number == 0 || ::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) {
    if (number != 0) bell_numbers_.give_back(number);
    users_.give_back(client.uid, Share::kBells);
    refuse(client, message.header.tag, KernelReason::kLimit, 0);
    return nullptr;
  }
  Order order;
  order.kind = Order::Kind::kAddBell;
  order.bell = number;
  order.fd = ends[1];
  links_.bridge.send(order);
  request.doorbell = number;
  Pending pending;
  pending.bell = number;
  pending.bell_read = ends[0];
  pending.uid = client.uid;
  const char* wrong = ask_pending(client, request, pending);
  if (wrong != nullptr) {
    ::close(ends[0]);
    drop_bell(client.uid, number);
  }
  return wrong;
}

const char* Clients::on_info(Client& client, const shm::Info& message) {
  control::Request request = request_of(Kind::kInfo, client, message.header.tag);
  request.segment = static_cast<SegmentId>(message.segment_id);
  request.line = message.line;
  return ask(client, request);
}

const char* Clients::on_option(Client& client, const shm::Option& message) {
  if (message.length > sizeof message.value) return "option longer than its message";
  control::Request request = request_of(Kind::kOption, client, message.header.tag);
  request.segment = static_cast<SegmentId>(message.segment_id);
  request.line = message.line;
  request.level = message.level;
  request.name = message.name;
  request.value_length = message.length;
  std::memcpy(request.value, message.value, sizeof request.value);
  return ask(client, request);
}

const char* Clients::on_report(Client& client, const shm::Report& message) {
  const auto reason = static_cast<std::size_t>(message.reason);
  if (reason == 0 || reason >= client.kernel.size()) return "report of an unknown reason";
  client.kernel[reason] += message.count;
  return nullptr;
}

}  // namespace toe::engine
