// bulk: moves a checked stream one way or both ways at once.
//
// `bulk --serve ADDRESS:PORT` answers any number of clients, one thread each. A client sends a
// header {magic, seed, bytes up, bytes down}, then its stream, then ends its direction; the server
// streams at the same time and, having seen the client's end, adds a trailer {bytes received,
// first wrong byte + 1 or 0, longest gap} and ends too. A gap is the time between two deliveries of
// the stream to its receiver. --no-check (for benchmarks) neither computes nor
// compares the bytes. Exit status: 0 all bytes right, 1 not, 2 usage.
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <thread>

#include "content.h"
#include "net.h"
#include "program.h"
#include "watch.h"

namespace toe::clients {
namespace {

constexpr std::uint64_t kMagic = 0x6b6c75622d656f74;
constexpr std::uint64_t kMagicUnchecked = 0x6b6c75622d656f75;  ///< any bytes, none compared
constexpr std::size_t kChunk = 128 * 1024;
constexpr int kConnectMs = 30'000;  ///< networks may be bad: some SYNs get lost
constexpr int kDrainMs = 40'000;    ///< what send() took may still be on its way

struct Header {
  std::uint64_t magic, seed, up, down;
};
struct Trailer {
  std::uint64_t received, wrong, longest_gap_ns;
};

/// One direction of the stream, at its receiver.
struct Inbound {
  Content content;
  std::uint64_t total;
  bool checked;
  std::uint64_t received = 0;
  std::uint64_t wrong = 0;  ///< position of the first wrong byte + 1
  std::uint64_t last_ns = 0;
  std::uint64_t longest_gap_ns = 0;

  void take(std::span<const char> bytes, std::uint64_t now) {
    if (received != 0) longest_gap_ns = std::max(longest_gap_ns, now - last_ns);
    last_ns = now;
    if (checked && wrong == 0) {
      if (const auto at = content.first_wrong(received, bytes)) wrong = received + *at + 1;
    }
    received += bytes.size();
  }
};

/// Sends a stream and receives another over one non-blocking socket; `tail` follows what is sent
/// as soon as the peer has ended its direction.
class Exchange {
 public:
  Exchange(int fd, std::uint64_t send_seed, std::uint64_t send_total, Inbound& inbound)
      : fd_(fd), content_(send_seed), total_(send_total), inbound_(inbound) {
    progress_.start(now_ns());
  }

  /// Runs until the stream is sent and `inbound.total` bytes are there.
  void run() {
    while (sent_ < total_ || inbound_.received < inbound_.total) {
      const bool reads = inbound_.received < inbound_.total;
      const bool writes = sent_ < total_;
      pollfd wait{fd_, static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0};
      if (::poll(&wait, 1, 500) < 0 && errno != EINTR) fail_errno("poll");
      if (reads && (wait.revents & ~POLLOUT) != 0) receive();
      if (writes && (wait.revents & POLLOUT) != 0) send();
      progress_.look(now_ns(), "bulk, sent " + std::to_string(sent_) + ", received " +
                                   std::to_string(inbound_.received));
    }
  }
  const Progress& progress() const { return progress_; }

 private:
  void receive() {
    const std::size_t want = std::min<std::uint64_t>(kChunk, inbound_.total - inbound_.received);
    const ssize_t n = ::recv(fd_, in_.data(), want, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) fail_errno("recv");
    if (n == 0) throw RunFailed("the peer ended after " + std::to_string(inbound_.received));
    const std::uint64_t now = now_ns();
    inbound_.take(std::span(in_.data(), static_cast<std::size_t>(n)), now);
    progress_.moved(now);
  }

  void send() {
    if (out_left_.empty()) {
      const std::size_t size = std::min<std::uint64_t>(kChunk, total_ - sent_);
      if (inbound_.checked) content_.fill(sent_, std::span(out_.data(), size));
      out_left_ = std::span(out_.data(), size);
    }
    const ssize_t n = ::send(fd_, out_left_.data(), out_left_.size(), MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) fail_errno("send");
    out_left_ = out_left_.subspan(static_cast<std::size_t>(n));
    sent_ += static_cast<std::uint64_t>(n);
    progress_.moved(now_ns());
  }

