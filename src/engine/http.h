// The little of HTTP/1.1 (RFC 9112) that a metrics endpoint needs: one question, one answer, then
// the connection ends. Pure.
#ifndef TOE_ENGINE_HTTP_H_
#define TOE_ENGINE_HTTP_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace toe::engine {

inline constexpr std::size_t kMaxHttpRequest = 8192;

enum class HttpQuestion : std::uint8_t {
  kIncomplete,  ///< more bytes are to come
  kMetrics,     ///< GET /metrics
  kHead,        ///< HEAD /metrics
  kNotFound,
  kNotAllowed,  ///< another method
  kBad,         ///< no request, or one that is too long
};

/// What the bytes received so far ask.
HttpQuestion read_question(std::string_view bytes);

/// The whole response. `body`: of kMetrics and kHead.
std::string http_response(HttpQuestion question, std::string_view body);
/// 503: the engine has no answer now.
std::string http_unavailable();

}  // namespace toe::engine

#endif  // TOE_ENGINE_HTTP_H_
