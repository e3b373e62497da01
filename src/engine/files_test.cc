// Files, memory and sockets of the engine: lock file, segments, engine page, control socket, log.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "engine/engine_page.h"
#include "engine/lock_file.h"
#include "engine/log.h"
#include "engine/segment_store.h"
#include "engine/socket_io.h"
#include "shm/segment_view.h"

namespace toe::engine {
namespace {

class FilesTest : public ::testing::Test {
 protected:
  FilesTest() {
    char name[] = "/tmp/toe-files-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~FilesTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(FilesTest, OneHolderOfALock) {
  const std::string path = folder_ + "/a.lock";
  {
    Result<LockFile> first = LockFile::acquire(path, "taken");
    ASSERT_TRUE(first.ok()) << first.error().text;
    Result<LockFile> second = LockFile::acquire(path, "taken");
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().text, "taken, pid " + std::to_string(::getpid()));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(LockFile::acquire(path, "taken").ok());
}

TEST_F(FilesTest, ALockWhoseHolderDiedIsTaken) {
  const std::string path = folder_ + "/a.lock";
  const pid_t child = ::fork();
  if (child == 0) {
    Result<LockFile> lock = LockFile::acquire(path, "taken");
    ::_exit(lock.ok() ? 0 : 1);  // without destructors, as a killed engine
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(std::filesystem::exists(path));
  EXPECT_TRUE(LockFile::acquire(path, "taken").ok());
}

TEST_F(FilesTest, RunDirectory) {
  EXPECT_TRUE(make_directory(folder_ + "/run").ok());
  EXPECT_TRUE(make_directory(folder_ + "/run").ok());
  struct stat status {};
  ASSERT_EQ(::stat((folder_ + "/run").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755u);
  EXPECT_FALSE(make_directory(folder_ + "/no/such").ok());
  EXPECT_FALSE(make_directory("/etc/passwd").ok());
}

TEST(Segments, AreSealedSparseAndReused) {
  SegmentStore store;
  Result<SegmentStore::Segment> made = store.create();
  ASSERT_TRUE(made.ok()) << made.error().text;
  const SegmentStore::Segment segment = made.value();
  const shm::SegmentHeader& header = shm::SegmentView(segment.base).header();
  EXPECT_EQ(header.magic, shm::kSegmentMagic);
  EXPECT_EQ(header.segment_id, index_of(segment.id));
  EXPECT_NE(::ftruncate(segment.fd, 4096), 0);
  EXPECT_NE(::ftruncate(segment.fd, 2ll << 30), 0);
  struct stat status {};
  ASSERT_EQ(::fstat(segment.fd, &status), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), shm::kSegmentBytes);
  EXPECT_LE(status.st_blocks * 512, 64 * 1024);
  EXPECT_EQ(store.find(SegmentId{7}).fd, -1);
  EXPECT_EQ(store.count(), 1u);
  store.remove(SegmentId{7});
  store.remove(segment.id);
  EXPECT_EQ(store.find(segment.id).fd, -1);
  EXPECT_EQ(store.count(), 0u);
  EXPECT_EQ(store.create().value().id, segment.id);
}

TEST(Page, IsReadOnlyForOthers) {
  Result<EnginePage> made = EnginePage::make();
  ASSERT_TRUE(made.ok()) << made.error().text;
  const int fd = made.value().read_only_fd();
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  const std::string again = "/proc/self/fd/" + std::to_string(fd);
  const UniqueFd writable(::open(again.c_str(), O_RDWR | O_CLOEXEC));
  if (writable.valid()) {
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writable.get(), 0),
              MAP_FAILED);
    EXPECT_LT(::write(writable.get(), "x", 1), 0);
  }
  void* view = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(view, MAP_FAILED);
  made.value().page().sleep_epoch.store(5);
  EXPECT_EQ(static_cast<shm::EnginePage*>(view)->sleep_epoch.load(), 5u);
  EXPECT_EQ(static_cast<shm::EnginePage*>(view)->magic, shm::kPageMagic);
  ::munmap(view, 4096);
}

TEST_F(FilesTest, ControlSocketReplacesAStaleOne) {
  const std::string path = folder_ + "/a.sock";
  for (int round = 0; round < 2; ++round) {
    Result<UniqueFd> socket = open_control_socket(path, {0600, ""});
    ASSERT_TRUE(socket.ok()) << socket.error().text;
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
  }
  EXPECT_FALSE(open_control_socket(path, {0600, "no-such-group-anywhere"}).ok());
  EXPECT_FALSE(open_control_socket(folder_ + std::string(200, 'x'), {}).ok());
}

class Packets : public ::testing::Test {
 protected:
  Packets() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    a_.reset(ends[0]);
    b_.reset(ends[1]);
  }
  UniqueFd a_;
  UniqueFd b_;
  Packet packet_;
};

TEST_F(Packets, BytesAndDescriptors) {
  const std::uint8_t message[] = {1, 2, 3};
  const int fds[] = {0, 1};
  receive_packet(b_.get(), packet_);
  EXPECT_EQ(packet_.kind, Packet::Kind::kNothing);
  ASSERT_TRUE(send_packet(a_.get(), message, fds));
  receive_packet(b_.get(), packet_);
  EXPECT_EQ(packet_.kind, Packet::Kind::kMessage);
  EXPECT_EQ(packet_.length, 3u);
  ASSERT_EQ(packet_.fds.size(), 2u);
  EXPECT_NE(::fcntl(packet_.fds[1].get(), F_GETFD) & FD_CLOEXEC, 0);
  a_.reset();
  receive_packet(b_.get(), packet_);
  EXPECT_EQ(packet_.kind, Packet::Kind::kEnd);
  EXPECT_TRUE(packet_.fds.empty());
}

TEST_F(Packets, TooLongIsBroken) {
  std::vector<std::uint8_t> message(shm::kMaxMessageBytes + 1);
  ASSERT_TRUE(send_packet(a_.get(), message, {}));
  receive_packet(b_.get(), packet_);
  EXPECT_EQ(packet_.kind, Packet::Kind::kBroken);
}

TEST_F(Packets, TooManyDescriptorsAreBrokenAndNotKept) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * (shm::kMaxShown + 1))] = {};
  char byte = 0;
  iovec part{&byte, 1};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int) * (shm::kMaxShown + 1));
  ASSERT_EQ(::sendmsg(a_.get(), &header, 0), 1);
  const int before = ::dup(0);
  ::close(before);
  receive_packet(b_.get(), packet_);
  EXPECT_EQ(packet_.kind, Packet::Kind::kBroken);
  packet_.fds.clear();
  const int after = ::dup(0);
  ::close(after);
  EXPECT_EQ(before, after);
}

