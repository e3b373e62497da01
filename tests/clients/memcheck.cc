// memcheck: loads a memcached or a redis-server over plain sockets and compares every answer byte
// by byte.
//
// Each connection owns its keys and sends one request at a time, set or get. A value's length and
// bytes follow from (seed, connection, key, version), so the expected answer to each request is
// known in full before it is sent. Exit status: 0 all answers right, 1 not, 2 usage.
#include <sys/epoll.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>

#include "content.h"
#include "key_value.h"
#include "load.h"
#include "program.h"

namespace toe::clients {
namespace {

struct Options {
  std::string server = "127.0.0.1:11211";
  Protocol protocol = Protocol::kMemcached;
  unsigned connections = 50;
  std::uint64_t operations = 1'000'000;
  unsigned keys = 20;  ///< per connection
  std::size_t min_size = 1;
  std::size_t max_size = 100 * 1024;
  double get_ratio = 0.5;
  double idle = 0;  ///< after the last answer, stay silent this many seconds
  std::uint64_t seed = 1;
  std::string json;
  std::string tuples;  ///< file that receives the connections' addresses
};

struct Connection final : Peer {
  bool waits() const override { return busy; }
  std::string name() const override {
    return "connection " + std::to_string(index) + (is_get ? " get" : " set") + ", sent " +
           std::to_string(sent) + " of " + std::to_string(question.request.size()) + ", received " +
           std::to_string(received) + " of " + std::to_string(question.answer.size());
  }

  std::vector<std::uint32_t> versions;  ///< by key; 0: never set
  Question question;
  std::size_t sent = 0;      ///< of the request
  std::size_t received = 0;  ///< of the answer
  bool busy = false;
  bool is_get = false;
  std::uint64_t started = 0;
};

class KeyValueLoad final : public Load {
 public:
  explicit KeyValueLoad(const Options& options)
      : Load("memcheck", options.server), options_(options), random_(options.seed) {}

 private:
  void start() override {
    for (unsigned i = 0; i < options_.connections; ++i) {
      auto connection = std::make_unique<Connection>();
      connection->versions.resize(options_.keys);
      add(std::move(connection));
      connect(*peers_.back(), nullptr);
    }
    tell_tuples(options_.tuples);
    begin(0);
    for (const auto& peer : peers_) next_request(static_cast<Connection&>(*peer));
  }

  bool goes_on(std::uint64_t) const override { return busy_ > 0; }
  void finish() override { idle(options_.idle); }

  void on_event(Peer& peer, std::uint32_t events) override {
    auto& c = static_cast<Connection&>(peer);
    if ((events & EPOLLOUT) != 0) write_some(c);
    if ((events & ~std::uint32_t{EPOLLOUT}) != 0) read_some(c);
  }

  void add_to_report(nlohmann::json& report) const override {
    report["seed"] = options_.seed;
    report["gets"] = gets_;
    report["sets"] = done() - gets_;
    report["bytes_sent"] = bytes_sent_;
    report["bytes_received"] = bytes_received_;
  }

  /// Log-uniform between the two sizes: every order of magnitude is as frequent.
  std::size_t value_size(std::uint64_t identity) const {
    const double uniform = static_cast<double>(mix(identity) >> 11) / 9007199254740992.0;
    const double low = static_cast<double>(options_.min_size);
    const double high = static_cast<double>(options_.max_size) + 1;
    const auto size = static_cast<std::size_t>(low * std::pow(high / low, uniform));
    return std::clamp(size, options_.min_size, options_.max_size);
  }

  void next_request(Connection& c) {
    if (issued_ == options_.operations) {
      c.busy = false;
      return;
    }
    ++issued_;
    if (!c.busy) ++busy_;
    c.busy = true;
    const auto key = static_cast<unsigned>(random_() % options_.keys);
    const bool get = static_cast<double>(random_() >> 11) / 9007199254740992.0 < options_.get_ratio;
    c.is_get = get && c.versions[key] != 0;
    if (!c.is_get) ++c.versions[key];
    compose(c, key);
    c.sent = c.received = 0;
    c.started = now_ns();
    c.progress.start(c.started);
    write_some(c);
  }

