#include "engine/http.h"

#include <algorithm>

#include <fmt/format.h>

namespace toe::engine {
namespace {

constexpr std::string_view kText = "text/plain; charset=utf-8";
/// What a scraper of the text format expects.
constexpr std::string_view kExposition = "text/plain; version=0.0.4; charset=utf-8";

std::string response(std::string_view status, std::string_view type, std::string_view body) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
      status, type, body.size(), body);
}

/// A method is a token; the letters of the registered ones suffice to tell nonsense.
bool is_method(std::string_view word) {
  return !word.empty() &&
         std::all_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

HttpQuestion read_request_line(std::string_view line) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return HttpQuestion::kBad;
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (line.substr(last + 1, 7) != "HTTP/1." || !is_method(method)) return HttpQuestion::kBad;
  if (target.substr(0, target.find('?')) != "/metrics") return HttpQuestion::kNotFound;
  if (method == "GET") return HttpQuestion::kMetrics;
  return method == "HEAD" ? HttpQuestion::kHead : HttpQuestion::kNotAllowed;
}

}  // namespace

HttpQuestion read_question(std::string_view bytes) {
  if (bytes.find("\r\n\r\n") == std::string_view::npos) {
    return bytes.size() >= kMaxHttpRequest ? HttpQuestion::kBad : HttpQuestion::kIncomplete;
  }
  return read_request_line(bytes.substr(0, bytes.find("\r\n")));
}

std::string http_response(HttpQuestion question, std::string_view body) {
  switch (question) {
    case HttpQuestion::kMetrics:
      return response("200 OK", kExposition, body);
    case HttpQuestion::kHead: {
      std::string whole = response("200 OK", kExposition, body);
      whole.resize(whole.size() - body.size());
      return whole;
    }
    case HttpQuestion::kNotFound:
      return response("404 Not Found", kText, "the metrics are at /metrics\n");
    case HttpQuestion::kNotAllowed:
      return response("405 Method Not Allowed\r\nAllow: GET, HEAD", kText, "only GET and HEAD\n");
    case HttpQuestion::kIncomplete:
    case HttpQuestion::kBad:
      break;
  }
  return response("400 Bad Request", kText, "this is no HTTP request\n");
}

std::string http_unavailable() {
  return response("503 Service Unavailable", kText, "the engine does not answer now\n");
}

}  // namespace toe::engine