TEST_F(Packets, AReaderThatDoesNotReadIsNoticed) {
  const std::vector<std::uint8_t> message(4096);
  int sent = 0;
  while (sent < 10'000 && send_packet(a_.get(), message, {})) ++sent;
  EXPECT_LT(sent, 10'000);
}

TEST(LogLimiter, LetsAFewThroughAndCountsTheRest) {
  LogLimiter limiter;
  std::uint64_t suppressed = 0;
  Time now{0};
  for (std::uint32_t i = 0; i < LogLimiter::kBurst; ++i) {
    EXPECT_TRUE(limiter.allow("a", now, suppressed));
  }
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(limiter.allow("a", now, suppressed));
  EXPECT_TRUE(limiter.allow("b", now, suppressed));
  EXPECT_EQ(suppressed, 0u);
  EXPECT_TRUE(limiter.allow("a", now + LogLimiter::kInterval, suppressed));
  EXPECT_EQ(suppressed, 7u);
}

TEST(LogLimiter, ManyKindsAreBoundedAndDoNotSilenceTheLog) {
  LogLimiter limiter;
  std::uint64_t suppressed = 0;
  Time now{seconds(100).ns};
  int written = 0;
  for (std::size_t i = 0; i < 10 * LogLimiter::kMaxKinds; ++i) {
    written += limiter.allow(std::to_string(i), now, suppressed) ? 1 : 0;
  }
  EXPECT_EQ(written, LogLimiter::kMaxKinds + LogLimiter::kBurst) << "the others share a burst";
  now = now + LogLimiter::kInterval;
  EXPECT_TRUE(limiter.allow("another", now, suppressed));
}

TEST(Log, LinesOfOneKindHaveOneShape) {
  EXPECT_EQ(line_shape("port 80 of 10.0.0.1"), "port # of #.#.#.#");
  EXPECT_EQ(line_shape("port 8080 of 10.0.0.12"), "port # of #.#.#.#");
  EXPECT_EQ(line_shape(""), "");
  EXPECT_EQ(line_shape(std::string(1000, 'x')).size(), 64u);
}

TEST(Log, ALineStaysALine) {
  EXPECT_EQ(safe_line("process 7 (a\n<0>forged\x1b[2J)"), "process 7 (a?<0>forged?[2J)");
}

TEST(Log, JournalIsKnownByItsDeviceAndInode) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  struct stat file {};
  ASSERT_EQ(::fstat(ends[1], &file), 0);
  const std::string stream = std::to_string(file.st_dev) + ":" + std::to_string(file.st_ino);
  EXPECT_EQ(log_target(stream.c_str(), ends[1]), LogTarget::kJournal);
  EXPECT_EQ(log_target((stream + "1").c_str(), ends[1]), LogTarget::kPlain) << "2> elsewhere";
  EXPECT_EQ(log_target("nonsense", ends[1]), LogTarget::kPlain);
  EXPECT_EQ(log_target(nullptr, ends[1]), LogTarget::kPlain);
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_EQ(log_target(stream.c_str(), ends[1]), LogTarget::kPlain);
}

}  // namespace
}  // namespace toe::engine
