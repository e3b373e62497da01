#include "libtoe/passed_fds.h"

#include <vector>

#include <gtest/gtest.h>

namespace toe::libtoe {
namespace {

struct Message {
  alignas(cmsghdr) std::uint8_t control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr header{};

  explicit Message(std::size_t length) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* first = CMSG_FIRSTHDR(&header);
    first->cmsg_level = SOL_SOCKET;
    first->cmsg_type = SCM_RIGHTS;
    first->cmsg_len = length;
    const int fds[2] = {7, 9};
    std::memcpy(CMSG_DATA(first), fds, sizeof fds);
  }
  std::vector<int> passed() const {
    std::vector<int> found;
    for_each_passed_fd(header, [&](int fd) { found.push_back(fd); });
    return found;
  }
};

TEST(PassedFds, AreNamedInTheirOrder) {
  EXPECT_EQ(Message(CMSG_LEN(2 * sizeof(int))).passed(), (std::vector<int>{7, 9}));
  Message other(CMSG_LEN(2 * sizeof(int)));
  CMSG_FIRSTHDR(&other.header)->cmsg_type = SCM_CREDENTIALS;
  EXPECT_TRUE(other.passed().empty());
}

TEST(PassedFds, ImpossibleLengthsReadNothingBeyondTheMessage) {
  EXPECT_TRUE(Message(0).passed().empty());
  EXPECT_TRUE(Message(CMSG_LEN(0) - 1).passed().empty());
  EXPECT_EQ(Message(std::size_t{1} << 40).passed(), (std::vector<int>{7, 9}));
  Message cut(CMSG_LEN(2 * sizeof(int)));
  cut.header.msg_controllen = sizeof(cmsghdr) - 1;
  EXPECT_TRUE(cut.passed().empty());
}

}  // namespace
}  // namespace toe::libtoe
