// So much per window of time, and no more.
#ifndef TOE_ENGINE_QUOTA_H_
#define TOE_ENGINE_QUOTA_H_

#include <cstdint>

#include "base/types.h"

namespace toe::engine {

/// A window begins with the first that is taken after the end of the last. Thread: one.
class Quota {
 public:
  constexpr Quota(std::uint32_t most, Nanos window) : most_(most), window_(window) {}

  /// False: beyond what this window allows.
  bool take(Time now, std::uint32_t count = 1) {
    if (now >= ends()) {
      begin_ = now;
      taken_ = 0;
    }
    taken_ += count;
    return taken_ <= most_;
  }
  bool used_up() const { return taken_ >= most_; }
  Time ends() const { return begin_ + window_; }

 private:
  std::uint64_t most_, taken_ = 0;
  Nanos window_;
  Time begin_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_QUOTA_H_
