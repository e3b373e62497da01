// First look at a message of a client: is it one of the known types, of exactly its type's length
// and with as many descriptors as the type allows? Pure.
#ifndef TOE_ENGINE_MESSAGE_CHECK_H_
#define TOE_ENGINE_MESSAGE_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "shm/control_format.h"

namespace toe::engine {

/// A Hello of another version: of any length, and to be refused politely.
bool is_foreign_hello(std::span<const std::uint8_t> message);

/// nullptr when the message may be read as its type, or is a foreign Hello; otherwise why the
/// client is disconnected.
const char* refuse_message(std::span<const std::uint8_t> message, std::size_t fds);

/// The message as a value of its type. REQUIRES: refuse_message() found nothing.
template <typename Message>
Message read_message(std::span<const std::uint8_t> message) {
  Message value;
  std::memcpy(&value, message.data(), sizeof value);
  return value;
}

}  // namespace toe::engine

#endif  // TOE_ENGINE_MESSAGE_CHECK_H_
