#include "engine/service_manager.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include <gtest/gtest.h>

#include "engine/engine_page.h"
#include "engine/heartbeat.h"

namespace toe::engine {
namespace {

/// The manager's end: an abstract datagram socket.
class Manager {
 public:
  Manager() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un any{};
    any.sun_family = AF_UNIX;
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&any), sizeof(sa_family_t)), 0);
    sockaddr_un own{};
    socklen_t length = sizeof own;
    EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&own), &length), 0);
    const std::size_t letters = length - offsetof(sockaddr_un, sun_path) - 1;
    variables_["NOTIFY_SOCKET"] = "@" + std::string(own.sun_path + 1, letters);
  }

  std::string heard() {
    char text[4096];
    const ssize_t n = ::recv(socket_.get(), text, sizeof text, MSG_DONTWAIT);
    return n < 0 ? "" : std::string(text, static_cast<std::size_t>(n));
  }

  Result<ServiceManager> reached(pid_t self = 7) {
    return ServiceManager::of(
        [this](const char* name) {
          const auto found = variables_.find(name);
          return found == variables_.end() ? nullptr : found->second.c_str();
        },
        self);
  }

  std::map<std::string, std::string> variables_;

 private:
  UniqueFd socket_;
};

TEST(ServiceManager, HearsTheEnginesLife) {
  Manager manager;
  Result<ServiceManager> link = manager.reached();
  ASSERT_TRUE(link.ok()) << link.error().text;
  link.value().ready("serving v0");
  EXPECT_EQ(manager.heard(), "READY=1\nSTATUS=serving v0\n");
  link.value().status("words");
  EXPECT_EQ(manager.heard(), "STATUS=words\n");
  link.value().alive();
  EXPECT_EQ(manager.heard(), "WATCHDOG=1\n");
  link.value().stopping("ending");
  EXPECT_EQ(manager.heard(), "STOPPING=1\nSTATUS=ending\n");
}

TEST(ServiceManager, IsNotNeeded) {
  Manager manager;
  manager.variables_.clear();
  Result<ServiceManager> link = manager.reached();
  ASSERT_TRUE(link.ok());
  link.value().ready("");
  EXPECT_EQ(link.value().patience(), Nanos{0});
  EXPECT_EQ(manager.heard(), "");
}

TEST(ServiceManager, AnImpossibleSocketIsNamed) {
  Manager manager;
  for (const std::string& path : {std::string("relative"), std::string(200, '/')}) {
    manager.variables_["NOTIFY_SOCKET"] = path;
    Result<ServiceManager> link = manager.reached();
    ASSERT_FALSE(link.ok());
    EXPECT_NE(link.error().text.find(path), std::string::npos);
  }
}

TEST(ServiceManager, WatchdogIsForTheNamedProcess) {
  Manager manager;
  manager.variables_["WATCHDOG_USEC"] = "2000000";
  EXPECT_EQ(manager.reached().value().patience(), seconds(2));
  manager.variables_["WATCHDOG_PID"] = "7";
  EXPECT_EQ(manager.reached().value().patience(), seconds(2));
  EXPECT_EQ(manager.reached(8).value().patience(), Nanos{0}) << "it is another's";
  for (const char* nonsense :
       {"", "0", "-1", "7x", "99999999999999999999", "9223372036854775807"}) {
    manager.variables_["WATCHDOG_USEC"] = nonsense;
    EXPECT_EQ(manager.reached().value().patience(), Nanos{0}) << nonsense;
  }
}

class HeartbeatTest : public ::testing::Test {
 protected:
  HeartbeatTest()
      : page_(std::move(EnginePage::make().value())),
        bridge_(std::move(Bridge::make(page_.page()).value())) {
    manager_.variables_["WATCHDOG_USEC"] = "4000000";
    link_ = std::move(manager_.reached().value());
  }
  /// The worker's turn: answers what it was asked. False: nothing.
  bool worker() {
    Order order;
    if (!bridge_->orders.pop(order)) return false;
    EXPECT_EQ(order.kind, Order::Kind::kSnapshot);
    order.snapshot->done.store(true, std::memory_order_release);
    return true;
  }

  Manager manager_;
  ServiceManager link_;
  EnginePage page_;
  std::unique_ptr<Bridge> bridge_;
};

TEST_F(HeartbeatTest, TellsOnlyWhatTheWorkerAnswered) {
  Heartbeat heart(*bridge_, link_);
  Time now{seconds(100).ns};
  heart.poll(now);
  EXPECT_EQ(heart.next_deadline(), now + seconds(1));
  EXPECT_EQ(manager_.heard(), "") << "nobody has answered";
  ASSERT_TRUE(worker());
  heart.poll(now = now + seconds(1));
  EXPECT_EQ(manager_.heard(), "WATCHDOG=1\n");
  EXPECT_EQ(manager_.heard(), "");
  for (int i = 0; i < 10; ++i) heart.poll(now = now + seconds(1));
  EXPECT_EQ(manager_.heard(), "") << "the worker hangs";
  ASSERT_TRUE(worker());
  EXPECT_FALSE(worker()) << "it was asked more than once";
  heart.poll(now);
  EXPECT_EQ(manager_.heard(), "WATCHDOG=1\n") << "and is back";
}

TEST_F(HeartbeatTest, IsSilentWithoutAWatchdog) {
  manager_.variables_.erase("WATCHDOG_USEC");
  link_ = std::move(manager_.reached().value());
  Heartbeat heart(*bridge_, link_);
  heart.poll(Time{1});
  EXPECT_EQ(heart.next_deadline(), Time::never());
  EXPECT_FALSE(worker());
}

}  // namespace
}  // namespace toe::engine
