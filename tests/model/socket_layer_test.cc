// libtoe's socket layer in this process, both ends of each connection, against the fake engine: for
// the sanitizers, which cannot be preloaded into other programs.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fake_engine.h"
#include "libtoe/epoll.h"
#include "libtoe/io.h"
#include "libtoe/open.h"
#include "libtoe/polling.h"

namespace toe::libtoe {
namespace {

/// One engine for the whole program, as libtoe attaches once per process.
class World {
 public:
  static World& get() {
    static World world;
    return world;
  }
  test::FakeEngine& engine() { return *engine_; }

 private:
  World() {
    std::string folder = ::testing::TempDir() + "libtoe-XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr) std::abort();
    engine_ = std::make_unique<test::FakeEngine>(folder + "/default.sock");
    ::setenv("FLEXTOE_RUNDIR", folder.c_str(), 1);
    Runtime::get().start();
  }
  std::unique_ptr<test::FakeEngine> engine_;
};

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { close(); }
  void close() {
    if (fd_ < 0) return;
    forget_fd(fd_);
    ::close(fd_);
    fd_ = -1;
  }
  int get() const { return fd_; }
  Socket& socket() const { return *as_socket(FdTable::get(fd_)); }
  std::string read(std::size_t count) const {
    std::string bytes(count, 0);
    const ssize_t n = socket_recv(socket(), bytes.data(), count, 0);
    bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return bytes;
  }
  ssize_t write(const std::string& bytes) const {
    return socket_send(socket(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

 private:
  int fd_;
};

Fd new_socket() {
  Fd fd(::socket(AF_INET, SOCK_STREAM, 0));
  note_socket(fd.get(), AF_INET, SOCK_STREAM, 0);
  return fd;
}

struct Listening {
  Fd fd = new_socket();
  sockaddr_in remote{};

  Listening() {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    socklen_t length = sizeof(any);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)), 0);
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&any), &length);
    EXPECT_EQ(socket_listen(fd.socket(), fd.get(), 64), 0);
    EXPECT_EQ(fd.socket().role(), Role::kListener);
    remote = any;
    remote.sin_addr.s_addr = htonl(0x0a090909);
  }
  Fd connect() const {
    Fd made = new_socket();
    EXPECT_EQ(socket_connect(made.socket(), made.get(), reinterpret_cast<const sockaddr*>(&remote),
                             sizeof(remote)),
              0);
    return made;
  }
  Fd accept() const { return Fd(socket_accept(fd.socket(), fd.get(), nullptr, nullptr, 0)); }
};

class SocketLayer : public ::testing::Test {
 protected:
  void SetUp() override { World::get(); }
};

std::string pattern(std::size_t count, unsigned seed) {
  std::string bytes(count, 0);
  for (char& byte : bytes) byte = static_cast<char>(seed = seed * 1103515245u + 12345u);
  return bytes;
}

TEST_F(SocketLayer, ThreadsEchoOverBlockingSockets) {
  const Listening listening;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&listening] {
      const Fd served = listening.accept();
      for (std::string bytes; !(bytes = served.read(30'000)).empty();) served.write(bytes);
    });
    threads.emplace_back([&listening, &good, t] {
      Fd client = listening.connect();
      for (unsigned i = 0; i < 40; ++i) {
        const std::string bytes = pattern((i * 997 + t) % 60'000 + 1, i + t);
        std::thread writer([&] { client.write(bytes); });
        std::string got;
        while (got.size() < bytes.size()) {
          const std::string piece = client.read(bytes.size() - got.size());
          if (piece.empty()) break;
          got += piece;
        }
        writer.join();
        if (got == bytes) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 160);
  EXPECT_GT(World::get().engine().tx_switches(), 0u);
}

TEST_F(SocketLayer, ThreadsShareOneEpollInstance) {
  const Listening listening;
  const Fd client = listening.connect();
  const Fd served = listening.accept();
  served.socket().settings.nonblocking = true;
  const int real = ::epoll_create1(EPOLL_CLOEXEC);
  Epoll* epoll = Epoll::make(real);
  name_file(real, *epoll);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  ASSERT_EQ(epoll->control(EPOLL_CTL_ADD, served.socket(), served.get(), &event), 0);
  std::atomic<std::size_t> total{0};
  std::atomic<bool> ended{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!ended) {
        epoll_event got[4];
        if (epoll->wait(got, 100'000'000, nullptr) <= 0) continue;
        char bytes[512];
        ssize_t n;
        while ((n = socket_recv(served.socket(), bytes, sizeof(bytes), 0)) > 0) {
          total += static_cast<std::size_t>(n);
        }
        if (n == 0) ended = true;
        epoll_event again{};
        again.events = EPOLLIN | EPOLLONESHOT;
        epoll->control(EPOLL_CTL_MOD, served.socket(), served.get(), &again);
      }
    });
  }
  for (int i = 0; i < 500; ++i) client.write(std::string(333, 'x'));
  client.socket().connection.shut_write();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(total, 500u * 333u);
  forget_fd(real);
  ::close(real);
}

TEST_F(SocketLayer, ThreadsAcceptFromOneListener) {
  const Listening listening;
  std::atomic<int> accepted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        const Fd served = listening.accept();
        if (served.get() >= 0 && served.write("hello") == 5) ++accepted;
      }
    });
  }
  int greeted = 0;
  for (int i = 0; i < 100; ++i) greeted += listening.connect().read(5) == "hello" ? 1 : 0;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(accepted, 100);
  EXPECT_EQ(greeted, 100);
}

TEST_F(SocketLayer, PollSeesBothKindsOfDescriptors) {
  const Listening listening;
  const Fd client = listening.connect();
  const Fd served = listening.accept();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  pollfd fds[] = {{served.get(), POLLIN, 0}, {ends[0], POLLIN, 0}};
  EXPECT_TRUE(any_offloaded(fds));
  EXPECT_EQ(mixed_poll(fds, 0, nullptr), 0);
  EXPECT_EQ(mixed_poll(fds, 20'000'000, nullptr), 0);
  std::thread later([&] {
    ::usleep(20'000);
    EXPECT_EQ(::write(ends[1], "x", 1), 1);
  });
  EXPECT_EQ(mixed_poll(fds, -1, nullptr), 1);
  EXPECT_EQ(fds[1].revents, POLLIN);
  later.join();
  fds[1].fd = -1;
  std::thread sender([&] {
    ::usleep(20'000);
    client.write("y");
  });
  EXPECT_EQ(mixed_poll(fds, -1, nullptr), 1);
  EXPECT_EQ(fds[0].revents, POLLIN);
  sender.join();
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(SocketLayer, ReleasesItsSocketsWhenProgramsRaceCloseWithUse) {
  const Listening listening;
  for (int i = 0; i < 30; ++i) {
    Fd client = listening.connect();
    const Fd served = listening.accept();
    std::thread user([&] {
      for (int k = 0; k < 100; ++k) served.write("z");
    });
    client.close();
    user.join();
  }
}

}  // namespace
}  // namespace toe::libtoe
