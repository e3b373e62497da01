// What every load generator watches while it runs: connections that stand still, and the clock.
#ifndef TOE_CLIENTS_WATCH_H_
#define TOE_CLIENTS_WATCH_H_

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace toe::clients {

/// The run is over and failed; the text says why.
class RunFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One connection's progress. More than a second without a byte while an answer is due is a stall;
/// ten seconds end the run.
class Progress {
 public:
  void moved(std::uint64_t now);
  /// Called every 100 ms or so for a connection with work outstanding.
  void look(std::uint64_t now, const std::string& name);
  void start(std::uint64_t now) { last_ = now; }
  std::uint64_t stalls() const { return stalls_; }
  std::uint64_t longest_ns() const { return longest_; }

 private:
  static constexpr std::uint64_t kStall = 1'000'000'000;
  static constexpr std::uint64_t kHopeless = 10'000'000'000;
  std::uint64_t last_ = 0;
  std::uint64_t stalls_ = 0;
  std::uint64_t longest_ = 0;
  bool stalled_ = false;
};

/// True once per second; prints "NAME: SECONDS s  DONE ops  RATE/s  extra" on stderr then.
class Ticker {
 public:
  Ticker(std::string name, std::uint64_t start) : name_(std::move(name)), start_(start) {}
  void tick(std::uint64_t now, std::uint64_t done, const std::string& extra);

 private:
  std::string name_;
  std::uint64_t start_;
  std::uint64_t last_ = 0;
  std::uint64_t last_done_ = 0;
};

/// Writes `value` to `path` in one step ("-" or "" is stdout).
void write_json(const std::string& path, const nlohmann::json& value);
/// Writes the list of {"local","remote"} of connected sockets, as the kernel names them.
void write_tuples(const std::string& path, const std::vector<int>& fds, const std::string& remote);
/// Waits for the time's or SIGTERM's end while nothing may become readable in `epoll`. Says
/// "NAME: idle" on stderr first.
void stay_silent(int epoll, double seconds, const std::string& name);
/// CPU seconds of this process so far.
double own_cpu_seconds();

}  // namespace toe::clients

#endif  // TOE_CLIENTS_WATCH_H_