  int fd_;
  Content content_;
  std::uint64_t total_;
  std::uint64_t sent_ = 0;
  Inbound& inbound_;
  Progress progress_;
  std::vector<char> in_ = std::vector<char>(kChunk), out_ = std::vector<char>(kChunk);
  std::span<const char> out_left_;
};

/// Exactly `size` bytes, unless nothing comes for `patience_ms`; false at the peer's end before the
/// first byte.
bool read_exactly(int fd, void* data, std::size_t size, int patience_ms = 10'000) {
  for (std::size_t done = 0; done < size;) {
    pollfd wait{fd, POLLIN, 0};
    if (::poll(&wait, 1, patience_ms) == 0) {
      throw RunFailed("nothing to read for " + std::to_string(patience_ms / 1000) + " s");
    }
    const ssize_t n = ::recv(fd, static_cast<char*>(data) + done, size - done, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n < 0) fail_errno("recv");
    if (n == 0 && done == 0) return false;
    if (n == 0) throw RunFailed("the peer ended in the middle");
    done += static_cast<std::size_t>(n);
  }
  return true;
}

void write_exactly(int fd, const void* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = ::send(fd, static_cast<const char*>(data) + done, size - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      pollfd wait{fd, POLLOUT, 0};
      if (::poll(&wait, 1, 10'000) == 0) throw RunFailed("no room to write for 10 s");
    } else if (n < 0 && errno != EINTR) {
      fail_errno("send");
    } else if (n > 0) {
      done += static_cast<std::size_t>(n);
    }
  }
}

void serve_one(Fd fd) {
  Header header{};
  if (!read_exactly(fd.get(), &header, sizeof header)) return;
  const bool checked = header.magic == kMagic;
  if (!checked && header.magic != kMagicUnchecked) throw RunFailed("not a bulk client");
  Inbound inbound{Content(header.seed), header.up, checked};
  Exchange(fd.get(), header.seed + 1, header.down, inbound).run();
  char extra = 0;
  if (read_exactly(fd.get(), &extra, 1)) throw RunFailed("bytes after the client's stream");
  const Trailer trailer{inbound.received, inbound.wrong, inbound.longest_gap_ns};
  write_exactly(fd.get(), &trailer, sizeof trailer);
}

/// Accepted sockets inherit their listener's.
void set_congestion(int fd, const std::string& name) {
  if (name.empty()) return;
  if (::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(),
                   static_cast<socklen_t>(name.size())) != 0) {
    fail_errno("congestion control " + name);
  }
}

[[noreturn]] void serve(const std::string& address, const std::string& congestion) {
  const Fd listener = listen_on(parse_endpoint(address), 128, false);
  set_congestion(listener.get(), congestion);
  for (;;) {
    Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      fail_errno("accept");
    }
    std::thread([moved = std::move(fd)]() mutable {
      try {
        serve_one(std::move(moved));
      } catch (const std::exception& failure) {
        std::cerr << "bulk: " << failure.what() << std::endl;
      }
    }).detach();
  }
}

struct Options {
  std::string serve, connect, source, congestion, json;
  std::uint64_t up = 0, down = 0, seed = 1;
  bool no_check = false;
};

nlohmann::json transfer(const Options& options) {
  const Endpoint server = parse_endpoint(options.connect);
  Endpoint source;
  if (!options.source.empty()) source = parse_endpoint(options.source);
  const Fd fd = connect_to(server, options.source.empty() ? nullptr : &source, kConnectMs);
  set_congestion(fd.get(), options.congestion);
  const Header header{options.no_check ? kMagicUnchecked : kMagic, options.seed, options.up,
                      options.down};
  const std::uint64_t start = now_ns();
  write_exactly(fd.get(), &header, sizeof header);
  Inbound inbound{Content(options.seed + 1), options.down, !options.no_check};
  Exchange exchange(fd.get(), options.seed, options.up, inbound);
  exchange.run();
  if (::shutdown(fd.get(), SHUT_WR) != 0) fail_errno("shutdown");
  Trailer trailer{};
  if (!read_exactly(fd.get(), &trailer, sizeof trailer, kDrainMs)) throw RunFailed("no trailer");
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  char extra = 0;
  if (read_exactly(fd.get(), &extra, 1)) throw RunFailed("bytes after the trailer");
  if (inbound.wrong != 0)
    throw RunFailed("wrong byte down at " + std::to_string(inbound.wrong - 1));
  if (trailer.wrong != 0) throw RunFailed("wrong byte up at " + std::to_string(trailer.wrong - 1));
  if (trailer.received != options.up) throw RunFailed("the server counted other bytes");
  const double bits = 8 * static_cast<double>(options.up + options.down);
  return {{"schema", 1},
          {"program", "bulk"},
          {"up", options.up},
          {"down", options.down},
          {"seconds", seconds},
          {"gbit_per_s", bits / seconds / 1e9},
          {"stalls", exchange.progress().stalls()},
          {"longest_gap_up_s", static_cast<double>(trailer.longest_gap_ns) / 1e9},
          {"longest_gap_down_s", static_cast<double>(inbound.longest_gap_ns) / 1e9},
          {"client_cpu_s", own_cpu_seconds()},
          {"failed", false},
          {"reason", ""}};
}

int run_client(const Options& options) {
  try {
    write_json(options.json, transfer(options));
    return 0;
  } catch (const std::exception& failure) {
    std::cerr << "bulk: " << failure.what() << std::endl;
    write_json(options.json,
               {{"schema", 1}, {"program", "bulk"}, {"failed", true}, {"reason", failure.what()}});
    return 1;
  }
}

}  // namespace
}  // namespace toe::clients

int main(int argc, char** argv) {
  toe::clients::Options options;
  CLI::App app("Moves a checked stream", "bulk");
  auto* serve = app.add_option("--serve", options.serve, "ADDRESS:PORT to serve");
  app.add_option("--connect", options.connect, "ADDRESS:PORT of the server")->excludes(serve);
  app.add_option("--source", options.source, "the client's address");
  app.add_option("--up", options.up, "bytes to send");
  app.add_option("--down", options.down, "bytes to receive");
  app.add_option("--seed", options.seed);
  app.add_option("--congestion", options.congestion, "congestion control of the kernel");
  app.add_flag("--no-check", options.no_check, "neither compute nor compare the bytes");
  app.add_option("--json", options.json, "file of the result (default: stdout)");
  app.require_option(1, 0);
  return toe::clients::run_program(app, argc, argv, [&] {
    if (options.serve.empty()) return toe::clients::run_client(options);
    toe::clients::serve(options.serve, options.congestion);
  });
}
