#include "engine/message_check.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

namespace toe::engine {
namespace {

using shm::MessageType;

std::vector<std::uint8_t> bytes_of(MessageType type, std::size_t size, std::uint32_t named) {
  std::vector<std::uint8_t> bytes(size);
  const shm::MessageHeader header{type, named, 7};
  if (size > 0) std::memcpy(bytes.data(), &header, std::min(size, sizeof header));
  return bytes;
}

bool accepted(MessageType type, std::size_t size, std::size_t fds = 0) {
  return refuse_message(bytes_of(type, size, static_cast<std::uint32_t>(size)), fds) == nullptr;
}

TEST(MessageCheck, EveryTypeWithItsLengthAndDescriptors) {
  EXPECT_TRUE(accepted(MessageType::kHello, sizeof(shm::Hello)));
  EXPECT_TRUE(accepted(MessageType::kListen, sizeof(shm::Listen), 1));
  EXPECT_TRUE(accepted(MessageType::kConnect, sizeof(shm::Connect), 1));
  EXPECT_TRUE(accepted(MessageType::kContext, sizeof(shm::ContextMessage)));
  EXPECT_TRUE(accepted(MessageType::kInfo, sizeof(shm::Info)));
  EXPECT_TRUE(accepted(MessageType::kOption, sizeof(shm::Option)));
  EXPECT_TRUE(accepted(MessageType::kReport, sizeof(shm::Report)));
  EXPECT_TRUE(accepted(MessageType::kAdmin, sizeof(shm::Admin)));
}

TEST(MessageCheck, NoOtherLengthIsAccepted) {
  for (std::size_t size = 0; size <= shm::kMaxMessageBytes; ++size) {
    EXPECT_EQ(accepted(MessageType::kListen, size, 1), size == sizeof(shm::Listen)) << size;
    EXPECT_EQ(accepted(MessageType::kHello, size), size == sizeof(shm::Hello)) << size;
  }
}

bool foreign(std::size_t size, std::uint16_t version, std::uint32_t magic = shm::kSegmentMagic) {
  std::vector<std::uint8_t> bytes(std::max(size, sizeof(shm::HelloBegin)));
  const shm::HelloBegin begin{
      {MessageType::kHello, static_cast<std::uint32_t>(size), 7}, magic, version, 0};
  std::memcpy(bytes.data(), &begin, sizeof begin);
  bytes.resize(size);
  const bool is_foreign = is_foreign_hello(bytes);
  EXPECT_TRUE(!is_foreign || refuse_message(bytes, 0) == nullptr);
  return is_foreign;
}

TEST(MessageCheck, AHelloOfAnotherVersionMayHaveAnyLength) {
  constexpr std::uint16_t kOther = shm::kAbiVersion + 1;
  for (std::size_t size = 0; size <= shm::kMaxMessageBytes; size += 4) {
    EXPECT_EQ(foreign(size, kOther), size >= sizeof(shm::HelloBegin)) << size;
    EXPECT_FALSE(foreign(size, shm::kAbiVersion));
    EXPECT_FALSE(foreign(size, kOther, 0x12345678));
  }
  EXPECT_TRUE(foreign(100, 0));
}

TEST(MessageCheck, NamedLengthMustBeTheRealOne) {
  for (std::uint32_t named : {0u, 15u, 4096u, 0xffffffffu}) {
    EXPECT_NE(refuse_message(bytes_of(MessageType::kHello, sizeof(shm::Hello), named), 0), nullptr);
  }
}

TEST(MessageCheck, UnknownTypesAndTypesOfTheOtherDirection) {
  for (std::uint32_t type : {0u, 10u, 63u, 64u, 65u, 73u, 0xffffffffu}) {
    EXPECT_FALSE(accepted(static_cast<MessageType>(type), sizeof(shm::Hello))) << type;
  }
}

TEST(MessageCheck, DescriptorCounts) {
  EXPECT_FALSE(accepted(MessageType::kHello, sizeof(shm::Hello), 1));
  EXPECT_FALSE(accepted(MessageType::kListen, sizeof(shm::Listen), 0));
  EXPECT_FALSE(accepted(MessageType::kListen, sizeof(shm::Listen), 2));
  shm::Show show{{MessageType::kShow, sizeof(shm::Show), 1}, 3, 0};
  std::vector<std::uint8_t> bytes(sizeof show);
  std::memcpy(bytes.data(), &show, sizeof show);
  EXPECT_EQ(refuse_message(bytes, 3), nullptr);
  EXPECT_NE(refuse_message(bytes, 2), nullptr);
  EXPECT_NE(refuse_message(bytes, 0), nullptr);
  show.count = shm::kMaxShown + 1;
  std::memcpy(bytes.data(), &show, sizeof show);
  EXPECT_NE(refuse_message(bytes, shm::kMaxShown + 1), nullptr);
}

}  // namespace
}  // namespace toe::engine
