// The kernel of this machine in a namespace of its own, behind a TUN device.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <fstream>

#include "base/unique_fd.h"
#include "conformance/segment.h"
#include "conformance/subject.h"

namespace toe::conformance {
namespace {

constexpr std::int64_t kLate = 20'000'000;  ///< beyond this the process was disturbed

std::int64_t clock_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

int or_errno(long result) { return result < 0 ? -errno : static_cast<int>(result); }

sockaddr_in address(std::uint32_t ip, std::uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(ip);
  a.sin_port = htons(port);
  return a;
}

class LinuxSubject final : public Subject {
 public:
  bool start(const Settings& sysctls, std::string& why);

  bool exact() const override { return false; }
  bool disturbed() const override { return disturbed_; }
  std::int64_t now() override { return clock_ns(); }
  void inject(std::span<const std::uint8_t> packet) override;
  bool next(Packet& out, std::int64_t until) override;
  void pass(std::int64_t until) override;

  int listen(int backlog) override;
  int accept() override;
  int connect() override;
  int connect_result() override;
  ssize_t write(std::span<const std::uint8_t> bytes, int flags) override;
  ssize_t read(std::span<std::uint8_t> into, int flags) override;
  int shutdown(int how) override { return or_errno(::shutdown(socket_.get(), how)); }
  int close() override;
  int close_listener() override;
  int set(const std::string& name, int value) override;
  int error() override;
  short poll() override;

 private:
  bool make_device(std::string& why);
  int prepare(UniqueFd& fd);
  /// Waits for a packet until then; true when one was queued.
  bool wait(std::int64_t until);
  void note_progress();

  UniqueFd tun_, listener_, socket_;
  std::deque<Packet> queue_;
  std::int64_t last_ = clock_ns();
  bool disturbed_ = false;
};

bool write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  return !file.fail();
}

bool LinuxSubject::start(const Settings& sysctls, std::string& why) {
  if (::unshare(CLONE_NEWNET) != 0) {
    why = std::string("no network namespace of its own: ") + std::strerror(errno);
    return false;
  }
  Settings all = {{"tcp_congestion_control", "reno"}};
  for (const auto& [key, value] : sysctls) all[key] = value;
  write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
  write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
  for (const auto& [key, value] : all) {
    if (!write_file("/proc/sys/net/ipv4/" + key, value)) {
      why = "the kernel does not take " + key + " = " + value;
      return false;
    }
  }
  return make_device(why);
}

bool LinuxSubject::make_device(std::string& why) {
  tun_.reset(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ifreq request{};
  std::strncpy(request.ifr_name, "tun0", IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (!tun_.valid() || ::ioctl(tun_.get(), TUNSETIFF, &request) != 0) {
    why = std::string("no TUN device: ") + std::strerror(errno);
    return false;
  }
  const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto apply = [&](unsigned long what, std::uint32_t ip) {
    const sockaddr_in a = address(ip, 0);
    std::memcpy(&request.ifr_addr, &a, sizeof a);
    return ::ioctl(control.get(), what, &request) == 0;
  };
  bool good = apply(SIOCSIFADDR, kSubjectAddress) && apply(SIOCSIFNETMASK, 0xffffff00);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  good = good && ::ioctl(control.get(), SIOCSIFFLAGS, &request) == 0;
  if (!good) why = std::string("the TUN device cannot be set up: ") + std::strerror(errno);
  return good;
}

void LinuxSubject::note_progress() {
  const std::int64_t now = clock_ns();
  if (now - last_ > kLate) disturbed_ = true;
  last_ = now;
}

void LinuxSubject::inject(std::span<const std::uint8_t> packet) {
  const ssize_t n = ::write(tun_.get(), packet.data(), packet.size());
  if (n != static_cast<ssize_t>(packet.size())) disturbed_ = true;
  note_progress();
}

bool LinuxSubject::wait(std::int64_t until) {
  note_progress();
  for (;;) {
    Packet packet;
    packet.bytes.resize(4096);
    const ssize_t n = ::read(tun_.get(), packet.bytes.data(), packet.bytes.size());
    if (n > 0) {
      packet.bytes.resize(static_cast<std::size_t>(n));
      packet.at_ns = last_ = clock_ns();
      queue_.push_back(std::move(packet));
      return true;
    }
    const std::int64_t left = until - clock_ns();
    if (left <= 0) break;
    pollfd p{tun_.get(), POLLIN, 0};
    const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
    ::ppoll(&p, 1, &timeout, nullptr);
  }
  last_ = clock_ns();
  if (last_ - until > kLate) disturbed_ = true;
  return false;
}

bool LinuxSubject::next(Packet& out, std::int64_t until) {
  if (queue_.empty() && !wait(until)) return false;
  out = std::move(queue_.front());
  queue_.pop_front();
  return true;
}

void LinuxSubject::pass(std::int64_t until) {
  while (wait(until)) {
  }
}

/// A socket that does not block, made at its first use.
int LinuxSubject::prepare(UniqueFd& fd) {
  if (!fd.valid()) fd.reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int one = 1;
  return or_errno(::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
}

int LinuxSubject::listen(int backlog) {
  if (const int error = prepare(listener_); error != 0) return error;
  const sockaddr_in a = address(INADDR_ANY, kServicePort);
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0) return -errno;
  return or_errno(::listen(listener_.get(), backlog));
}

int LinuxSubject::accept() {
  const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return -errno;
  socket_.reset(fd);
  return 0;
}

int LinuxSubject::connect() {
  if (const int error = prepare(socket_); error != 0) return error;
  const sockaddr_in a = address(kPeerAddress, kRemotePort);
  return or_errno(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a));
}

int LinuxSubject::connect_result() {
  if ((poll() & (POLLOUT | POLLERR | POLLHUP)) == 0) return -EINPROGRESS;
  return error();
}

ssize_t LinuxSubject::write(std::span<const std::uint8_t> bytes, int flags) {
  const ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), flags | MSG_NOSIGNAL);
  return n < 0 ? -errno : n;
}

