#include "engine/http.h"

#include <gtest/gtest.h>

namespace toe::engine {
namespace {

HttpQuestion ask(const std::string& line) {
  return read_question(line + "\r\nHost: localhost\r\n\r\n");
}

TEST(Http, Questions) {
  EXPECT_EQ(ask("GET /metrics HTTP/1.1"), HttpQuestion::kMetrics);
  EXPECT_EQ(ask("GET /metrics?x=y HTTP/1.0"), HttpQuestion::kMetrics);
  EXPECT_EQ(ask("HEAD /metrics HTTP/1.1"), HttpQuestion::kHead);
  EXPECT_EQ(ask("GET / HTTP/1.1"), HttpQuestion::kNotFound);
  EXPECT_EQ(ask("GET /metrics/ HTTP/1.1"), HttpQuestion::kNotFound);
  EXPECT_EQ(ask("GET /../metrics HTTP/1.1"), HttpQuestion::kNotFound);
  EXPECT_EQ(ask("POST /metrics HTTP/1.1"), HttpQuestion::kNotAllowed);
}

TEST(Http, Nonsense) {
  for (const char* line : {"", " ", "GET", "GET /metrics", "GET  HTTP/2", "get /metrics HTTP/1.1",
                           "\x16\x03\x01 / HTTP/1.1", "/metrics HTTP/1.1"}) {
    EXPECT_EQ(ask(line), HttpQuestion::kBad) << line;
  }
}

TEST(Http, WaitsForTheEndButNotForEver) {
  const std::string whole = "GET /metrics HTTP/1.1\r\nA: b\r\n\r\n";
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_EQ(read_question(whole.substr(0, n)), HttpQuestion::kIncomplete) << n;
  }
  EXPECT_EQ(read_question(std::string(kMaxHttpRequest, 'x')), HttpQuestion::kBad);
}

TEST(Http, Responses) {
  EXPECT_EQ(http_response(HttpQuestion::kMetrics, "a 1\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            "Content-Length: 4\r\nConnection: close\r\n\r\na 1\n");
  const std::string head = http_response(HttpQuestion::kHead, "a 1\n");
  EXPECT_NE(head.find("Content-Length: 4\r\n"), std::string::npos);
  EXPECT_EQ(head.substr(head.size() - 4), "\r\n\r\n");
  EXPECT_EQ(http_response(HttpQuestion::kBad, "").substr(0, 12), "HTTP/1.1 400");
  EXPECT_EQ(http_response(HttpQuestion::kNotFound, "").substr(0, 12), "HTTP/1.1 404");
  EXPECT_NE(http_response(HttpQuestion::kNotAllowed, "").find("Allow: GET, HEAD\r\n"),
            std::string::npos);
  EXPECT_EQ(http_unavailable().substr(0, 12), "HTTP/1.1 503");
}

}  // namespace
}  // namespace toe::engine
