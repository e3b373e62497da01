// Latencies of one run: a histogram with 64 steps per power of two (error below 1.6 %).
#ifndef TOE_CLIENTS_LATENCY_H_
#define TOE_CLIENTS_LATENCY_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <nlohmann/json.hpp>

namespace toe::clients {

class Latency {
 public:
  void record(std::uint64_t ns) {
    ++buckets_[index_of(ns)];
    ++count_;
    sum_ += ns;
    if (ns > max_) max_ = ns;
    if (ns > kSlow) ++slow_;
  }
  void clear() { *this = Latency(); }
  std::uint64_t count() const { return count_; }

  /// The latency that the fraction `quantile` of all records does not exceed, in ns.
  std::uint64_t quantile(double quantile) const {
    const auto wanted = static_cast<std::uint64_t>(quantile * static_cast<double>(count_));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen > wanted) return upper_end(i) < max_ ? upper_end(i) : max_;
    }
    return max_;
  }

  /// Microseconds by name.
  nlohmann::json to_json() const {
    const auto us = [this](double q) { return static_cast<double>(quantile(q)) / 1e3; };
    const double mean = count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_);
    return {{"count", count_},    {"median", us(0.5)},
            {"p90", us(0.9)},     {"p99", us(0.99)},
            {"p99_9", us(0.999)}, {"p99_99", us(0.9999)},
            {"mean", mean / 1e3}, {"max", static_cast<double>(max_) / 1e3},
            {"above_1ms", slow_}};
  }

 private:
  static constexpr std::uint64_t kSlow = 1'000'000;
  static constexpr unsigned kSteps = 64;  ///< per power of two

  static std::size_t index_of(std::uint64_t ns) {
    if (ns < 2 * kSteps) return ns;
    const unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 7;
    return std::size_t{kSteps} * (shift + 1) + ((ns >> shift) - kSteps);
  }
  static std::uint64_t upper_end(std::size_t index) {
    if (index < 2 * kSteps) return index;
    const std::size_t shift = index / kSteps - 1;
    return ((index % kSteps + kSteps + 1) << shift) - 1;
  }

  std::array<std::uint64_t, kSteps * 60> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t max_ = 0;
  std::uint64_t slow_ = 0;
};

}  // namespace toe::clients

#endif  // TOE_CLIENTS_LATENCY_H_
