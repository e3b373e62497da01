#include "engine/metrics.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <gtest/gtest.h>

namespace toe::engine {
namespace {

TEST(Metrics, LoopbackOnly) {
  for (const char* good : {"127.0.0.1:9100", "127.8.9.1:1", "[::1]:65535"}) {
    EXPECT_TRUE(parse_loopback(good).ok()) << good;
  }
  for (const char* bad : {"", ":", "9100", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0",
                          "127.0.0.1:65536", "127.0.0.1:9x", "10.0.0.1:9100", "0.0.0.0:9100",
                          "[::]:9100", "::1:9100", "[fd00::1]:9100", "localhost:9100", "[]:1"}) {
    ASSERT_FALSE(parse_loopback(bad).ok()) << bad;
    EXPECT_NE(parse_loopback(bad).error().text.find("loopback"), std::string::npos);
  }
}

/// The kernel's loopback, on a port that is free now.
class MetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof any;
    ASSERT_EQ(::bind(probe.get(), reinterpret_cast<sockaddr*>(&any), length), 0);
    ASSERT_EQ(::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&any), &length), 0);
    address_ = any;
    probe.reset();
    auto server = MetricsServer::open("127.0.0.1:" + std::to_string(ntohs(any.sin_port)));
    ASSERT_TRUE(server.ok()) << server.error().text;
    server_ = std::move(server.value());
    ASSERT_TRUE(server_->start([] { return Status(Done{}); }).ok());
  }

  UniqueFd connect() {
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    return socket;
  }
  static void say(const UniqueFd& socket, std::string_view text) {
    EXPECT_EQ(::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  /// Everything until the server ends the connection.
  static std::string hear(const UniqueFd& socket) {
    std::string text;
    char bytes[4096];
    for (ssize_t n = 0; (n = ::recv(socket.get(), bytes, sizeof bytes, 0)) > 0;) {
      text.append(bytes, static_cast<std::size_t>(n));
    }
    return text;
  }
  /// The admin thread's part.
  void be_asked() {
    pollfd wait{server_->asked_fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&wait, 1, 20'000), 1);
    server_->take_question();
  }

  sockaddr_in address_{};
  std::unique_ptr<MetricsServer> server_;
};

constexpr std::string_view kGet = "GET /metrics HTTP/1.1\r\n\r\n";

TEST_F(MetricsTest, AsksTheAdminThread) {
  const UniqueFd socket = connect();
  say(socket, kGet.substr(0, 9));
  say(socket, kGet.substr(9));
  be_asked();
  server_->answer("a 1\n");
  EXPECT_EQ(hear(socket), http_response(HttpQuestion::kMetrics, "a 1\n"));
}

TEST_F(MetricsTest, LongAnswersArriveWhole) {
  const UniqueFd socket = connect();
  say(socket, kGet);
  be_asked();
  const std::string text(8 << 20, 'x');  // more than a socket holds
  server_->answer(text);
  EXPECT_EQ(hear(socket), http_response(HttpQuestion::kMetrics, text));
}

TEST_F(MetricsTest, AnswersNonsenseItself) {
  const UniqueFd socket = connect();
  say(socket, "GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(hear(socket), http_response(HttpQuestion::kNotFound, ""));
}

TEST_F(MetricsTest, SilentOnesMakeRoom) {
  std::vector<UniqueFd> silent;
  for (std::size_t i = 0; i < MetricsServer::kMaxConnections; ++i) silent.push_back(connect());
  const UniqueFd socket = connect();
  say(socket, kGet);
  be_asked();
  server_->answer("");
  EXPECT_EQ(hear(socket), http_unavailable());
  EXPECT_EQ(hear(silent.front()), "") << "the oldest was ended";
}

TEST(Metrics, AThreadThatCannotBePreparedDoesNotStart) {
  auto server = MetricsServer::open("127.0.0.1:39217");
  if (!server.ok()) GTEST_SKIP() << server.error().text;
  EXPECT_FALSE(server.value()->start([] { return Status(Error{EPERM, "no"}); }).ok());
}

TEST_F(MetricsTest, EndsWhileSomebodyWaits) {
  const UniqueFd socket = connect();
  say(socket, kGet);
  be_asked();
  server_.reset();
  EXPECT_EQ(hear(socket), "");
}

}  // namespace
}  // namespace toe::engine
