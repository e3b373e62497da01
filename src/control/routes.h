// Destination cache: one entry for each destination in use, as routes tell them apart (RouteKey);
// filled by World::want_route.
#ifndef TOE_CONTROL_ROUTES_H_
#define TOE_CONTROL_ROUTES_H_

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "control/index_list.h"
#include "control/world.h"
#include "flow/table.h"

namespace toe::control {

struct RouteEntry {
  RouteKey key;
  Route route;  ///< if not direct any more: with the addresses and MTU of the last that was
  bool known = false;
  bool used = false;        ///< the record is taken
  std::uint32_t users = 0;  ///< attempts and connections
  List waiters;             ///< attempts that wait for the answer
  std::uint32_t turn = 0;   ///< of the last job that was to tell its flows of a change
  Link idle;
  std::uint16_t path_mtu = 0;  ///< found smaller on the way than at the first hop; 0 = not
  Time path_until;             ///< when the route's own MTU is tried again
  Link lowered;

  /// IP bytes of the largest packet to this destination.
  std::uint16_t mtu() const { return path_mtu == 0 ? route.mtu : std::min(path_mtu, route.mtu); }
};

class RouteCache {
 public:
  static constexpr std::uint32_t kMaxRoutes = 16384;
  static constexpr std::uint32_t kMaxIdle = 1024;     ///< destinations kept without a user
  static constexpr Nanos kPathMtuAge = seconds(600);  ///< as Linux mtu_expires (RFC 1191: 10 min)

  RouteCache(World& world, flow::HashKey secret);

  /// The entry of `key`, with one user more; asked for if it is new. kNil: the cache is full but
  /// for `spared` entries.
  std::uint32_t acquire(const RouteKey& key, std::uint32_t spared = 0);
  /// The entry of `key` if there is one, kNil otherwise. Asks nobody.
  std::uint32_t find(const RouteKey& key) const;
  /// One user more of an entry that has one. Returns it.
  std::uint32_t share(std::uint32_t i);
  /// One user less. Entries without users stay for a while; refusals are forgotten at once.
  void release(std::uint32_t i);
  /// Forgets up to `most` entries without users, the oldest first.
  void forget_idle(std::uint32_t most);
  /// Takes an answer in. Returns its entry, or kNil if nobody asked. `changed`: it was known and
  /// something is different now that frames carry, or whether they may leave.
  std::uint32_t update(const RouteKey& key, const Route& route, bool& changed);

  /// Remembers a smaller MTU on the path for kPathMtuAge.
  void lower_mtu(std::uint32_t i, std::uint16_t mtu, Time now);
  /// The next entry whose smaller MTU has run out and is forgotten now; kNil: none.
  std::uint32_t expire_mtu(Time now);
  Time next_expiry() const;

  RouteEntry& at(std::uint32_t i) { return entries_[i]; }
  const RouteEntry& at(std::uint32_t i) const { return entries_[i]; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(by_key_.size()); }

 private:
  struct Hash {
    flow::HashKey secret;
    std::size_t operator()(const RouteKey& key) const {
      const flow::HashKey of_user{secret.k0 ^ key.uid, secret.k1};
      return static_cast<std::size_t>(flow::hash_of(key.path, of_user));
    }
  };
  void forget(std::uint32_t i);
  void forget_mtu(std::uint32_t i);

  World& world_;
  std::unordered_map<RouteKey, std::uint32_t, Hash> by_key_;
  std::vector<RouteEntry> entries_;
  std::vector<std::uint32_t> free_;
  List idle_;
  List lowered_;  ///< entries with a path MTU, the oldest first
};

}  // namespace toe::control

#endif  // TOE_CONTROL_ROUTES_H_
