// The few socket calls the test programs share. All throw std::system_error or
// std::invalid_argument.
#ifndef TOE_CLIENTS_NET_H_
#define TOE_CLIENTS_NET_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace toe::clients {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

struct Endpoint {
  sockaddr_storage address{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  void set_port(std::uint16_t port);
  /// "10.77.0.1:80" or "[fd77::1]:80".
  std::string text() const;
};

/// "10.77.0.1:80", "[fd77::1]:80" or, without a port, "10.77.0.1", "fd77::1".
Endpoint parse_endpoint(const std::string& text);
/// Addresses of a list "10.77.0.2,10.77.0.10-10.77.0.25" (a range varies the last IPv4 number).
std::vector<Endpoint> parse_sources(const std::string& text);

/// A non-blocking connected socket with TCP_NODELAY; waits for the connection `wait_ms` at most.
/// `source` may be null.
Fd connect_to(const Endpoint& server, const Endpoint* source, int wait_ms);
Fd listen_on(const Endpoint& address, int backlog, bool nonblocking);
void set_nodelay(int fd);
Endpoint local_of(int fd);

/// Clears the way for as many descriptors as the hard limit allows.
void raise_fd_limit();
std::uint64_t now_ns();

[[noreturn]] void fail_errno(const std::string& what);

}  // namespace toe::clients

#endif  // TOE_CLIENTS_NET_H_
