// echo_server: sends back what it receives. Four shapes of the same server, so that each way of
// waiting for sockets is exercised: epoll with level or edge triggers, a blocking thread per
// connection, a process per connection.
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <memory>
#include <thread>
#include <unordered_map>

#include "net.h"
#include "program.h"

namespace toe::clients {
namespace {

constexpr std::size_t kChunk = 64 * 1024;

struct Options {
  std::string listen = "0.0.0.0:7";
  std::string mode = "level";
  int backlog = 1024;
  std::uint64_t close_after = 0;  ///< bytes after which the server closes; 0: never
};

/// Sends all of it; false if the connection ended.
bool send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::send(fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

void serve_blocking(Fd fd, std::uint64_t close_after) {
  std::vector<char> buffer(kChunk);
  std::uint64_t total = 0;
  for (;;) {
    const ssize_t n = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || !send_all(fd.get(), buffer.data(), static_cast<std::size_t>(n))) return;
    total += static_cast<std::uint64_t>(n);
    if (close_after != 0 && total >= close_after) return;
  }
}

Fd accept_blocking(int listener) {
  for (;;) {
    Fd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.valid()) {
      set_nodelay(fd.get());
      return fd;
    }
    if (errno != EINTR && errno != ECONNABORTED) fail_errno("accept");
  }
}

void run_threads(const Options& options) {
  const Fd listener = listen_on(parse_endpoint(options.listen), options.backlog, false);
  for (;;) {
    Fd fd = accept_blocking(listener.get());
    std::thread([moved = std::move(fd), after = options.close_after]() mutable {
      serve_blocking(std::move(moved), after);
    }).detach();
  }
}

void run_processes(const Options& options) {
  const Fd listener = listen_on(parse_endpoint(options.listen), options.backlog, false);
  std::signal(SIGCHLD, SIG_IGN);
  for (;;) {
    Fd fd = accept_blocking(listener.get());
    const pid_t child = ::fork();
    if (child < 0) fail_errno("fork");
    if (child == 0) {
      serve_blocking(std::move(fd), options.close_after);
      ::_exit(0);
    }
  }
}

/// A connection of the epoll server. While an answer waits for room, nothing more is read.
struct Client {
  Fd fd;
  std::vector<char> waiting;
  std::size_t waiting_from = 0;
  std::uint64_t total = 0;
};

class EpollServer {
 public:
  EpollServer(const Options& options, bool edge)
      : options_(options), trigger_(edge ? EPOLLET : 0u), edge_(edge) {
    listener_ = listen_on(parse_endpoint(options.listen), options.backlog, true);
    epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{EPOLLIN | trigger_, {.ptr = nullptr}};
    control(EPOLL_CTL_ADD, listener_.get(), event);
  }

  void run() {
    std::vector<epoll_event> events(256);
    for (;;) {
      const int ready =
          ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
      if (ready < 0 && errno != EINTR) fail_errno("epoll_wait");
      for (int i = 0; i < ready; ++i) {
        auto* client = static_cast<Client*>(events[static_cast<std::size_t>(i)].data.ptr);
        if (client == nullptr) {
          accept_all();
        } else if (!serve(*client)) {
          clients_.erase(client);
        }
      }
    }
  }

 private:
  void control(int operation, int fd, epoll_event& event) {
    if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) fail_errno("epoll_ctl");
  }

  void accept_all() {
    for (;;) {
      Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.valid()) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EAGAIN) return;
        fail_errno("accept");
      }
      set_nodelay(fd.get());
      auto client = std::make_unique<Client>();
      client->fd = std::move(fd);
      watch(*client, EPOLL_CTL_ADD, EPOLLIN | (edge_ ? std::uint32_t{EPOLLOUT} : 0u));
      Client* key = client.get();
      clients_.emplace(key, std::move(client));
    }
  }

  void watch(Client& client, int operation, std::uint32_t events) {
    epoll_event event{events | trigger_, {.ptr = &client}};
    control(operation, client.fd.get(), event);
  }

  /// One round of reading and writing: once per call when level-triggered, until EAGAIN when
  /// edge-triggered. False: the connection is over.
  bool serve(Client& client) {
    if (!flush(client)) return false;
    while (client.waiting.empty()) {
      const ssize_t n = ::recv(client.fd.get(), buffer_.data(), buffer_.size(), 0);
      if (n < 0) return errno == EAGAIN || errno == EINTR;
      if (n == 0) return false;
      client.total += static_cast<std::uint64_t>(n);
      if (!answer(client, static_cast<std::size_t>(n))) return false;
      if (finished(client)) return false;
      if (!edge_) return true;
    }
    return true;
  }

  bool finished(const Client& client) const {
    return options_.close_after != 0 && client.total >= options_.close_after &&
           client.waiting.empty();
  }

  bool answer(Client& client, std::size_t size) {
    const ssize_t n = ::send(client.fd.get(), buffer_.data(), size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return false;
    const std::size_t sent = n < 0 ? 0 : static_cast<std::size_t>(n);
    if (sent == size) return true;
    client.waiting.assign(buffer_.data() + sent, buffer_.data() + size);
    client.waiting_from = 0;
    return flush(client) && (client.waiting.empty() || wait_for_room(client));
  }

  bool wait_for_room(Client& client) {
    if (!edge_) watch(client, EPOLL_CTL_MOD, EPOLLOUT);
    return true;
  }

  bool flush(Client& client) {
    if (client.waiting.empty()) return true;
    while (client.waiting_from < client.waiting.size()) {
      const ssize_t n = ::send(client.fd.get(), client.waiting.data() + client.waiting_from,
                               client.waiting.size() - client.waiting_from, MSG_NOSIGNAL);
      if (n < 0) return errno == EAGAIN || errno == EINTR;
      client.waiting_from += static_cast<std::size_t>(n);
    }
    client.waiting.clear();
    if (!edge_) watch(client, EPOLL_CTL_MOD, EPOLLIN);
    return !finished(client);
  }

  const Options& options_;
  const std::uint32_t trigger_;
  const bool edge_;
  Fd listener_;
  Fd epoll_;
  std::vector<char> buffer_ = std::vector<char>(kChunk);
  std::unordered_map<Client*, std::unique_ptr<Client>> clients_;
};

void run(const Options& options) {
  raise_fd_limit();
  if (options.mode == "threads") {
    run_threads(options);
  } else if (options.mode == "processes") {
    run_processes(options);
  } else {
    EpollServer(options, options.mode == "edge").run();
  }
}

}  // namespace
}  // namespace toe::clients

int main(int argc, char** argv) {
  toe::clients::Options options;
  CLI::App app("Sends back what it receives", "echo_server");
  app.add_option("--listen", options.listen, "ADDRESS:PORT; [::]:PORT serves IPv4 too");
  app.add_option("--mode", options.mode)
      ->check(CLI::IsMember({"level", "edge", "threads", "processes"}));
  app.add_option("--backlog", options.backlog);
  app.add_option("--close-after", options.close_after,
                 "close each connection after this many bytes");
  return toe::clients::run_program(app, argc, argv, [&] {
    toe::clients::run(options);
    return 0;
  });
}
