// Result of a set-up call: a value, or an errno with a sentence for a person.
#ifndef TOE_BASE_RESULT_H_
#define TOE_BASE_RESULT_H_

#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"

namespace toe {

/// Why a set-up call failed. `text` is one sentence without a trailing full stop.
struct Error {
  int code = 0;  ///< errno of the failed call, or EINVAL where no system call was involved
  std::string text;
};

/// Either a T or an Error. REQUIRES: ok() before value(), !ok() before error().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  T& value() {
    TOE_CHECK(ok());
    return *value_;
  }
  const Error& error() const {
    TOE_CHECK(!ok());
    return error_;
  }

 private:
  std::optional<T> value_;
  Error error_;
};

/// Result of a call that yields nothing.
struct Done {};
using Status = Result<Done>;

}  // namespace toe

#endif  // TOE_BASE_RESULT_H_
