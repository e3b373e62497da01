// `--metrics ADDR:PORT`: the counters over HTTP on a loopback address, served with the kernel's
// sockets by a thread of its own. It touches neither data path nor control: it asks the admin
// thread for the text and waits for it.
#ifndef TOE_ENGINE_METRICS_H_
#define TOE_ENGINE_METRICS_H_

#include <netinet/in.h>

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/types.h"
#include "base/unique_fd.h"
#include "engine/http.h"

namespace toe::engine {

struct LoopbackAddress {
  sockaddr_in6 bytes{};  ///< large enough for an IPv4 address too
  socklen_t length = 0;
};
/// "127.0.0.1:9100" or "[::1]:9100". Nobody is asked for a password here, so other addresses are
/// refused.
Result<LoopbackAddress> parse_loopback(const std::string& text);

class MetricsServer {
 public:
  /// At a time; one more takes the place of the oldest.
  static constexpr std::size_t kMaxConnections = 16;
  /// From the first byte to the last of the answer.
  static constexpr Nanos kPatience = seconds(5);

  /// Listens; answers once start() was called.
  static Result<std::unique_ptr<MetricsServer>> open(const std::string& address);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  /// Starts the thread. `prepare` runs in it first; what fails there fails here.
  Status start(const std::function<Status()>& prepare);

  // Admin thread.
  /// Readable when the text is wanted; read it before answering.
  int asked_fd() const { return asked_.get(); }
  void take_question() const;
  void answer(std::string text);

 private:
  struct Connection {
    UniqueFd socket;
    Time until;
    std::string in;
    std::string out;
    HttpQuestion question = HttpQuestion::kIncomplete;
    bool ended = false;
  };

  MetricsServer() = default;
  void run();
  int timeout_ms() const;
  void accept_one();
  void move(Connection& connection);
  void receive(Connection& connection);
  void transmit(Connection& connection);
  void give_answer();

  UniqueFd listener_;
  UniqueFd asked_;     ///< eventfd: this thread -> admin
  UniqueFd answered_;  ///< eventfd: admin -> this thread
  UniqueFd stop_;      ///< eventfd
  std::mutex mutex_;
  std::string text_;  ///< guarded by mutex_
  std::thread thread_;
  // This thread's.
  std::list<Connection> connections_;
  bool waiting_ = false;  ///< for the admin thread's answer
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_METRICS_H_
