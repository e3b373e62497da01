// What each user's programs take of what all share, and how often they may ask.
//
// The engine serves programs of users that do not trust each other. Nobody may have more than a
// share of what is finite (see UserLimits), and a user whose programs ask faster than
// kRequestsPerSecond waits, whatever others do. Root is not limited: it could stop the engine
// anyway.
#ifndef TOE_ENGINE_USERS_H_
#define TOE_ENGINE_USERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>

#include "base/limits.h"
#include "base/types.h"
#include "engine/doorbells.h"

namespace toe::engine {

/// What is counted per user.
enum class Share : std::uint8_t { kPrograms, kSegments, kBells, kCount };

struct UserLimits {
  /// By Share. By default nobody gets more than half of what there is.
  std::array<std::uint32_t, static_cast<std::size_t>(Share::kCount)> most = {1024, kMaxSegments / 2,
                                                                             kMaxBells / 2};
  std::uint32_t requests_per_second = 20'000;
};

/// Thread: admin.
class Users {
 public:
  static constexpr std::uint32_t kRoot = 0;
  /// A user that has not asked for this long may ask as much as fits into it at once.
  static constexpr Nanos kBurst = millis(100);
  /// Users remembered at most without having anything.
  static constexpr std::size_t kMaxIdle = 1024;

  struct User {
    std::array<std::uint32_t, static_cast<std::size_t>(Share::kCount)> has{};
    std::uint64_t refused = 0;  ///< times that a share was used up
    std::uint64_t delayed = 0;  ///< times that a program had to wait with its questions
    Nanos credit = kBurst;      ///< time that its questions may still take; negative: it waits
    Time as_of;
  };

  explicit Users(const UserLimits& limits) : limits_(limits) {}

  /// False: the user has as many as it may.
  bool take(std::uint32_t uid, Share share);
  void give_back(std::uint32_t uid, Share share);

  /// Whether the user may ask now. False is counted.
  bool may_ask(std::uint32_t uid, Time now);
  /// It has asked something that costs as much as `cost` small questions.
  void charge(std::uint32_t uid, std::uint32_t cost);

  const std::map<std::uint32_t, User>& all() const { return users_; }
  /// Of all users since the start.
  std::uint64_t refused() const { return refused_; }
  std::uint64_t delayed() const { return delayed_; }

 private:
  User& user(std::uint32_t uid);
  void forget_idle();

  UserLimits limits_;
  Time now_;
  std::uint64_t refused_ = 0;
  std::uint64_t delayed_ = 0;
  std::map<std::uint32_t, User> users_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_USERS_H_
