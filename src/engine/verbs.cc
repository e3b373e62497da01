#include "engine/verbs.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/clock.h"
#include "engine/exposition.h"
#include "shm/kernel_reason.h"

namespace toe::engine {
namespace {

/// A sealed memfd with the text; invalid when the kernel has no memory for it.
UniqueFd text_file(const std::string& text) {
  UniqueFd fd(::memfd_create("flextoe-reply", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return fd;
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(fd.get(), text.data() + done, text.size() - done);
    if (n <= 0) return UniqueFd();
    done += static_cast<std::size_t>(n);
  }
  const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
  if (::fcntl(fd.get(), F_ADD_SEALS, seals) != 0) return UniqueFd();
  return fd;
}

bool allowed(const Client& client) { return client.uid == 0 || client.uid == ::geteuid(); }

StatusFacts::Process process_of(const Client& client) {
  StatusFacts::Process process;
  process.pid = client.pid;
  process.uid = client.uid;
  process.comm = client.comm;
  for (std::size_t i = 0; i < client.kernel.size(); ++i) {
    if (client.kernel[i] == 0) continue;
    process.kernel += client.kernel[i];
    process.reasons[shm::kernel_reason_word(static_cast<shm::KernelReason>(i))] = client.kernel[i];
  }
  return process;
}

/// What each user has. Users that have nothing and had nothing refused are of no interest.
void add_users(const Users& users, std::span<const control::ConnRecord> rows, StatusFacts& facts) {
  std::map<std::uint32_t, std::uint64_t> connections;
  for (const control::ConnRecord& row : rows) {
    if (row.kind == control::ConnRecord::Kind::kConnection) ++connections[row.uid];
  }
  for (const auto& [uid, user] : users.all()) {
    StatusFacts::User shown;
    shown.uid = uid;
    shown.programs = user.has[static_cast<std::size_t>(Share::kPrograms)];
    shown.segments = user.has[static_cast<std::size_t>(Share::kSegments)];
    shown.connections = connections[uid];
    shown.refused = user.refused;
    shown.delayed = user.delayed;
    facts.users.push_back(shown);
  }
}

void add_socket(const control::ConnRecord& row, StatusFacts::Process& process) {
  ++process.offloaded;
  if (row.kind == control::ConnRecord::Kind::kListener) {
    process.listeners.push_back(address_text(row.key.local, row.key.local_port));
  } else {
    ++process.connections;
  }
}

}  // namespace

void Verbs::ask(Clients& clients, Client& client, const shm::Admin& message) {
  const std::uint64_t tag = message.header.tag;
  if (!allowed(client)) return refuse(clients, client, tag, EPERM);
  if (message.verb < shm::AdminVerb::kStatus || message.verb > shm::AdminVerb::kConfig) {
    return refuse(clients, client, tag, EINVAL);
  }
  if (full()) return refuse(clients, client, tag, EBUSY);
  // Before the engine's own, of which programs that close listeners can make many.
  Question& question = questions_.emplace_front();
  question.client = client.id;
  question.tag = tag;
  question.verb = message.verb;
  question.time_wait = (message.flags & shm::kAdminTimeWait) != 0;
  question.exposition = (message.flags & shm::kAdminExposition) != 0;
  if (message.verb == shm::AdminVerb::kConns || message.verb == shm::AdminVerb::kStatus) {
    question.dump = std::make_unique<control::Dump>();
    start_dumps();
  } else if (message.verb == shm::AdminVerb::kStats) {
    take_snapshot(question);
  }
}

bool Verbs::full() const {
  const auto asked = std::count_if(questions_.begin(), questions_.end(),
                                   [](const Question& q) { return q.done == nullptr; });
  return asked >= static_cast<std::ptrdiff_t>(kMaxQuestions);
}

void Verbs::take_snapshot(Question& question) {
  question.snapshot = std::make_unique<PortSnapshot>();
  Order order;
  order.kind = Order::Kind::kSnapshot;
  order.snapshot = question.snapshot.get();
  links_.bridge.send(order);
}

void Verbs::exposition(TextTaker done) {
  if (full()) return done("");
  Question& question = questions_.emplace_front();
  question.verb = shm::AdminVerb::kStats;
  question.exposition = true;
  question.text_done = std::move(done);
  take_snapshot(question);
}

void Verbs::dump(bool time_wait, RowsTaker done) {
  Question& question = questions_.emplace_back();
  question.time_wait = time_wait;
  question.done = std::move(done);
  question.dump = std::make_unique<control::Dump>();
  start_dumps();
}

void Verbs::start_dumps() {
  std::size_t under_way = 0;
  for (Question& question : questions_) {
    if (question.dump == nullptr) continue;
    if (++under_way > kMaxDumps) return;
    if (!question.asked) start_dump(question);
  }
}

void Verbs::start_dump(Question& question) {
  question.asked = true;
  question.dump->rows.reserve(kMaxRows);
  question.dump->time_wait = question.time_wait;
  control::Request request;
  request.kind = control::Request::Kind::kDump;
  request.dump = question.dump.get();
  links_.bridge.send(request);
}

bool Verbs::collected(const Question& question) const {
  if (question.dump != nullptr) return question.dump->done.load(std::memory_order_acquire);
  if (question.snapshot != nullptr) return question.snapshot->done.load(std::memory_order_acquire);
  return true;
}

void Verbs::poll(Clients& clients) {
  for (auto question = questions_.begin(); question != questions_.end();) {
    if (!collected(*question)) {
      ++question;
      continue;
    }
    if (question->done) {
      question->done(question->dump->rows, question->dump->truncated);
    } else if (question->text_done) {
      question->text_done(stats_text(*question, clients));
    } else if (Client* client = clients.find(question->client)) {
      answer(clients, *client, *question);
    }
    question = questions_.erase(question);
  }
  start_dumps();
}

std::string Verbs::text_of(const Question& question, const Clients& clients) const {
  switch (question.verb) {
    case shm::AdminVerb::kStatus:
      return status_text(question, clients);
    case shm::AdminVerb::kConns:
      return conns_text(question, clients);
    case shm::AdminVerb::kStats:
      return stats_text(question, clients);
    case shm::AdminVerb::kConfig:
      return config_json(links_.settings);
  }
  return {};
}

std::string Verbs::conns_text(const Question& question, const Clients& clients) const {
  ConnsView view;
  view.time_wait = question.time_wait;
  view.truncated = question.dump->truncated;
  for (const auto& [socket, client] : clients.all()) {
    if (client.attached) view.names[client.pid] = client.comm;
  }
  return conns_json(question.dump->rows, view);
}

std::string Verbs::status_text(const Question& question, const Clients& clients) const {
  StatusFacts facts = links_.facts;
  facts.uptime_s = static_cast<double>((clock_now() - links_.started).ns / 1'000'000) / 1000;
  facts.segments = links_.segments.count();
  std::map<std::int32_t, StatusFacts::Process> by_pid;
  for (const auto& [socket, client] : clients.all()) {
    if (client.attached) by_pid[client.pid] = process_of(client);
  }
  for (const control::ConnRecord& row : question.dump->rows) {
    if (row.kind == control::ConnRecord::Kind::kConnection) ++facts.flows;
    const auto process = by_pid.find(row.pid);
    if (process != by_pid.end()) add_socket(row, process->second);
  }
  add_users(clients.users(), question.dump->rows, facts);
  for (auto& [pid, process] : by_pid) facts.processes.push_back(std::move(process));
  return status_json(facts);
}

std::string Verbs::stats_text(const Question& question, const Clients& clients) const {
  StatsFacts facts;
  add_control_counters(links_.core.control().counters(), facts);
  add_datapath_counters(links_.core.datapath_counters(), facts);
  add_core_losses(links_.core.losses(), facts);
  add_port_counters(question.snapshot->stats, facts);
  const port::SteeringCounters steering = links_.steering.counters();
  facts.counters.emplace_back("user_shares_refused", clients.users().refused());
  facts.counters.emplace_back("user_requests_delayed", clients.users().delayed());
  facts.counters.emplace_back("exceptions_passed", steering.exceptions_passed);
  facts.counters.emplace_back("exceptions_redirected", steering.exceptions_redirected);
  facts.counters.emplace_back("fragments_passed", steering.fragments_passed);
  facts.counters.emplace_back("vlan_passed", steering.vlan_passed);
  facts.drops.emplace_back("icmp_over_limit", icmp_over_limit_ + icmp_dropped_);
  facts.drops.emplace_back("steering_fragments", steering.fragments_dropped);
  facts.drops.emplace_back("steering_headers", steering.headers_dropped);
  facts.drops.emplace_back("steering_changing", steering.changing_dropped);
  facts.levels = {{"frames", question.snapshot->frames},
                  {"frames_held", question.snapshot->frames_held},
                  {"ports_held", links_.listeners.held()},
                  {"flows", question.snapshot->flows},
                  {"max_flows", links_.facts.max_flows}};
  if (!question.exposition) return stats_json(facts);
  return exposition_text(facts, links_.facts, (clock_now() - links_.started).ns / 1'000'000'000);
}

void Verbs::answer(Clients& clients, Client& client, const Question& question) {
  const std::string text = text_of(question, clients);
  const UniqueFd file = text_file(text);
  if (!file.valid()) return refuse(clients, client, question.tag, ENOMEM);
  shm::AdminReply reply{};
  reply.header = {shm::MessageType::kAdminReply, sizeof reply, question.tag};
  reply.bytes = text.size();
  const int fds[] = {file.get()};
  clients.send(client, {reinterpret_cast<const std::uint8_t*>(&reply), sizeof reply}, fds);
}

void Verbs::refuse(Clients& clients, Client& client, std::uint64_t tag, int error) {
  shm::AdminReply reply{};
  reply.header = {shm::MessageType::kAdminReply, sizeof reply, tag};
  reply.error = error;
  clients.send(client, {reinterpret_cast<const std::uint8_t*>(&reply), sizeof reply});
}

}  // namespace toe::engine
