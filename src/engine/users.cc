#include "engine/users.h"

#include <algorithm>

#include "base/check.h"

namespace toe::engine {
namespace {

constexpr std::size_t index_of_share(Share share) { return static_cast<std::size_t>(share); }

bool has_nothing(const Users::User& user) {
  return std::all_of(user.has.begin(), user.has.end(), [](std::uint32_t n) { return n == 0; });
}

}  // namespace

// One that comes back later may not ask more for that: those whose credit is used up stay.
void Users::forget_idle() {
  std::erase_if(users_, [this](const auto& entry) {
    const User& u = entry.second;
    return has_nothing(u) && u.credit + (now_ - u.as_of) >= kBurst;
  });
}

Users::User& Users::user(std::uint32_t uid) {
  const auto found = users_.find(uid);
  if (found != users_.end()) return found->second;
  if (users_.size() >= kMaxIdle) forget_idle();
  return users_[uid];
}

bool Users::take(std::uint32_t uid, Share share) {
  User& u = user(uid);
  const std::size_t i = index_of_share(share);
  if (uid != kRoot && u.has[i] >= limits_.most[i]) {
    ++u.refused;
    ++refused_;
    return false;
  }
  ++u.has[i];
  return true;
}

void Users::give_back(std::uint32_t uid, Share share) {
  std::uint32_t& has = user(uid).has[index_of_share(share)];
  TOE_CHECK(has > 0);
  --has;
}

bool Users::may_ask(std::uint32_t uid, Time now) {
  now_ = now;
  if (uid == kRoot) return true;
  User& u = user(uid);
  u.credit = std::min(u.credit + (now - u.as_of), kBurst);
  u.as_of = now;
  if (u.credit > Nanos{0}) return true;
  ++u.delayed;
  ++delayed_;
  return false;
}

void Users::charge(std::uint32_t uid, std::uint32_t cost) {
  if (uid == kRoot) return;
  user(uid).credit = user(uid).credit -
                     seconds(1) * std::int64_t{cost} / std::int64_t{limits_.requests_per_second};
}

}  // namespace toe::engine
