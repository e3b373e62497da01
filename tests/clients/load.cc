#include "load.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>

namespace toe::clients {
namespace {

constexpr int kConnectMs = 5000;
constexpr std::uint64_t kLookEvery = 100'000'000;
constexpr std::size_t kEvents = 1024;

}  // namespace

std::size_t send_some(const Peer& peer, std::span<const char> data) {
  const ssize_t n = ::send(peer.fd.get(), data.data(), data.size(), MSG_NOSIGNAL);
  if (n >= 0) return static_cast<std::size_t>(n);
  if (errno == EAGAIN) return 0;
  throw RunFailed(std::string("send: ") + std::strerror(errno) + " on " + peer.name());
}

std::optional<std::size_t> receive_some(const Peer& peer, std::span<char> into) {
  const ssize_t n = ::recv(peer.fd.get(), into.data(), into.size(), 0);
  if (n >= 0) return static_cast<std::size_t>(n);
  if (errno == EAGAIN) return std::nullopt;
  throw RunFailed(std::string("recv: ") + std::strerror(errno) + " on " + peer.name());
}

Load::Load(std::string program, std::string server)
    : program_(std::move(program)),
      server_(parse_endpoint(server)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_.valid()) fail_errno("epoll_create");
}

int Load::run(const std::string& json) {
  std::string reason;
  try {
    start();
    loop();
    finished_ = now_ns();
    finish();
  } catch (const std::exception& failure) {
    reason = failure.what();
    std::cerr << program_ << ": " << reason << std::endl;
  }
  write_json(json, report(reason));
  return reason.empty() ? 0 : 1;
}

void Load::begin(double warmup) {
  begin_ = now_ns();
  measure_from_ = begin_ + static_cast<std::uint64_t>(warmup * 1e9);
}

void Load::add(std::unique_ptr<Peer> peer) {
  peer->index = static_cast<unsigned>(peers_.size());
  peers_.push_back(std::move(peer));
}

void Load::connect(Peer& peer, const Endpoint* source) {
  peer.fd = connect_to(server_, source, kConnectMs);
  watch(peer, EPOLL_CTL_ADD, EPOLLIN);
}

void Load::watch(const Peer& peer, int operation, std::uint32_t events) {
  epoll_event event{events, {.u32 = peer.index}};
  if (::epoll_ctl(epoll_.get(), operation, peer.fd.get(), &event) != 0) fail_errno("epoll_ctl");
}

void Load::set_wants_write(Peer& peer, bool wants) {
  if (wants == peer.wants_write) return;
  peer.wants_write = wants;
  watch(peer, EPOLL_CTL_MOD, EPOLLIN | (wants ? std::uint32_t{EPOLLOUT} : 0u));
}

void Load::tell_tuples(const std::string& path) const {
  if (path.empty()) return;
  std::vector<int> fds;
  for (const auto& peer : peers_) fds.push_back(peer->fd.get());
  write_tuples(path, fds, server_.text());
}

void Load::idle(double seconds) {
  if (seconds > 0) stay_silent(epoll_.get(), seconds, program_);
}

void Load::answered(std::uint64_t started, std::uint64_t now) {
  if (started >= measure_from_) latency_.record(now - started);
  ++done_;
}

void Load::loop() {
  Ticker ticker(program_, begin_);
  std::uint64_t looked = begin_;
  std::vector<epoll_event> events(kEvents);
  for (std::uint64_t now = begin_; goes_on(now);) {
    const int ready = ::epoll_wait(epoll_.get(), events.data(), kEvents, 100);
    if (ready < 0 && errno != EINTR) fail_errno("epoll_wait");
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      on_event(*peers_[event.data.u32], event.events);
    }
    now = now_ns();
    if (now - looked < kLookEvery) continue;
    looked = now;
    for (const auto& peer : peers_) {
      if (peer->waits()) peer->progress.look(now, peer->name());
    }
    ticker.tick(now, done_, std::to_string(stalls()) + " stalls");
  }
}

std::uint64_t Load::stalls() const {
  std::uint64_t sum = 0;
  for (const auto& peer : peers_) sum += peer->progress.stalls();
  return sum;
}

double Load::measured_seconds() const {
  const std::uint64_t end = finished_ != 0 ? finished_ : now_ns();
  if (begin_ == 0 || end <= measure_from_) return 0;
  return static_cast<double>(end - measure_from_) / 1e9;
}

double Load::per_second() const {
  const double seconds = measured_seconds();
  return seconds > 0 ? static_cast<double>(latency_.count()) / seconds : 0;
}

nlohmann::json Load::report(const std::string& reason) const {
  std::uint64_t longest = 0;
  for (const auto& peer : peers_) longest = std::max(longest, peer->progress.longest_ns());
  nlohmann::json report = {{"schema", 1},
                           {"program", program_},
                           {"server", server_.text()},
                           {"connections", peers_.size()},
                           {"operations", done_},
                           {"seconds", measured_seconds()},
                           {"per_s", per_second()},
                           {"latency_us", latency_.to_json()},
                           {"stalls", stalls()},
                           {"longest_stand_s", static_cast<double>(longest) / 1e9},
                           {"client_cpu_s", own_cpu_seconds()},
                           {"failed", !reason.empty()},
                           {"reason", reason}};
  add_to_report(report);
  return report;
}

}  // namespace toe::clients
