// Order in which the items of a burst pass stages that need no order. In production that is the
// order of arrival; a test build shuffles it, so that only tickets can restore order.
#ifndef TOE_DATAPATH_ORDER_H_
#define TOE_DATAPATH_ORDER_H_

#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "base/limits.h"

namespace toe::datapath {

class Order {
 public:
  /// seed 0: as they come.
  explicit Order(std::uint32_t seed) : state_(seed) {}

  /// A permutation of 0 .. n-1, valid until the next call. REQUIRES: n <= kBurst.
  std::span<const std::uint16_t> of(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) order_[i] = static_cast<std::uint16_t>(i);
    if (state_ != 0) {
      for (std::size_t i = n; i > 1; --i) std::swap(order_[i - 1], order_[next() % i]);
    }
    return {order_.data(), n};
  }

 private:
  std::uint32_t next() {  // xorshift: any full-period generator will do
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  std::uint32_t state_;
  std::array<std::uint16_t, kBurst> order_{};
};

}  // namespace toe::datapath

#endif  // TOE_DATAPATH_ORDER_H_
