#include "engine/message_check.h"

namespace toe::engine {
namespace {

struct Rule {
  shm::MessageType type;
  std::size_t length;
  std::size_t min_fds;
  std::size_t max_fds;
};

constexpr Rule kRules[] = {
    {shm::MessageType::kHello, sizeof(shm::Hello), 0, 0},
    {shm::MessageType::kListen, sizeof(shm::Listen), 1, 1},
    {shm::MessageType::kConnect, sizeof(shm::Connect), 1, 1},
    {shm::MessageType::kContext, sizeof(shm::ContextMessage), 0, 0},
    {shm::MessageType::kShow, sizeof(shm::Show), 0, shm::kMaxShown},
    {shm::MessageType::kInfo, sizeof(shm::Info), 0, 0},
    {shm::MessageType::kOption, sizeof(shm::Option), 0, 0},
    {shm::MessageType::kReport, sizeof(shm::Report), 0, 0},
    {shm::MessageType::kAdmin, sizeof(shm::Admin), 0, 0},
};

const Rule* rule_of(shm::MessageType type) {
  for (const Rule& rule : kRules) {
    if (rule.type == type) return &rule;
  }
  return nullptr;
}

}  // namespace

bool is_foreign_hello(std::span<const std::uint8_t> message) {
  if (message.size() < sizeof(shm::HelloBegin)) return false;
  const auto begin = read_message<shm::HelloBegin>(message);
  return begin.header.type == shm::MessageType::kHello && begin.header.length == message.size() &&
         begin.magic == shm::kSegmentMagic && begin.abi_version != shm::kAbiVersion;
}

const char* refuse_message(std::span<const std::uint8_t> message, std::size_t fds) {
  if (message.size() < sizeof(shm::MessageHeader)) return "message shorter than its header";
  const auto header = read_message<shm::MessageHeader>(message);
  if (is_foreign_hello(message)) return nullptr;
  const Rule* rule = rule_of(header.type);
  if (rule == nullptr) return "message of unknown type";
  if (message.size() != rule->length) return "message of wrong length";
  if (header.length != message.size()) return "message names another length than it has";
  if (fds < rule->min_fds || fds > rule->max_fds) return "wrong number of descriptors";
  if (header.type == shm::MessageType::kShow && read_message<shm::Show>(message).count != fds) {
    return "descriptors differ from their count";
  }
  return nullptr;
}

}  // namespace toe::engine
