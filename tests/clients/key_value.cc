#include "key_value.h"

namespace toe::clients {
namespace {

constexpr std::string_view kEnd = "\r\n";

void append_all(std::string& to, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) to += part;
}

/// A bulk string: its length, its bytes.
void append_bulk(std::string& to, std::string_view text) {
  append_all(to, {"$", std::to_string(text.size()), kEnd, text, kEnd});
}

}  // namespace

void compose_set(Protocol protocol, const KeyValue& what, Question& question) {
  question.request.clear();
  if (protocol == Protocol::kRedis) {
    question.request += "*3\r\n";
    append_bulk(question.request, "SET");
    append_bulk(question.request, what.key);
    append_bulk(question.request, what.value);
    question.answer = "+OK\r\n";
    return;
  }
  append_all(question.request, {"set ", what.key, " ", std::to_string(what.flags), " 0 ",
                                std::to_string(what.value.size()), kEnd, what.value, kEnd});
  question.answer = "STORED\r\n";
}

void compose_get(Protocol protocol, const KeyValue& what, Question& question) {
  question.request.clear();
  question.answer.clear();
  if (protocol == Protocol::kRedis) {
    question.request += "*2\r\n";
    append_bulk(question.request, "GET");
    append_bulk(question.request, what.key);
    append_bulk(question.answer, what.value);
    return;
  }
  append_all(question.request, {"get ", what.key, kEnd});
  append_all(question.answer,
             {"VALUE ", what.key, " ", std::to_string(what.flags), " ",
              std::to_string(what.value.size()), kEnd, what.value, kEnd, "END", kEnd});
}

}  // namespace toe::clients