ssize_t LinuxSubject::read(std::span<std::uint8_t> into, int flags) {
  const ssize_t n = ::recv(socket_.get(), into.data(), into.size(), flags);
  return n < 0 ? -errno : n;
}

int LinuxSubject::close() {
  socket_.reset();
  return 0;
}

int LinuxSubject::close_listener() {
  listener_.reset();
  return 0;
}

struct Name {
  int level;
  int option;
};

const std::map<std::string, Name>& option_names() {
  static const std::map<std::string, Name> names = {
      {"nodelay", {IPPROTO_TCP, TCP_NODELAY}},
      {"cork", {IPPROTO_TCP, TCP_CORK}},
      {"quickack", {IPPROTO_TCP, TCP_QUICKACK}},
      {"keepidle", {IPPROTO_TCP, TCP_KEEPIDLE}},
      {"keepintvl", {IPPROTO_TCP, TCP_KEEPINTVL}},
      {"keepcnt", {IPPROTO_TCP, TCP_KEEPCNT}},
      {"maxseg", {IPPROTO_TCP, TCP_MAXSEG}},
      {"keepalive", {SOL_SOCKET, SO_KEEPALIVE}},
      {"rcvbuf", {SOL_SOCKET, SO_RCVBUF}},
      {"sndbuf", {SOL_SOCKET, SO_SNDBUF}},
      {"user_timeout", {IPPROTO_TCP, TCP_USER_TIMEOUT}},
  };
  return names;
}

int LinuxSubject::set(const std::string& name, int value) {
  UniqueFd& fd = listener_.valid() && !socket_.valid() ? listener_ : socket_;
  if (!fd.valid()) prepare(fd);
  if (name == "linger") {
    const linger how{1, value};
    return or_errno(::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &how, sizeof how));
  }
  const auto found = option_names().find(name);
  if (found == option_names().end()) return -ENOPROTOOPT;
  return or_errno(
      ::setsockopt(fd.get(), found->second.level, found->second.option, &value, sizeof value));
}

int LinuxSubject::error() {
  int value = 0;
  socklen_t length = sizeof value;
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &value, &length) != 0) return -errno;
  return -value;
}

short LinuxSubject::poll() {
  pollfd p{socket_.get(), POLLIN | POLLOUT | POLLRDHUP, 0};
  ::poll(&p, 1, 0);
  return p.revents;
}

}  // namespace

std::unique_ptr<Subject> make_linux(const Settings& sysctls, std::string& why) {
  auto subject = std::make_unique<LinuxSubject>();
  if (!subject->start(sysctls, why)) return nullptr;
  return subject;
}

}  // namespace toe::conformance