  void compose(Connection& c, unsigned key) {
    const std::uint32_t version = c.versions[key];
    const std::uint64_t identity =
        mix(options_.seed) ^ (std::uint64_t{c.index} << 48) ^ (std::uint64_t{key} << 32) ^ version;
    value_.resize(value_size(identity));
    Content(identity).fill(0, value_);
    const std::string name = "c" + std::to_string(c.index) + "-k" + std::to_string(key);
    const KeyValue what{name, version, value_};
    if (c.is_get) {
      compose_get(options_.protocol, what, c.question);
    } else {
      compose_set(options_.protocol, what, c.question);
    }
  }

  void write_some(Connection& c) {
    const std::string_view request = c.question.request;
    while (c.sent < request.size()) {
      const std::size_t n = send_some(c, request.substr(c.sent));
      if (n == 0) break;
      c.sent += n;
      bytes_sent_ += n;
      if (c.sent < request.size() || c.wants_write) c.progress.moved(now_ns());
    }
    set_wants_write(c, c.sent < request.size());
  }

  void read_some(Connection& c) {
    const auto n = receive_some(c, buffer_);
    if (!n) return;
    if (*n == 0) throw RunFailed("the server closed " + c.name());
    bytes_received_ += *n;
    compare(c, *n);
    c.received += *n;
    const std::uint64_t now = now_ns();
    c.progress.moved(now);
    if (c.received == c.question.answer.size()) finish_request(c, now);
  }

  void compare(const Connection& c, std::size_t size) const {
    const std::string_view answer = c.question.answer;
    const std::size_t left = c.busy ? answer.size() - c.received : 0;
    if (size > left || std::memcmp(buffer_.data(), answer.data() + c.received, size) != 0) {
      std::size_t at = 0;
      while (at < std::min(size, left) && buffer_[at] == answer[c.received + at]) ++at;
      throw RunFailed(
          "wrong byte " + std::to_string(c.received + at) + " on " + c.name() + ": got \"" +
          std::string(buffer_.data() + at, std::min<std::size_t>(size - at, 40)) + "\"");
    }
  }

  void finish_request(Connection& c, std::uint64_t now) {
    if (c.sent < c.question.request.size()) {
      throw RunFailed("answer before the request on " + c.name());
    }
    answered(c.started, now);
    if (c.is_get) ++gets_;
    next_request(c);
    if (!c.busy) --busy_;
  }

  const Options& options_;
  std::mt19937_64 random_;
  std::string value_;
  std::uint64_t issued_ = 0, gets_ = 0, bytes_sent_ = 0, bytes_received_ = 0;
  unsigned busy_ = 0;
};

}  // namespace
}  // namespace toe::clients

int main(int argc, char** argv) {
  using toe::clients::Protocol;
  const std::map<std::string, Protocol> protocols = {{"memcached", Protocol::kMemcached},
                                                     {"redis", Protocol::kRedis}};
  toe::clients::Options options;
  CLI::App app("Loads a memcached or redis-server and compares every answer byte by byte",
               "memcheck");
  app.add_option("--server", options.server, "ADDRESS:PORT or [ADDRESS]:PORT");
  app.add_option("--protocol", options.protocol, "memcached or redis")
      ->transform(CLI::CheckedTransformer(protocols));
  app.add_option("-c,--connections", options.connections)->check(CLI::Range(1, 100000));
  app.add_option("-n,--operations", options.operations, "sets and gets in all");
  app.add_option("--keys", options.keys, "keys of each connection")->check(CLI::Range(1, 100000));
  app.add_option("--min-size", options.min_size)->check(CLI::Range(1, 1000000));
  app.add_option("--max-size", options.max_size)->check(CLI::Range(1, 1000000));
  app.add_option("--get-ratio", options.get_ratio)->check(CLI::Range(0.0, 1.0));
  app.add_option("--idle", options.idle, "after the last answer, stay silent for this many s");
  app.add_option("--seed", options.seed);
  app.add_option("--json", options.json, "file of the result (default: stdout)");
  app.add_option("--tuples", options.tuples, "file that receives the addresses once connected");
  return toe::clients::run_program(app, argc, argv, [&] {
    toe::clients::raise_fd_limit();
    return toe::clients::KeyValueLoad(options).run(options.json);
  });
}
