// Words used everywhere: instants, durations and identifiers as types of their own.
//
// Thread: plain values, no state.
#ifndef TOE_BASE_TYPES_H_
#define TOE_BASE_TYPES_H_

#include <compare>
#include <cstdint>

namespace toe {

/// A length of time in nanoseconds; may be negative (the result of a subtraction).
struct Nanos {
  std::int64_t ns = 0;

  constexpr auto operator<=>(const Nanos&) const = default;
  constexpr Nanos operator+(Nanos other) const { return {ns + other.ns}; }
  constexpr Nanos operator-(Nanos other) const { return {ns - other.ns}; }
  constexpr Nanos operator*(std::int64_t factor) const { return {ns * factor}; }
  constexpr Nanos operator/(std::int64_t divisor) const { return {ns / divisor}; }
};

constexpr Nanos micros(std::int64_t n) { return {n * 1000}; }
constexpr Nanos millis(std::int64_t n) { return {n * 1'000'000}; }
constexpr Nanos seconds(std::int64_t n) { return {n * 1'000'000'000}; }

/// An instant of the monotonic clock in nanoseconds. The core never reads a clock: every instant
/// comes in as an argument, so that a simulated clock serves as well.
struct Time {
  std::int64_t ns = 0;

  constexpr auto operator<=>(const Time&) const = default;
  constexpr Time operator+(Nanos d) const { return {ns + d.ns}; }
  constexpr Time operator-(Nanos d) const { return {ns - d.ns}; }
  constexpr Nanos operator-(Time other) const { return {ns - other.ns}; }

  /// Later than every instant that occurs: "no deadline".
  static constexpr Time never() { return {INT64_MAX}; }
};

/// Index of a connection's record in the engine. Reused after the connection has gone.
enum class FlowId : std::uint32_t {};
inline constexpr FlowId kNoFlow{0xffffffffu};

/// Index of a shared memory segment in the engine.
enum class SegmentId : std::uint32_t {};
inline constexpr SegmentId kNoSegment{0xffffffffu};

/// One attached process, counted up for ever (never reused within one engine).
enum class ClientId : std::uint32_t {};
inline constexpr ClientId kNoClient{0xffffffffu};

template <typename Id>
constexpr std::uint32_t index_of(Id id) {
  return static_cast<std::uint32_t>(id);
}

inline constexpr std::uint32_t kCacheLine = 64;

}  // namespace toe

#endif  // TOE_BASE_TYPES_H_
