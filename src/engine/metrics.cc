#include "engine/metrics.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "engine/clock.h"
#include "engine/prepared_thread.h"

namespace toe::engine {
namespace {

constexpr int kPauseMs = 100;
constexpr std::size_t kFixedFds = 3;  ///< stop, answer, listener

Error failure(const std::string& what) { return {errno, what + ": " + std::strerror(errno)}; }

Error no_loopback(const std::string& text) {
  return {EINVAL, fmt::format("metrics is '{}', but must be a loopback address with a port, as in "
                              "127.0.0.1:9100 or [::1]:9100",
                              text)};
}

bool parse_port(std::string_view text, std::uint16_t& port) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), port);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && port != 0;
}

bool is_event(const pollfd& entry) { return entry.revents != 0; }

void drain(int event_fd) {
  std::uint64_t count = 0;
  (void)!::read(event_fd, &count, sizeof count);
}

void raise(int event_fd) {
  const std::uint64_t one = 1;
  (void)!::write(event_fd, &one, sizeof one);
}

}  // namespace

Result<LoopbackAddress> parse_loopback(const std::string& text) {
  LoopbackAddress address;
  const std::size_t colon = text.rfind(':');
  std::uint16_t port = 0;
  if (colon == std::string::npos || !parse_port(std::string_view(text).substr(colon + 1), port)) {
    return no_loopback(text);
  }
  std::string host = text.substr(0, colon);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.bytes);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    if (ntohl(v4->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET) return no_loopback(text);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.length = sizeof *v4;
    return address;
  }
  address.bytes = {};
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  if (!brackets || ::inet_pton(AF_INET6, host.c_str(), &address.bytes.sin6_addr) != 1 ||
      !IN6_IS_ADDR_LOOPBACK(&address.bytes.sin6_addr)) {
    return no_loopback(text);
  }
  address.bytes.sin6_family = AF_INET6;
  address.bytes.sin6_port = htons(port);
  address.length = sizeof address.bytes;
  return address;
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::open(const std::string& text) {
  Result<LoopbackAddress> address = parse_loopback(text);
  if (!address.ok()) return address.error();
  std::unique_ptr<MetricsServer> server(new MetricsServer);
  const auto* bytes = reinterpret_cast<const sockaddr*>(&address.value().bytes);
  UniqueFd& listener = server->listener_;
  listener.reset(::socket(bytes->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int one = 1;
  if (!listener.valid() ||
      ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
      ::bind(listener.get(), bytes, address.value().length) != 0 ||
      ::listen(listener.get(), kMaxConnections) != 0) {
    return failure("cannot serve metrics at " + text);
  }
  for (UniqueFd* event : {&server->asked_, &server->answered_, &server->stop_}) {
    event->reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!event->valid()) return failure("cannot make an eventfd");
  }
  return server;
}

MetricsServer::~MetricsServer() {
  if (!thread_.joinable()) return;
  raise(stop_.get());
  thread_.join();
}

Status MetricsServer::start(const std::function<Status()>& prepare) {
  return start_prepared(thread_, {"flextoe-metrics", prepare, [this] { run(); }});
}

void MetricsServer::take_question() const { drain(asked_.get()); }

void MetricsServer::answer(std::string text) {
  {
    const std::lock_guard lock(mutex_);
    text_ = std::move(text);
  }
  raise(answered_.get());
}

void MetricsServer::run() {
  for (;;) {
    std::vector<pollfd> fds = {
        {stop_.get(), POLLIN, 0}, {answered_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Connection& c : connections_) {
      const bool reads = c.question == HttpQuestion::kIncomplete;
      fds.push_back({c.socket.get(),
                     static_cast<short>(!c.out.empty() ? POLLOUT
                                        : reads        ? POLLIN
                                                       : 0),
                     0});
    }
    if (::poll(fds.data(), fds.size(), timeout_ms()) < 0 && errno != EINTR) {
      spdlog::error("metrics are not served any more: {}", std::strerror(errno));
      return;
    }
    if (is_event(fds[0])) return;
    std::size_t at = kFixedFds;
    for (Connection& c : connections_) {
      if (is_event(fds[at++])) move(c);
    }
    if (is_event(fds[1])) give_answer();
    const Time now = clock_now();
    connections_.remove_if([now](const Connection& c) { return c.ended || now >= c.until; });
    if (is_event(fds[2])) accept_one();
  }
}

int MetricsServer::timeout_ms() const {
  if (connections_.empty()) return -1;
  const Nanos left = connections_.front().until - clock_now();  // the oldest ends first
  return static_cast<int>(std::max<std::int64_t>(left.ns / 1'000'000 + 1, 0));
}

void MetricsServer::accept_one() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket.valid()) {
    // Without descriptors the listener stays readable: not in a tight loop.
    if (errno != EAGAIN) (void)::poll(nullptr, 0, kPauseMs);
    return;
  }
  if (connections_.size() == kMaxConnections) connections_.pop_front();
  Connection& connection = connections_.emplace_back();
  connection.socket = std::move(socket);
  connection.until = clock_now() + kPatience;
}

void MetricsServer::move(Connection& connection) {
  if (!connection.out.empty()) return transmit(connection);
  if (connection.question == HttpQuestion::kIncomplete) return receive(connection);
  connection.ended = true;  // only an end wakes a connection that waits for its answer
}

void MetricsServer::receive(Connection& connection) {
  char bytes[2048];
  const ssize_t count = ::recv(connection.socket.get(), bytes, sizeof bytes, 0);
  if (count < 0 && errno == EAGAIN) return;
  if (count <= 0) {
    connection.ended = true;
    return;
  }
  connection.in.append(bytes, static_cast<std::size_t>(count));
  connection.question = read_question(connection.in);
  if (connection.question == HttpQuestion::kIncomplete) return;
  if (connection.question != HttpQuestion::kMetrics && connection.question != HttpQuestion::kHead) {
    connection.out = http_response(connection.question, "");
  } else if (!waiting_) {
    waiting_ = true;
    raise(asked_.get());
  }
}

void MetricsServer::transmit(Connection& connection) {
  const ssize_t count = ::send(connection.socket.get(), connection.out.data(),
                               connection.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (count < 0 && errno == EAGAIN) return;
  connection.out.erase(0, count < 0 ? connection.out.size() : static_cast<std::size_t>(count));
  connection.ended = connection.out.empty();
}

void MetricsServer::give_answer() {
  drain(answered_.get());
  waiting_ = false;
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text.swap(text_);
  }
  for (Connection& connection : connections_) {
    if (connection.question != HttpQuestion::kMetrics &&
        connection.question != HttpQuestion::kHead) {
      continue;
    }
    if (connection.ended || !connection.out.empty()) continue;
    connection.out = text.empty() ? http_unavailable() : http_response(connection.question, text);
  }
}

}  // namespace toe::engine
