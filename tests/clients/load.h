// What the load generators have in common: connections under one epoll instance, a look at each of
// them ten times a second, a line of progress every second, and a report.
#ifndef TOE_CLIENTS_LOAD_H_
#define TOE_CLIENTS_LOAD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "latency.h"
#include "net.h"
#include "watch.h"

namespace toe::clients {

/// One connection of a load.
struct Peer {
  virtual ~Peer() = default;
  virtual bool waits() const = 0;        ///< an answer is due: standing still is a stall
  virtual std::string name() const = 0;  ///< and its state, for messages

  Fd fd;
  unsigned index = 0;
  bool wants_write = false;
  Progress progress;
};

/// Bytes sent, 0 if there is no room now. Throws RunFailed.
std::size_t send_some(const Peer& peer, std::span<const char> data);
/// Bytes received, 0 at the server's end; nothing if there are none now. Throws RunFailed.
std::optional<std::size_t> receive_some(const Peer& peer, std::span<char> into);

class Load {
 public:
  virtual ~Load() = default;
  /// Runs to the end, writes the report to `json` ("" is stdout); the exit status.
  int run(const std::string& json);

 protected:
  Load(std::string program, std::string server);

  /// Opens what is open from the start, calls begin() and sends the first requests.
  virtual void start() = 0;
  virtual bool goes_on(std::uint64_t now) const = 0;
  virtual void on_event(Peer& peer, std::uint32_t events) = 0;
  /// After the last answer.
  virtual void finish() {}
  virtual void add_to_report(nlohmann::json& report) const = 0;

  /// What is answered from `warmup` seconds on counts.
  void begin(double warmup);
  void add(std::unique_ptr<Peer> peer);
  /// Connects a peer and watches it for input. `source` may be null.
  void connect(Peer& peer, const Endpoint* source);
  void watch(const Peer& peer, int operation, std::uint32_t events);
  void set_wants_write(Peer& peer, bool wants);
  /// The file of addresses, if `path` is not empty.
  void tell_tuples(const std::string& path) const;
  /// Keeps all connections open in silence, if `seconds` > 0.
  void idle(double seconds);

  const Endpoint& server() const { return server_; }
  std::uint64_t done() const { return done_; }
  std::uint64_t measured_from() const { return measure_from_; }
  void answered(std::uint64_t started, std::uint64_t now);

  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<char> buffer_ = std::vector<char>(256 * 1024);

 private:
  void loop();
  std::uint64_t stalls() const;
  double measured_seconds() const;
  double per_second() const;
  nlohmann::json report(const std::string& reason) const;

  const std::string program_;
  const Endpoint server_;
  Fd epoll_;
  Latency latency_;
  std::uint64_t begin_ = 0, measure_from_ = 0, finished_ = 0, done_ = 0;
};

}  // namespace toe::clients

#endif  // TOE_CLIENTS_LOAD_H_
