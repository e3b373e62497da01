// Set and get as memcached's text protocol and redis' RESP2 write them: the request, and the one
// right answer in full.
#ifndef TOE_CLIENTS_KEY_VALUE_H_
#define TOE_CLIENTS_KEY_VALUE_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace toe::clients {

enum class Protocol { kMemcached, kRedis };

struct KeyValue {
  std::string_view key;
  std::uint32_t flags;  ///< memcached only
  std::string_view value;
};

/// Both strings are replaced.
struct Question {
  std::string request;
  std::string answer;
};

void compose_set(Protocol protocol, const KeyValue& what, Question& question);
void compose_get(Protocol protocol, const KeyValue& what, Question& question);

}  // namespace toe::clients

#endif  // TOE_CLIENTS_KEY_VALUE_H_
