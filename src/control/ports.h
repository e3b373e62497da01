// Local ports: the pools of held ephemeral ports, and the count of what uses a steered port.
#ifndef TOE_CONTROL_PORTS_H_
#define TOE_CONTROL_PORTS_H_

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/addr.h"
#include "control/index_list.h"
#include "control/world.h"

namespace toe::control {

/// Ephemeral ports that the engine holds on one local address. A port serves several connections
/// as long as their remote ends differ.
class PortPool {
 public:
  static constexpr std::uint32_t kLow = 16;    ///< fewer unused ports than this: ask for more
  static constexpr std::uint32_t kBatch = 32;  ///< unused and asked ports after asking
  static constexpr std::uint32_t kHigh = 512;  ///< more unused ports than this: give back
  static constexpr std::uint32_t kMaxPorts = 65535;
  static constexpr std::uint32_t kTries = 64;  ///< ports looked at in one go

  PortPool(World& world, const IpAddr& local) : world_(&world), local_(local) {}

  /// Takes a port for which `usable(port)`; 0 = none at hand. Looks at kTries ports from `start`
  /// on, and then at one that nothing uses.
  template <typename Usable>
  std::uint16_t take(std::uint32_t start, Usable usable) {
    const std::uint32_t n = size();
    for (std::uint32_t i = 0; i < n && i < kTries; ++i) {
      const std::uint32_t at = (start + i) % n;
      if (usable(ports_[at].port)) return use(at);
    }
    if (unused_ == 0 || !usable(ports_[start % unused_].port)) return 0;
    return use(start % unused_);
  }
  /// One connection (or its TIME-WAIT record) less on `port`.
  void give_back(std::uint16_t port);
  /// One more use of a port that is held and in use (a connection becomes a TIME-WAIT record).
  void add_use(std::uint16_t port);
  bool holds(std::uint16_t port) const { return find(port) != kNil; }
  /// Asks for more ports when few are left; for one at a time after the kernel had none.
  void refill();
  /// An answer to want_port; port 0 = none to be had.
  void on_answer(std::uint16_t port);
  /// Gives back every port that nothing uses.
  void shed();

  const IpAddr& local() const { return local_; }
  std::uint32_t asked() const { return asked_; }
  /// Nothing uses it or waits for it.
  bool idle() const { return in_use() == 0 && asked_ == 0 && waiters.count == 0; }
  std::uint32_t in_use() const { return size() - unused_; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(ports_.size()); }

  List waiters;  ///< attempts that wait for a port

 private:
  void release(std::uint32_t at);
  struct Held {
    std::uint16_t port = 0;
    std::uint32_t uses = 0;
  };
  std::uint32_t find(std::uint16_t port) const;
  std::uint16_t use(std::uint32_t at);
  void swap(std::uint32_t a, std::uint32_t b);

  World* world_;
  IpAddr local_;
  std::vector<Held> ports_;  ///< those that nothing uses first
  std::unordered_map<std::uint16_t, std::uint32_t> where_;
  std::uint32_t unused_ = 0;
  std::uint32_t asked_ = 0;
  bool dry_ = false;  ///< the kernel had none when it was asked last
};

/// Counts listeners, connections and TIME-WAIT records per (local address, port) of listening
/// ports, and tells the World when nothing uses one any more.
class PortUses {
 public:
  explicit PortUses(World& world) : world_(world) {}

  /// `local` may be a wildcard; `v6only` counts only for "::".
  void open_listener(const IpAddr& local, std::uint16_t port, bool v6only = false);
  void close_listener(const IpAddr& local, std::uint16_t port, bool v6only = false);
  void add(const IpAddr& local, std::uint16_t port);
  void remove(const IpAddr& local, std::uint16_t port);
  bool empty() const { return ports_.empty(); }

 private:
  struct Use {
    IpAddr local;
    bool v6only = false;
    bool listened = false;  ///< a listener was bound to exactly this
    std::uint32_t listeners = 0;
    std::uint32_t connections = 0;

    bool covers(const Use& exact) const;
  };
  Use& use_of(const IpAddr& local, std::uint16_t port, bool v6only);
  void settle(std::uint16_t port);

  World& world_;
  std::unordered_map<std::uint16_t, std::vector<Use>> ports_;
};

}  // namespace toe::control

#endif  // TOE_CONTROL_PORTS_H_
